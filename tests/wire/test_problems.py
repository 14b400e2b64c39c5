"""Tests that errors of views, a user's own as well as Retort's, are answered as problems, and logged once."""

from __future__ import annotations

import pytest
from werkzeug.exceptions import Conflict

from app.errors import ModelNotFound
from app.gateway import RequestRefused
from app.wire.application import Application
from tests.wire.conftest import MakeApp


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


def problem_document(app: Application, error: Exception, status: int) -> dict[str, object]:
    def fail() -> str:
        raise error

    app.add_url_rule("/fails", view_func=fail)
    answer = app.test_client().get("/fails")
    assert answer.status_code == status
    document: dict[str, object] = answer.get_json()
    return document
