"""Tests of models with steps over HTTP: inputs, outputs, calls of other models, and errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from app.settings import Settings
from app.wire.application import Application
from tests.storage.versions import edit
from tests.wire import steps_module
from tests.wire.conftest import MODELS
from tests.wire.exchange import check, get, post
from tests.wire.test_open_inference import columns_and_tables

Stepped = Callable[..., Flask]


def made_in(folder: Path, models: dict[str, tuple[Sequence[str], Sequence[str]]]) -> Flask:
    """Make a service of copies of iris-two, each by its name with its (before, after)."""
    for name, (before, after) in models.items():
        shutil.copytree(MODELS / "iris-two", folder / name)
        edit(folder / name / "1", model=name, before=before, after=after)
    return create_app(Settings(models_dir=folder, steps="tests.wire.steps_module", database_url="sqlite://"))


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[Stepped]:
    """Return a function that makes such a service; close all of them at the end."""
    made: list[Flask] = []
    steps_module.SEEN.clear()

    def make(**models: tuple[Sequence[str], Sequence[str]]) -> Flask:
        made.append(made_in(tmp_path, models))
        return made[-1]

    yield make
    for app in made:
        app.extensions["retort_services"].close()


@pytest.fixture(scope="module")
def enriched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Return a service of one model that a step enriches."""
    app = made_in(tmp_path_factory.mktemp("enriched"), {"iris": (["enrich"], [])})
    yield app
    app.extensions["retort_services"].close()


@pytest.mark.slow
def test_a_client_sends_what_the_step_needs_and_not_what_it_provides(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich"], []))
    answer = post(app, "/predict", '{"customer_id": 2, "feature2": 3.0}', {"X-Request-ID": "abc"})
    assert answer.document["prediction"] == [2]
    timed = [part.split(";")[0] for part in answer.headers["Server-Timing"].split(", ")]
    assert timed == ["parse", "validate", "queue", "prepare", "run", "finish", "encode"]
    many = post(
        app, "/predict", '{"instances": [[1, 3.5], {"feature2": 3.0, "customer_id": 2}], "outputs": ["prediction"]}'
    )
    assert many.document["prediction"] == [0, 2]
    assert steps_module.SEEN[:2] == ["opened", ("127.0.0.1", "abc", 1)]
    assert steps_module.SEEN.count("opened") == 1
    assert post(app, "/predict", '{"instances": []}').document["prediction"] == []


def test_a_model_with_steps_is_described_as_clients_see_it(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich"], ["score"]))
    described = get(app, "/models/iris").document
    assert [(one["name"], one["kind"]) for one in described["inputs"]] == [
        ("customer_id", "integer"),
        ("feature2", "number"),
    ]
    assert described["steps"] == {"before": ["enrich"], "after": ["score"]}
    assert described["outputs"][-1] == "score"
    assert described["examples"] == []
    document = get(app, "/openapi.json").document
    record = document["components"]["schemas"]["iris.record"]
    assert sorted(record["properties"]) == ["customer_id", "feature2"]
    assert record["properties"]["customer_id"]["example"] == 1


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('{"customer_id": "2", "feature2": 3.0}', ["#/customer_id"]),
        ('{"customer_id": 2, "feature2": 3.0, "feature1": 1.0}', ["#/feature1"]),
        ('{"feature2": 3.0}', ["#/customer_id"]),
        ('{"customer_id": 9, "feature2": 3.0}', ["#/customer_id"]),
        ('{"instances": [[9, 1.0]]}', ["#/instances/0/0"]),
        (
            '{"instances": [[1, 1.0], [9, 1.0], {"customer_id": 8, "feature2": 1}]}',
            ["#/instances/1/0", "#/instances/2/customer_id"],
        ),
    ],
)
def test_errors_point_to_their_values(enriched: Flask, body: str, pointers: list[str]) -> None:
    answer = post(enriched, "/predict", body)
    check(answer)
    assert answer.status == 422
    assert [error["pointer"] for error in answer.document["errors"]] == pointers


