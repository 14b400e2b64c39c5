"""Tests that a request gets the same response from its route alone and through Flask."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry import NO_REQUEST, request_id
from app.wire.application import Application
from tests.wire.exchange import Answer, post, send
from tests.wire.test_fuzz import INSTANCES, bounded

CORPUS = sorted((Path(__file__).parent / "corpus" / "predict").glob("*/*.http"))
RECORD = b'{"feature1": 5.1, "feature2": 3.5}'
ID = {"X-Request-ID": "abc", "Content-Type": "application/json"}

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")


@contextmanager
def through_flask(app: Application) -> Iterator[None]:
    """Register a hook, so that every request goes through Flask."""
    app.teardown_request_funcs.setdefault(None, []).append(lambda error: None)
    try:
        yield
    finally:
        app.teardown_request_funcs.clear()


def comparable(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """Return the response without the parts that always differ: durations and generated ids."""
    headers = {name: re.sub(r"[\d.]+", "0", value) for name, value in answer.headers if name == "Server-Timing"}
    headers |= {name: value for name, value in answer.headers if name not in ("Server-Timing", "X-Request-ID")}
    headers.pop("Content-Length")  # the id is part of a problem
    return answer.status, headers, re.sub(rb'"request_id":"[^"]+"', b"", answer.content)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_gets_the_same_answers_through_flask(app: Application, path: Path) -> None:
    direct = send(app, path.read_bytes())
    with through_flask(app):
        assert comparable(send(app, path.read_bytes())) == comparable(direct)


@pytest.mark.slow
@bounded
@given(instances=INSTANCES | st.fixed_dictionaries({"feature1": st.floats(0, 9), "feature2": st.floats(0, 9)}))
def test_any_document_gets_the_same_answer_through_flask(app: Application, instances: Any) -> None:
    body = json.dumps(instances if isinstance(instances, dict) else {"instances": instances})
    for model in ("iris-two", "penguins"):
        direct = post(app, f"/models/{model}/predict", body)
        with through_flask(app):
            assert comparable(post(app, f"/models/{model}/predict", body)) == comparable(direct)


def test_a_route_alone_does_not_enter_flask(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flask, "wsgi_app", None)
    answer = post(app, "/models/iris-two/predict", RECORD, ID)
    assert (answer.status, answer.headers["X-Request-ID"]) == (200, "abc")


def test_only_a_small_request_for_a_graph_or_a_probe_runs_inline(app: Application) -> None:
    def inline(environ: dict[str, Any]) -> bool:
        return app.gateway.admit(dict(environ)).runs_inline

    small = {"REQUEST_METHOD": "POST", "PATH_INFO": "/models/iris-two/predict", "CONTENT_LENGTH": "30"}
    assert inline(small)
    assert inline({"REQUEST_METHOD": "GET", "PATH_INFO": "/livez"})
    for path in ("/v1/models/iris-two:predict", "/v2/models/iris-two/infer", "/endpoints/iris-two/invocations"):
        assert inline(small | {"PATH_INFO": path})
    for other in (
        {"CONTENT_LENGTH": "8193"},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "-1"},
        {"REQUEST_METHOD": "GET"},
        {"PATH_INFO": "/models//predict"},
        {"PATH_INFO": "/models/other/predict"},
        {"PATH_INFO": "/models/iris-two/versions/1/predict"},
        {"PATH_INFO": "/models/digits-image/predict"},
        {"HTTP_ACCEPT": "application/json" + ",a/b" * 500},
        {"CONTENT_TYPE": "application/json" + ";a=b" * 500},
        {"HTTP_ACCEPT_ENCODING": "gzip" + ",a" * 500},
    ):
        assert not inline(small | other), other


def test_the_current_request_is_unset_after_the_answer(app: Application) -> None:
    post(app, "/models/iris-two/predict", RECORD, ID)
    assert request_id() == NO_REQUEST


def test_a_body_cut_short_is_refused(app: Application) -> None:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/models/iris-two/predict",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "CONTENT_LENGTH": "50",
        "wsgi.input": io.BufferedReader(io.BytesIO(RECORD)),  # type: ignore[arg-type]
    }
    statuses: list[str] = []
    app(environ, lambda status, headers: statuses.append(status))
    assert statuses == ["400 Bad Request"]
