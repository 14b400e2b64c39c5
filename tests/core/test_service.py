"""One request from parsing to encoding, with a fake model and a fake protocol."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.core.answer import Answer
from app.core.service import PredictService
from app.errors import FieldError, InvalidInstances, InvalidJson, ModelFailed, ModelNotFound, NotAcceptable
from app.runtime.entry import Lease
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch, Decode, PredictRequest
from app.signature.validator import Validator
from app.telemetry import Timings
from tests.storage.versions import MANIFEST

SIGNATURE = Signature(
    (Input("x", "number", "float64"),),
    ("prediction", "probabilities", "decision_scores"),
    ("prediction", "probabilities"),
    Layout.MATRIX,
    classes=("no", "yes"),
)


class FakeModel:
    """A servable that answers "yes" with 75 %, and records its batches."""

    def __init__(self, outputs: Mapping[str, Any] | None = None, error: BaseException | None = None) -> None:
        self.outputs, self.error = outputs, error
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def run(self, batch: Batch, outputs: Sequence[str]) -> Mapping[str, Any]:
        self.asked.append((batch.rows, tuple(outputs)))
        if self.error is not None:
            raise self.error
        every = self.outputs or {
            "prediction": np.array(["yes"] * batch.rows),
            "probabilities": np.array([[0.25, 0.75]] * batch.rows),
            "decision_scores": np.array([np.nan] * batch.rows),
        }
        return {name: every[name] for name in outputs}


class FakeRegistry:
    """A registry of one model."""

    def __init__(self, servable: FakeModel, signature: Signature = SIGNATURE) -> None:
        self.servable, self.signature = servable, signature
        self.wanted: tuple[str | None, str | None] | None = None
        self.held = 0

    def lease(self, model: str | None, version: str | None = None) -> Lease:
        self.wanted = (model, version)
        if model == "trees":
            raise ModelNotFound("trees", ["flowers"])
        manifest = replace(MANIFEST, signature=self.signature)
        return CountedLease(self, manifest, self.servable, Validator(self.signature, 100))


class CountedLease(Lease):
    """A lease that the registry counts while it is held."""

    def __init__(self, registry: FakeRegistry, *facts: Any) -> None:
        super().__init__(*facts)
        self.registry = registry

    def __enter__(self) -> Lease:
        self.registry.held += 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.registry.held -= 1


class FakeCall:
    """A call that is its own adapter: the request is a `PredictRequest`, and the answer is JSON."""

    body_bytes = 0

    def __init__(self, asked: PredictRequest | Exception) -> None:
        self.asked = asked
        self.answer: Answer | None = None
        self.adapter = self
        self.timings = Timings()
        self.model, self.version, self.rows, self.content = "", 0, 0, b""
        self.error: Exception | None = None

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        if isinstance(self.asked, Exception):
            raise self.asked
        return self.asked

    def encode(self, answer: Answer) -> bytes:
        self.answer = answer
        return json.dumps(answer.values(), allow_nan=False).encode()

    def located(self, error: InvalidInstances) -> InvalidInstances:
        return error


def predict(servable: FakeModel, asked: PredictRequest | Exception, signature: Signature = SIGNATURE) -> Answer:
    registry, call = FakeRegistry(servable, signature), FakeCall(asked)
    try:
        PredictService(registry).predict("flowers", "1", [call])  # type: ignore[arg-type]
    finally:
        assert registry.held == 0
    if call.error is not None:
        raise call.error
    assert call.answer is not None
    assert json.loads(call.content) == call.answer.values()
    assert (call.model, call.version) == ("flowers", 1)
    return call.answer


def refusal(asked: PredictRequest) -> tuple[FieldError, ...]:
    servable = FakeModel()
    with pytest.raises(InvalidInstances) as caught:
        predict(servable, asked)
    assert servable.asked == []
    return caught.value.errors


def test_instances_become_predictions() -> None:
    servable = FakeModel()
    answer = predict(servable, PredictRequest([{"x": 1}, [2.5]]))
    assert answer.values() == {"prediction": ["yes", "yes"], "probabilities": [[0.25, 0.75], [0.25, 0.75]]}
    assert (answer.classes, answer.model, answer.version) == (("no", "yes"), "flowers", 1)
    assert servable.asked == [(2, ("prediction", "probabilities"))]


def test_the_requested_model_and_version_are_leased() -> None:
    registry = FakeRegistry(FakeModel())
    PredictService(registry).predict(None, "champion", [FakeCall(PredictRequest([]))])  # type: ignore[arg-type]
    assert registry.wanted == (None, "champion")


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (None, ["prediction", "probabilities"]),
        ([], ["prediction", "probabilities"]),
        (["decision_scores"], ["decision_scores"]),
        (["probabilities", "prediction", "probabilities"], ["probabilities", "prediction"]),
    ],
)
def test_only_requested_outputs_are_run(wanted: list[str] | None, given: list[str]) -> None:
    servable = FakeModel()
    answer = predict(servable, PredictRequest([[1]], outputs=wanted))
    assert list(answer.outputs) == given
    assert servable.asked == [(1, tuple(given))]


def test_every_unknown_output_is_reported() -> None:
    allowed = "must be one of: prediction, probabilities, decision_scores"
    assert refusal(PredictRequest([[1]], outputs=["prediction", "shap", 7, None, ["prediction"], {}])) == (
        FieldError("#/outputs/1", allowed, "shap"),
        FieldError("#/outputs/2", allowed, "7"),
        FieldError("#/outputs/3", allowed, "None"),
        FieldError("#/outputs/4", allowed, "['prediction']"),
        FieldError("#/outputs/5", allowed, "{}"),
    )


def test_at_most_a_hundred_unknown_outputs_are_reported_and_each_is_shortened() -> None:
    with pytest.raises(InvalidInstances) as caught:
        predict(FakeModel(), PredictRequest([[1]], outputs=["x" * 1000] * 500, outputs_pointer="#/params"))
    assert (len(caught.value.errors), caught.value.total) == (100, 500)
    assert caught.value.errors[99] == FieldError(
        "#/params/99", "must be one of: prediction, probabilities, decision_scores", "x" * 100
    )


def test_a_bad_instance_never_reaches_the_model() -> None:
    [error] = refusal(PredictRequest([[1], ["a"]], "#/instances"))
    assert error.pointer == "#/instances/1/0"
    [error] = refusal(PredictRequest([{"x": "a"}], single=True))
    assert error.pointer == "#/x"


@pytest.mark.fault("I10")
def test_an_empty_request_is_answered_without_the_model() -> None:
    servable = FakeModel(error=AssertionError("an empty batch was shown to the model"))
    assert predict(servable, PredictRequest([])).values() == {"prediction": [], "probabilities": []}
    assert servable.asked == []


@pytest.mark.fault("I16")
def test_nan_becomes_null() -> None:
    assert predict(FakeModel(), PredictRequest([[1]], outputs=["decision_scores"])).values() == {
        "decision_scores": [None]
    }


@pytest.mark.parametrize(
    "error", [ValueError("/secret/path"), MemoryError(), RecursionError(), SystemExit(3)], ids=repr
)
def test_exceptions_of_the_model_are_logged_and_not_shown_to_clients(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ModelFailed) as caught:
        predict(FakeModel(error=error), PredictRequest([[1]]))
    assert caught.value.detail == "model 'flowers' version 1 could not answer this request"
    assert caught.value.cause == str(error)
    [line] = caplog.records
    assert (line.levelno, line.getMessage()) == (logging.ERROR, "model flowers version 1 raised")
    assert line.exc_info is not None
    assert line.exc_info[1] is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_exceptions_that_end_the_thread_are_not_caught(error: BaseException) -> None:
    with pytest.raises(type(error)):
        predict(FakeModel(error=error), PredictRequest([[1]]))


@pytest.mark.parametrize(
    ("prediction", "cause"),
    [
        (np.array("yes"), "prediction has shape () for a batch of 2 rows"),
        (np.array(["yes"]), "prediction has shape (1,) for a batch of 2 rows"),
        (np.array([["yes"] * 2] * 3), "prediction has shape (3, 2) for a batch of 2 rows"),
    ],
)
@pytest.mark.fault("M14")
def test_outputs_that_do_not_fit_the_batch_are_a_failure_of_the_model(
    prediction: Any, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ModelFailed) as caught:
        predict(FakeModel({"prediction": prediction}), PredictRequest([[1], [2]], outputs=["prediction"]))
    assert caught.value.cause == cause
    assert cause in caplog.text


def test_a_model_without_classes_has_none() -> None:
    answer = predict(FakeModel(), PredictRequest([[1]]), replace(SIGNATURE, classes=None))
    assert answer.classes is None


def test_errors_of_the_protocol_are_passed_on() -> None:
    with pytest.raises(InvalidJson):
        predict(FakeModel(), InvalidJson("it is empty"))


def test_a_missing_model_is_reported_before_the_body_is_read() -> None:
    service = PredictService(FakeRegistry(FakeModel()))  # type: ignore[arg-type]
    calls = [FakeCall(AssertionError("the body was read")) for _ in range(2)]
    service.predict("trees", None, calls)
    assert [type(call.error) for call in calls] == [ModelNotFound, ModelNotFound]


def test_the_phases_are_timed() -> None:
    call = FakeCall(PredictRequest([[1]]))
    PredictService(FakeRegistry(FakeModel())).predict("flowers", None, [call])  # type: ignore[arg-type]
    spent = dict(part.split(";dur=") for part in call.timings.header().split(", "))
    assert all(float(spent[phase]) > 0 for phase in ("validate", "run", "encode"))


class UnwritableCall(FakeCall):
    """A call whose answer cannot be encoded."""

    def encode(self, answer: Answer) -> bytes:
        raise NotAcceptable("nothing", ["something"])


def test_errors_of_one_request_of_a_group_do_not_affect_the_others() -> None:
    servable = FakeModel()
    bad, picky = FakeCall(PredictRequest([["x"]])), UnwritableCall(PredictRequest([[1], [2]]))
    good = [FakeCall(PredictRequest([[1]])), FakeCall(PredictRequest([[3]]))]
    PredictService(FakeRegistry(servable)).predict("flowers", None, [good[0], bad, picky, good[1]])  # type: ignore[arg-type]
    assert [type(call.error) for call in (bad, picky)] == [InvalidInstances, NotAcceptable]
    assert [(call.error, call.rows) for call in good] == [(None, 1), (None, 1)]
    assert all(call.content for call in good)
    assert [rows for rows, _ in servable.asked] == [1, 2, 1]


class RelocatedCall(FakeCall):
    """A call whose protocol puts instances elsewhere."""

    def located(self, error: InvalidInstances) -> InvalidInstances:
        return InvalidInstances([replace(each, pointer=f"#/elsewhere{each.pointer[1:]}") for each in error.errors], 1)


def test_the_adapter_locates_bad_values() -> None:
    call = RelocatedCall(PredictRequest([["x"]]))
    PredictService(FakeRegistry(FakeModel())).predict("flowers", None, [call])  # type: ignore[arg-type]
    assert isinstance(call.error, InvalidInstances)
    assert call.error.errors[0].pointer == "#/elsewhere/0/0"