@pytest.mark.slow
def test_a_value_that_a_step_refuses_is_pointed_at_in_its_tensor(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich"], []))
    for tensors, place in columns_and_tables(["customer_id", "feature2"], [[1, 3], [9, 3]], "INT64"):
        answer = post(app, "/v2/models/iris/infer", json.dumps({"inputs": tensors}), {})
        assert answer.status == 400, answer.content
        assert f"{place(1, 0)} is no customer" in answer.document["error"]


def test_a_value_that_no_tensor_has_is_pointed_at_as_inputs(stepped: Stepped) -> None:
    app = stepped(iris=(["mistaken"], []))
    for tensors, _ in columns_and_tables(["feature1", "feature2"], [[5.1, 3.5]]):
        answer = post(app, "/v2/models/iris/infer", json.dumps({"inputs": tensors}), {})
        assert answer.status == 400, answer.content
        assert answer.document["error"].count("#/inputs is wrong") == 3


def test_a_refused_value_that_no_instance_has_is_pointed_at_by_its_name(stepped: Stepped) -> None:
    answer = post(stepped(iris=(["mistaken"], [])), "/predict", '{"instances": [[5.1, 3.5]]}')
    check(answer)
    pointers = [error["pointer"] for error in answer.document["errors"]]
    assert pointers == ["#/instances/0/weather", "#/instances/9/feature1", "#/instances/-1/7"]


@pytest.mark.slow
def test_async_steps_run_in_the_context_of_their_request(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich_soon"], []))
    body = '{"instances": [[1, 3.5], [2, 3.0]], "outputs": ["prediction"]}'
    assert post(app, "/predict", body, {"X-Request-ID": "abc"}).document["prediction"] == [0, 2]
    assert steps_module.SEEN == ["abc", "abc"]


def test_a_session_of_the_database(stepped: Stepped) -> None:
    app = stepped(iris=(["look_up"], []))
    assert post(app, "/predict", '{"customer_id": 1, "feature2": 3.5}').document["prediction"] == [0]
    assert get(app, "/readyz").status == 200


def test_steps_after_the_run_add_outputs(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich"], ["score"]))
    answer = post(app, "/predict", '{"customer_id": 2, "feature2": 3.0}').document
    assert answer["score"] == [{"of": 6.7, "sure": max(answer["probabilities"][0])}]
    only = post(app, "/predict", '{"instances": [[2, 3.0]], "outputs": ["score"]}').document
    assert set(only) == {"score", "classes", "model", "version"}


def test_added_outputs_of_one_type_of_number_keep_it(stepped: Stepped) -> None:
    app = stepped(iris=([], ["measure"]))
    table = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [5.1, 3.5, 6.7, 3.0]}
    answer = post(app, "/v2/models/iris/infer", json.dumps({"inputs": [table]}), {}).document
    types = {output["name"]: output["datatype"] for output in answer["outputs"]}
    assert (types["whole"], types["real"], types["sure"]) == ("INT64", "FP64", "BOOL")
    plain = post(app, "/predict", '{"instances": [[5.1, 3.5], [6.7, 3.0]]}').content
    assert b'"mixed":[1,2.5]' in plain.replace(b" ", b"")


def test_a_step_may_call_another_model(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich"], ["second_opinion"]), plain=([], []))
    answer = post(app, "/models/iris/predict", '{"customer_id": 2, "feature2": 3.0}').document
    assert answer["other"] == answer["prediction"] == [2]


def test_a_model_that_calls_itself_is_stopped(stepped: Stepped) -> None:
    answer = post(stepped(itself=([], ["asks_itself"])), "/predict", '{"feature1": 5.1, "feature2": 3.5}')
    check(answer)
    assert (answer.status, answer.document["type"]) == (500, "/problems/step-failed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "status", "problem"),
    [
        (["wrong_value"], [], 500, "step-failed"),
        (["short"], [], 500, "step-failed"),
        (["raises", "enrich"], [], 500, "step-failed"),
        (["enrich", "timed_out"], [], 504, "step-timed-out"),
        (["enrich"], ["drops"], 500, "step-failed"),
    ],
)
def test_a_step_that_fails(stepped: Stepped, before: list[str], after: list[str], status: int, problem: str) -> None:
    app = stepped(iris=(before, after))
    body = {"feature2": 3.5} | ({"customer_id": 1} if "enrich" in before else {})
    answer = post(app, "/predict", json.dumps(body))
    check(answer)
    assert (answer.status, answer.document["type"]) == (status, f"/problems/{problem}")
    assert b"secret" not in answer.content


def test_the_log_names_the_values_of_a_step_that_the_model_does_not_accept(
    stepped: Stepped, caplog: pytest.LogCaptureFixture
) -> None:
    post(stepped(iris=(["wrong_value"], [])), "/predict", '{"feature2": 3.5}')
    said = "step wrong_value of model iris version 1: the model does not accept its result: "
    [message] = [message for message in caplog.messages if message.startswith(said)]
    assert "#/0/feature1 " in message


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("unheard_of", "it lists 'unheard_of', an unknown step; known steps: asks_itself, drops, enrich"),
        ("greedy", "step 'greedy' asks for number: complex, but no factory provides it"),
        ("misplaced", "step 'misplaced' asks for outputs, which do not exist before the run"),
        ("impatient", "asks for httpx.AsyncClient, which only an `async def` step can have"),
        ("stray", "step 'stray' provides weather: none is an input of the model, whose inputs are feature1, feature2"),
    ],
)
def test_a_version_with_unusable_steps_is_failed(stepped: Stepped, before: str, reason: str) -> None:
    app = stepped(iris=([before], []), plain=([], []))
    [unready] = get(app, "/readyz").document["reasons"]
    assert unready["state"] == "FAILED"
    assert reason in unready["reason"]
    assert post(app, "/models/plain/predict", '{"feature1": 5.1, "feature2": 3.5}').status == 200


@pytest.mark.slow
def test_a_check_that_fails_makes_the_service_unready(stepped: Stepped, monkeypatch: pytest.MonkeyPatch) -> None:
    app = stepped(iris=(["enrich"], []))
    assert get(app, "/readyz").status == 200
    monkeypatch.setattr(steps_module.Ledger, "well", False)
    ready = get(app, "/readyz")
    assert ready.status == 503
    assert ready.document["reasons"] == [
        {"service": "tests.wire.steps_module.Ledger", "reason": "its check failed; the log has the cause"}
    ]
    asked = get(app, "/v2/health/ready")
    assert asked.status == 503
    assert "the service tests.wire.steps_module.Ledger" in asked.document["error"]


def test_services_per_process_are_closed_at_its_end(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich"], []))
    post(app, "/predict", '{"customer_id": 2, "feature2": 3.0}')
    app.extensions["retort_services"].close()
    assert steps_module.SEEN[-1] == "closed"


def test_only_models_with_steps_may_block(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich"], []), plain=([], []))
    get(app, "/readyz")

    def asked(path: str, method: str = "POST") -> tuple[bool, bool]:
        context = app.gateway.admit({"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_LENGTH": "2"})
        return context.may_block, context.runs_inline

    assert asked("/models/iris/predict") == (True, False)
    assert asked("/v1/models/iris:predict") == (True, False)
    assert asked("/models/plain/predict") == (False, True)
    assert asked("/models/iris", "GET") == (False, False)


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl; charset=utf-8"])
def test_a_stream_waits_for_its_client(app: Application, media_type: str) -> None:
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/models/iris-two/predict", "CONTENT_TYPE": media_type}
    assert app.gateway.admit(environ).may_block
    assert not app.gateway.admit(environ | {"CONTENT_TYPE": "application/json"}).may_block


def test_a_stream_goes_past_no_step(stepped: Stepped) -> None:
    app = stepped(iris=(["enrich"], []))
    answer = post(app, "/predict", '{"customer_id": 2, "feature2": 3.0}\n', {"Content-Type": "application/x-ndjson"})
    assert answer.status == 415
    assert "has steps" in answer.document["detail"]
