"""The blocks of a stream: refused instances, answers and released leases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.core.run import PredictionStream
from app.errors import DeadlineExceeded, InvalidInstances, ModelFailed
from app.signature.batch import Batch
from app.signature.validator import Validator
from tests.core.test_service import FakeModel, FakeRegistry


class FailsOnThirteen(FakeModel):
    """A servable that fails where a value is 13."""

    def run(self, batch: Batch, outputs: Any) -> Any:
        self.error = ValueError("13") if 13 in batch.columns["x"] else None
        return super().run(batch, outputs)


def streams_of(servable: FakeModel) -> Iterator[PredictionStream]:
    registry = FakeRegistry(servable)
    stream = PredictionStream(registry.lease("flowers"))
    assert registry.held == 1
    yield stream
    stream.close()
    assert registry.held == 0


def kinds(refused: Any) -> dict[int, type]:
    return {at: type(error) for at, error in refused.items()}


def test_bad_instances_are_refused_and_the_others_run_as_one_batch() -> None:
    servable = FakeModel()
    for stream in streams_of(servable):
        partial = stream.predict([[1], ["x"], {"x": 2}, True])
        assert kinds(partial.refused) == {1: InvalidInstances, 3: InvalidInstances}
        assert partial.answer.values()["prediction"] == ["yes", "yes"]
        assert [rows for rows, _ in servable.asked] == [2]
        assert stream.predict([]).answer.values()["prediction"] == []
    assert (stream.model, stream.version, stream.rows) == ("flowers", 1, 2)


def test_a_bad_instance_costs_no_validation_of_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()
    validate = Validator.validate

    def counted(validator: Validator, instances: Any, *place: Any, **options: Any) -> Batch:
        asked.append(len(instances))
        return validate(validator, instances, *place, **options)

    for stream in streams_of(FakeModel()):
        monkeypatch.setattr(Validator, "validate", counted)
        partial = stream.predict([[1], ["x"], *[[2]] * 90, ["y"]])
        assert kinds(partial.refused) == {1: InvalidInstances, 92: InvalidInstances}
        assert asked == [1, 1]


@pytest.mark.fault("M10")
def test_each_instance_runs_alone_if_the_model_fails() -> None:
    servable = FailsOnThirteen()
    for stream in streams_of(servable):
        partial = stream.predict([[1], [13], [2]])
        assert kinds(partial.refused) == {1: ModelFailed}
        assert partial.answer.values()["prediction"] == ["yes", "yes"]
        assert [rows for rows, _ in servable.asked] == [3, 1, 1, 1]
    assert (stream.model, stream.version, stream.rows) == ("flowers", 1, 2)


def test_an_exceeded_deadline_refuses_all_instances_without_another_run() -> None:
    servable = FakeModel(error=DeadlineExceeded(1.0))
    for stream in streams_of(servable):
        partial = stream.predict([[1], ["x"], [2]])
        assert kinds(partial.refused) == {0: DeadlineExceeded, 1: InvalidInstances, 2: DeadlineExceeded}
        assert len(servable.asked) == 1
    assert stream.rows == 0
