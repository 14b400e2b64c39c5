"""Tests of requests whose steps are all async: one coroutine from the first interceptor to the last."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from app.core.steps import step
from app.gateway import Interceptor, RequestContext, RequestRefused, Response
from app.settings import Settings
from app.telemetry import request_id
from app.wire.application import Application
from tests.storage.versions import edit
from tests.wire import steps_module
from tests.wire.conftest import MODELS
from tests.wire.exchange import get, post

ONE = '{"customer_id": 2, "feature2": 3.0}'
SEEN: ContextVar[str] = ContextVar("SEEN", default="nothing")
TOLD: list[Any] = []


@step("notes", needs={"customer_id": int}, provides=("feature1",))
async def notes(instances: list[Any]) -> None:
    TOLD.append((threading.current_thread().name, SEEN.get(), request_id()))
    for one in instances:
        one["feature1"] = 6.7


@step("hangs")
async def hangs(instances: list[Any]) -> None:
    TOLD.append("hangs")
    await asyncio.Event().wait()


@step("cancelled")
async def cancelled(instances: list[Any]) -> None:
    raise asyncio.CancelledError


class Watching(Interceptor):
    """Record its threads and the status; refuse clients without access."""

    def __init__(self, may_block: bool) -> None:
        self.may_block = may_block
        self.threads: list[str] = []
        self.statuses: list[int] = []
        self.saw = ""

    def before(self, context: RequestContext) -> Response | None:
        self.threads.append(threading.current_thread().name)
        if "HTTP_REFUSED" in context.environ:
            raise RequestRefused(403, "refused", "You are not let in.")
        SEEN.set("the interceptor")
        return None

    def after(self, context: RequestContext, response: Response) -> None:
        self.threads.append(threading.current_thread().name)
        self.statuses.append(response.status)
        self.saw = SEEN.get()
        response.headers.append(("X-Watched", "yes"))


class WorkerSide:
    """A service of copies of iris-two, called as the worker calls it."""

    def __init__(self, folder: Path, interceptors: Sequence[Interceptor] = (), **models: tuple[list[str], list[str]]):
        for name, (before, after) in models.items():
            shutil.copytree(MODELS / "iris-two", folder / name)
            edit(folder / name / "1", model=name, before=before, after=after)
        settings = Settings(models_dir=folder, steps="tests.wire.steps_module", database_url="sqlite://")
        self.app: Application = create_app(settings, interceptors)
        get(self.app, "/readyz")
        self.loop = self.app.extensions["retort_services"].loop
        self.model = next(iter(models))

    def admitted(self, path: str = "", body: str = ONE, **headers: str) -> RequestContext:
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path or f"/models/{self.model}/predict",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.input": io.BytesIO(body.encode()),
        }
        context = self.app.gateway.admit(environ | headers)
        assert context.is_awaited
        return context

    def __call__(self, body: str = ONE, **headers: str) -> tuple[Response, Any]:
        response = self.loop.run(self.app.gateway.respond_async(self.admitted(body=body, **headers)))
        assert isinstance(response.body, bytes)
        return response, json.loads(response.body)


MakeWorkerSide = Callable[..., WorkerSide]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorkerSide]:
    made: list[WorkerSide] = []
    TOLD.clear()
    steps_module.SEEN.clear()
    for function in (notes, hangs, cancelled):
        monkeypatch.setattr(steps_module, function.__name__, function, raising=False)

    def make(*interceptors: Interceptor, **models: tuple[list[str], list[str]]) -> WorkerSide:
        made.append(WorkerSide(tmp_path, interceptors, **models))
        return made[-1]

    yield make
    for each in made:
        each.app.extensions["retort_services"].close()


@pytest.mark.slow
def test_an_awaited_request_is_answered_as_in_a_thread(asked: MakeWorkerSide) -> None:
    one = asked(iris=(["enrich_soon"], []))
    body = '{"instances": [[1, 3.5], {"feature2": 3.0, "customer_id": 2}], "outputs": ["prediction"]}'
    response, document = one(body, HTTP_X_REQUEST_ID="abc")
    assert steps_module.SEEN[-2:] == ["abc", "abc"]
    assert document == post(one.app, "/models/iris/predict", body).document
    fields = dict(response.headers)
    assert fields["X-Request-ID"] == "abc"
    timed = [part.split(";")[0] for part in fields["Server-Timing"].split(", ")]
    assert timed == ["parse", "validate", "queue", "prepare", "run", "finish", "encode"]
    assert one('{"instances": []}')[1]["prediction"] == []


def test_only_versions_whose_steps_are_all_async_are_awaited(asked: MakeWorkerSide) -> None:
    one = asked(iris=(["enrich_soon"], []), mixed=(["enrich_soon"], ["score"]), plain=([], []))

    def is_awaited(path: str, **more: str) -> bool:
        context = one.app.gateway.admit({"REQUEST_METHOD": "POST", "PATH_INFO": path, "CONTENT_LENGTH": "2", **more})
        return bool(context.is_awaited)

    assert is_awaited("/models/iris/predict")
    assert is_awaited("/v1/models/iris/versions/1:predict")
    assert not is_awaited("/v1/models/iris/versions/7:predict")
    assert not is_awaited("/models/mixed/predict")
    assert not is_awaited("/models/plain/predict")
    assert not is_awaited("/models/nothing/predict")
    assert not is_awaited("/models/iris/predict", CONTENT_TYPE="application/x-ndjson")
    one.app.view_functions["predict.predict_with_model"] = lambda model: "replaced"
    assert not is_awaited("/models/iris/predict")


@pytest.mark.parametrize("may_block", [False, True])
def test_interceptors_see_an_awaited_request_and_share_its_context(asked: MakeWorkerSide, may_block: bool) -> None:
    watching = Watching(may_block)
    expected = "retort-waiting" if may_block else "retort-event-loop"
    response, document = asked(watching, iris=(["notes"], []))(HTTP_X_REQUEST_ID="abc")
    assert document["prediction"] == [2]
    assert ("X-Watched", "yes") in response.headers
    assert TOLD == [("retort-event-loop", "the interceptor", "abc")]
    assert watching.saw == "the interceptor"
    assert watching.statuses[-1] == 200
    assert all(name.startswith(expected) for name in watching.threads[-2:])


@pytest.mark.slow
def test_a_request_that_an_interceptor_refuses_runs_no_step(asked: MakeWorkerSide) -> None:
    response, document = asked(Watching(True), iris=(["notes"], []))(HTTP_REFUSED="yes")
    assert (response.status, document["type"], TOLD) == (403, "/problems/refused", [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "body", "status", "problem"),
    [
        (["notes"], '{"customer_id": "2", "feature2": 3.0}', 422, "invalid-instances"),
        (["notes"], "{", 400, "invalid-json"),
        (["notes", "timed_out"], ONE, 504, "step-timed-out"),
        (["notes", "cancelled"], ONE, 500, "step-failed"),
    ],
)
def test_errors_of_awaited_requests_are_answered_as_in_a_thread(
    asked: MakeWorkerSide, before: list[str], body: str, status: int, problem: str
) -> None:
    one = asked(iris=(before, []))
    response, document = one(body)
    assert response.status == status
    assert document["type"] == post(one.app, "/models/iris/predict", body).document["type"]
    assert problem in document["type"]


@pytest.mark.slow
def test_a_step_that_hangs_ends_at_the_deadline_of_its_request(asked: MakeWorkerSide) -> None:
    one = asked(iris=(["notes", "hangs"], []))
    context = one.admitted()
    context.deadline_s = time.monotonic() + 0.5
    response = one.loop.run(one.app.gateway.respond_async(context))
    assert response.status == 504
    assert b"/problems/step-timed-out" in response.body


def test_interceptors_see_the_end_of_a_cancelled_request(asked: MakeWorkerSide) -> None:
    watching = Watching(False)
    one = asked(watching, iris=(["notes", "hangs"], []))
    context, begun = one.admitted(), len(watching.statuses)

    async def cancel() -> None:
        task = asyncio.create_task(one.app.gateway.respond_async(context))
        while "hangs" not in TOLD:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    one.loop.run(cancel())
    assert watching.statuses[begun:] == [499]


@pytest.mark.slow
def test_a_step_may_await_another_model(asked: MakeWorkerSide) -> None:
    one = asked(iris=(["notes"], ["second_opinion"]), plain=([], []))
    assert one()[1]["other"] == [2]


@pytest.mark.slow
def test_a_model_whose_steps_block_is_awaited_in_a_thread_for_waiting(asked: MakeWorkerSide) -> None:
    response, _ = asked(iris=(["enrich_soon"], ["second_opinion"]), plain=(["where"], []))()
    assert response.status == 200
    assert steps_module.SEEN[-1].startswith("retort-waiting")


@pytest.mark.slow
def test_a_large_body_is_read_and_answered_off_the_event_loop(
    asked: MakeWorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = asked(iris=(["notes"], []))
    names: list[str] = []
    servable = type(one.app.extensions["retort"].lease("iris").servable)
    run = servable.run

    def noted_run(self: Any, *arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return run(self, *arguments)

    monkeypatch.setattr(servable, "run", noted_run)
    assert one()[1]["prediction"] == [2]
    rows = json.dumps({"instances": [[2, 3.0]] * 2000, "outputs": ["prediction"]})
    assert one(rows)[1]["prediction"] == [2] * 2000
    assert [name.rpartition("_")[0] or name for name in names] == ["retort-event-loop", "retort-computing"]
