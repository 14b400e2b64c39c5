"""Tests of models that fail or return values outside JSON: 500 with the request id, and nothing internal."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from app import create_app
from app.core import run
from app.errors import DeadlineExceeded
from app.runtime.entry import Lease
from app.settings import Settings
from app.signature.batch import Batch
from app.wire.application import Application
from tests.wire.conftest import MakeApp
from tests.wire.exchange import Answer, check, get, post
from tests.wire.test_both_ways import comparable, through_flask
from tests.wire.troublesome import MISDEEDS, ODDITIES, SECRET, Troublesome, raise_near_1001

PATH = "/models/model/predict"


@pytest.fixture
def troublesome(served: MakeApp) -> Flask:
    return served(Troublesome().fit(None))


def ask(app: Flask, first: float, request_id: str = "abc") -> Answer:
    headers = {"X-Request-ID": request_id, "Content-Type": "application/json"}
    return post(app, PATH, json.dumps({"instances": [[first, 0], [1, 2]]}), headers)


def hides_everything(answer: Answer, app_log: str, request_id: str = "abc") -> None:
    """Check that a 500 reveals nothing, while the log has all."""
    assert answer.status == 500
    check(answer)
    assert answer.document["request_id"] == answer.headers["X-Request-ID"] == request_id
    assert set(answer.document) == {"type", "title", "status", "detail", "request_id"}
    for inside in (SECRET, "secret", "Troublesome", "roublesome.py", "File ", "line "):
        assert inside not in answer.content.decode()
    assert app_log


@pytest.mark.slow
@pytest.mark.parametrize("wish", MISDEEDS, ids=[name for name, _ in MISDEEDS.values()])
@pytest.mark.fault("M14", "X06")
def test_a_misbehaving_model_is_a_500_that_hides_everything(
    troublesome: Flask, caplog: pytest.LogCaptureFixture, wish: int
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = ask(troublesome, wish)
    hides_everything(answer, caplog.text)
    assert ask(troublesome, 7).document["prediction"] == [7.0, 1.0]  # and the service continues


def counted(app: Flask) -> str:
    return next(line for line in get(app, "/metrics").content.decode().splitlines() if 'status="model-failed"' in line)


@pytest.mark.slow
def test_a_failing_model_is_run_once_and_answered_as_through_flask(
    served: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = served(Troublesome().fit(None), runtime="artifact")
    assert isinstance(app, Application)
    with caplog.at_level(logging.ERROR):
        answer = ask(app, 1001)
    assert [record.getMessage() for record in caplog.records] == ["model model version 1 raised"]
    assert counted(app).endswith(" 1.0")
    with through_flask(app):
        assert comparable(ask(app, 1001)) == comparable(answer)
    assert counted(app).endswith(" 2.0")


def test_a_client_that_waits_for_a_failing_model_is_not_served_twice(
    served: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, waits = served(Troublesome().fit(None), runtime="artifact"), list[int]()

    def waited(lease: Lease, batch: Batch, names: Sequence[str]) -> None:
        waits.append(batch.rows)
        raise DeadlineExceeded(1.0)

    monkeypatch.setattr(run, "run", waited)
    answer = ask(app, 7)
    check(answer)
    assert (answer.status, waits) == (504, [2])


@pytest.mark.slow
def test_a_step_of_a_pipeline_that_raises(served: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    rows, labels = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), [0, 1, 1]
    app = served(make_pipeline(FunctionTransformer(raise_near_1001), LogisticRegression()).fit(rows, labels))
    with caplog.at_level(logging.ERROR):
        answer = ask(app, 1001)
    hides_everything(answer, caplog.text)
    assert answer.document["type"] == "/problems/model-failed"
    assert answer.document["detail"] == "model 'model' version 1 could not answer this request"
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text
    assert get(app, "/readyz").status == 200


@pytest.mark.slow
@pytest.mark.parametrize("wish", ODDITIES, ids=[repr(given) for given, _ in ODDITIES.values()])
@pytest.mark.fault("I16")
def test_unusual_outputs_become_json(troublesome: Flask, wish: int) -> None:
    answer = ask(troublesome, wish)
    assert answer.status == 200, answer.content
    check(answer)
    assert answer.document["prediction"] == [ODDITIES[wish][1]] * 2


@pytest.mark.fault("X06")
def test_an_internal_error_of_retort_is_hidden_as_well(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise LookupError(SECRET)

    monkeypatch.setattr(app.extensions["retort"], "entries", lost)
    answer = get(app, "/models", {"X-Request-ID": "abc"})
    hides_everything(answer, "logged")
    assert answer.document["type"] == "/problems/internal-error"


def test_an_unreadable_repository_is_not_named_to_clients(tmp_path: Path) -> None:
    (tmp_path / "repository.json").write_text("{")
    app = create_app(Settings(models_dir=tmp_path))
    assert get(app, "/livez").status == 200
    for path in ("/models", "/models/penguins", "/openapi.json", "/readyz"):
        answer = get(app, path)
        assert answer.status in {500, 503}, path
        assert str(tmp_path) not in answer.content.decode(), path
        assert "repository.json" not in answer.content.decode(), path
