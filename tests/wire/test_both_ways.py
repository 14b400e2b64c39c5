"""Tests that a request gets the same response from its route alone and through Flask."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request, session
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from app import create_app
from app.gateway.wsgi import KeptBody
from app.settings import Settings
from app.telemetry import NO_REQUEST, request_id
from app.wire.application import Application
from tests.wire.conftest import MODELS
from tests.wire.exchange import Answer, get, post, send
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


@pytest.fixture(scope="module")
def direct(app: Application) -> Callable[[Path], tuple[int, dict[str, str], bytes]]:
    """Return the answer of a route alone to the request in a file."""
    return cache(lambda path: comparable(send(app, path.read_bytes())))


@pytest.fixture(scope="module")
def hooked() -> Application:
    """Return a service with a hook, so that every request goes through Flask."""
    service = create_app(Settings(models_dir=MODELS))
    service.teardown_request(lambda error: None)
    return service


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_gets_the_same_answers_through_flask(
    direct: Callable[[Path], Any], hooked: Application, path: Path
) -> None:
    assert comparable(send(hooked, path.read_bytes())) == direct(path)


def _read_lines() -> None:
    stream = request.environ["wsgi.input"]
    stream.readline(5)
    stream.readline()
    stream.read(3)


READERS: dict[str, Callable[[], object]] = {
    "get_json": lambda: request.get_json(silent=True),
    "its beginning": lambda: request.stream.read(7),
    "lines": _read_lines,
}


@pytest.fixture(scope="module", params=READERS)
def reading(request: pytest.FixtureRequest) -> Application:
    """Return a service with a hook that reads the body before a view does."""
    service, reader = create_app(Settings(models_dir=MODELS)), READERS[request.param]

    @service.before_request
    def read() -> None:
        with suppress(HTTPException, RecursionError):  # the body ends too early, or is nested too deeply
            reader()

    return service


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_gets_the_same_answers_after_a_hook_has_read_the_body(
    direct: Callable[[Path], Any], reading: Application, path: Path
) -> None:
    assert comparable(send(reading, path.read_bytes())) == direct(path)


def test_a_body_that_the_server_has_whole_is_read_again_too(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.before_request_funcs, None, [lambda: request.get_json() and None])
    answer = app.test_client().post("/models/iris-two/predict", data=RECORD, content_type="application/json")
    assert answer.status_code == 200


def test_a_body_is_kept_for_views_of_retort_alone(iris_two: Any) -> None:
    service, kept = iris_two(), dict[str, bool]()
    service.add_url_rule("/own", "own", lambda: "", methods=["POST"])
    service.before_request(lambda: kept.update({request.path: isinstance(request.environ["wsgi.input"], KeptBody)}))
    inner = service.wsgi_app

    def strip(environ: dict[str, Any], start_response: Any) -> Any:
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/api")
        return inner(environ, start_response)

    service.wsgi_app = strip
    for path in ("/own", "/predict", "/jobs", "/api/models/iris-two/predict"):
        post(service, path, RECORD)
    assert kept == {"/own": False, "/predict": True, "/jobs": True, "/models/iris-two/predict": True}


def test_a_middleware_may_pass_on_another_body_in_a_copy_of_the_environ(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = app.wsgi_app

    def other_body(environ: dict[str, Any], start_response: Any) -> Any:
        body = RECORD.replace(b"5.1", b"7.1")
        changed = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
        return inner({**environ, **changed}, start_response)

    expected = post(app, "/models/iris-two/predict", RECORD.replace(b"5.1", b"7.1")).document["prediction"]
    monkeypatch.setattr(app, "wsgi_app", other_body)
    assert expected != [0]
    assert post(app, "/models/iris-two/predict", b"feature1,feature2\n").document["prediction"] == expected


@pytest.mark.slow
@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
def test_the_longest_body_that_a_user_allows_flask_is_the_longest_that_is_read(
    iris_two: Any, headers: dict[str, str], hooked: bool
) -> None:
    service = iris_two()
    if hooked:
        service.teardown_request(lambda error: None)
    body = RECORD if not headers else b"%x\r\n%s\r\n0\r\n\r\n" % (len(RECORD), RECORD)
    for limit_bytes, status in ((len(RECORD), 200), (len(RECORD) - 1, 413)):
        service.config["MAX_CONTENT_LENGTH"] = limit_bytes
        assert post(service, "/predict", body, headers).status == status


def test_a_body_beyond_the_limit_of_a_user_gets_the_same_answer_through_flask(iris_two: Any) -> None:
    service = iris_two()
    service.config["MAX_CONTENT_LENGTH"] = 1
    direct = post(service, "/predict", RECORD)
    with through_flask(service):
        assert comparable(post(service, "/predict", RECORD)) == comparable(direct)


def test_flasks_limit_calls_the_error_handler_of_a_user(iris_two: Any) -> None:
    service = iris_two()
    service.config["MAX_CONTENT_LENGTH"] = 1
    service.register_error_handler(413, lambda error: ("mine", 413))
    assert post(service, "/predict", RECORD).content == b"mine"


@pytest.mark.slow
@bounded
@given(instances=INSTANCES | st.fixed_dictionaries({"feature1": st.floats(0, 9), "feature2": st.floats(0, 9)}))
def test_any_document_gets_the_same_answer_through_flask(app: Application, instances: Any) -> None:
    body = json.dumps(instances if isinstance(instances, dict) else {"instances": instances})
    for model in ("iris-two", "penguins"):
        direct = post(app, f"/models/{model}/predict", body)
        with through_flask(app):
            assert comparable(post(app, f"/models/{model}/predict", body)) == comparable(direct)


def test_a_secret_key_changes_no_answer_without_a_cookie(iris_two: Any) -> None:
    service = iris_two()
    service.config.update(SECRET_KEY="x", SECRET_KEY_FALLBACKS=["y"], SERVER_NAME="elsewhere.example")
    direct = post(service, "/predict", RECORD)
    with through_flask(service):
        assert comparable(post(service, "/predict", RECORD)) == comparable(direct)


def test_a_session_is_renewed_by_a_prediction(iris_two: Any) -> None:
    service = iris_two()
    service.config["SECRET_KEY"] = "x"
    service.add_url_rule("/login", "login", lambda: session.update(user=1, _permanent=True) or "")
    cookie = get(service, "/login").headers["Set-Cookie"].partition(";")[0]
    answer = post(service, "/predict", RECORD, ID | {"Cookie": cookie})
    assert (answer.status, answer.headers["Set-Cookie"][:8]) == (200, "session=")
    assert "Set-Cookie" not in post(service, "/predict", RECORD).headers


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
        {"HTTP_CONTENT_ENCODING": "gzip"},
        {"CONTENT_TYPE": "text/csv"},
        {"HTTP_ACCEPT": "text/csv"},
        {"REQUEST_METHOD": "GET"},
        {"PATH_INFO": "/models//predict"},
        {"PATH_INFO": "/models/other/predict"},
        {"PATH_INFO": "/models/iris-two/versions/1/predict"},
        {"PATH_INFO": "/models/digits-image/predict"},
        {"HTTP_ACCEPT": "application/json" + ",a/b" * 500},
        {"CONTENT_TYPE": "application/json" + ";a=b" * 500},
        {"HTTP_ACCEPT_ENCODING": "gzip" + ",a" * 500},
        {"HTTP_ACCEPT": "application/json" + ",a/b" * 75, "CONTENT_TYPE": "application/json" + ";a=b" * 75},
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
