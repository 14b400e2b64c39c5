"""Tests that a model that changes its process breaks neither the pages, nor other models, nor the log."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest

from app.packing import spawn
from tests.end_to_end.process import Server, serving
from tests.end_to_end.rude import ACTIONS, FIRST, PRINTED, Rude

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("rude")
    joblib.dump(Rude().fit(np.zeros((4, 1))), folder / "model.joblib")
    for name in ("rude", "steady"):
        spawn.run(spawn.PackRequest(str(folder / "model.joblib"), name, str(folder / "models")), timeout_s=100)
    with serving(folder, RETORT_MODELS_DIR=folder / "models") as started:
        yield started


@pytest.mark.parametrize(("number", "action"), list(enumerate(ACTIONS)), ids=list(ACTIONS))
@pytest.mark.fault("M14")
def test_other_models_work_after_a_model_has_changed_the_process(server: Server, number: int, action: str) -> None:
    workers = server.workers
    server.ask("POST", "/models/rude/predict", json.dumps({"feature1": FIRST + number}))
    for name in ("steady", "rude"):
        assert server.ask("POST", f"/models/{name}/predict", '{"feature1": 2}').document["prediction"] == [4.0]
    for path in ("/docs", "/openapi.json", "/models", "/metrics", "/readyz"):
        assert server.ask("GET", path).status == 200, path
    assert server.ask("POST", "/models/steady/predict", '{"feature1": "x"}').status == 422
    asked = uuid.uuid4().hex
    server.ask("GET", "/livez", headers={"X-Request-ID": asked})
    server.ask("GET", "/livez")  # the line of the request before is written by now
    assert asked in server.output
    assert server.workers == workers
    broken = [line for line in server.output.splitlines() if not _is_event(line)]
    assert broken == []


def test_the_output_of_a_model_is_in_the_log(server: Server) -> None:
    server.ask("POST", "/models/rude/predict", json.dumps({"feature1": FIRST + list(ACTIONS).index("prints")}))
    events = [json.loads(line) for line in server.output.splitlines()]
    assert PRINTED in [event["message"] for event in events if event["logger"] == "stdout"]


def _is_event(line: str) -> bool:
    try:
        return {"time", "level", "message"} <= json.loads(line).keys()
    except (ValueError, AttributeError):
        return False


def test_settings_of_the_worker_are_not_reported_as_changes_of_a_model(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1, RETORT_RUNTIME="artifact") as server:
        answer = server.ask("POST", "/models/iris-two/predict", b'{"feature1": 5.1, "feature2": 3.5}')
        assert answer.status == 200
        assert "for the whole process" not in server.output
