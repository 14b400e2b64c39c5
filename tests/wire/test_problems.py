"""Tests that errors of views, a user's and Retort's, are answered as problems, and logged once."""

from __future__ import annotations

from copy import deepcopy

import pytest
from werkzeug.exceptions import Conflict, HTTPException

from app.errors import ModelNotFound
from app.gateway import RequestRefused
from app.wire.application import Application
from tests.wire.conftest import MakeApp
from tests.wire.exchange import post


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (RequestRefused(402, "no-credit", "there is no credit left"), 402, "no-credit"),
        (ModelNotFound("m", []), 404, "model-not-found"),
        (Conflict("it exists"), 409, "conflict"),
    ],
)
def test_an_http_exception_of_a_view_is_a_problem(
    iris_two: MakeApp, caplog: pytest.LogCaptureFixture, error: Exception, status: int, name: str
) -> None:
    document = problem_document(iris_two(), error, status)
    assert document["type"] == f"/problems/{name}"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_unexpected_error_is_logged_once_and_hidden(iris_two: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    document = problem_document(iris_two(), ZeroDivisionError("secret"), 500)
    assert document["type"] == "/problems/internal-error"
    assert "secret" not in str(document)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


PREDICTIONS = [
    ("/models/none/predict", "{}", 404, "there is no model"),
    ("/predict", "{", 400, "the body is not valid JSON"),
    ("/predict", '{"feature1": "x"}', 422, "not acceptable"),
    ("/v2/models/none/infer", "{}", 404, "there is no model"),
    ("/nowhere", "", 404, "not found"),
]


@pytest.fixture
def app(iris_alone: Application, monkeypatch: pytest.MonkeyPatch) -> Application:
    """Return the shared service; remove the error handlers of a test at its end."""
    monkeypatch.setattr(iris_alone, "error_handler_spec", deepcopy(iris_alone.error_handler_spec))
    monkeypatch.setattr(iris_alone, "_got_first_request", False)
    return iris_alone


@pytest.mark.parametrize(("path", "body", "status", "words"), PREDICTIONS)
@pytest.mark.parametrize("by_class", [False, True])
def test_an_error_handler_of_a_user_for_a_status_gets_retorts_errors_too(
    app: Application, path: str, body: str, status: int, words: str, by_class: bool
) -> None:
    seen = list[HTTPException]()

    def handle(error: HTTPException) -> tuple[str, int]:
        seen.append(error)
        return "mine", 418

    app.register_error_handler(HTTPException if by_class else status, handle)
    answer = post(app, path, body)
    assert (answer.status, answer.content, len(seen)) == (418, b"mine", 1)
    assert seen[0].code == status
    assert words in str(seen[0].description)


def test_an_error_handler_for_another_status_gets_nothing(app: Application) -> None:
    app.register_error_handler(404, lambda error: ("mine", 404))
    assert post(app, "/predict", "{").document["type"] == "/problems/invalid-json"


def test_an_error_handler_may_look_at_the_error_itself(app: Application) -> None:
    causes = list[object]()
    app.register_error_handler(404, lambda error: (causes.append(error.__cause__), ("", 404))[1])
    post(app, "/models/none/predict", "{}")
    assert [type(cause) for cause in causes] == [ModelNotFound]


def problem_document(app: Application, error: Exception, status: int) -> dict[str, object]:
    def fail() -> str:
        raise error

    app.add_url_rule("/fails", view_func=fail)
    answer = app.test_client().get("/fails")
    assert answer.status_code == status
    document: dict[str, object] = answer.get_json()
    return document
