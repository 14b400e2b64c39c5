"""Tests of errors as responses, in the format of the path's protocol."""

from __future__ import annotations

import json
import re

import pytest

from app.errors import ModelNotFound, RetortError
from app.gateway.context import RequestContext
from app.gateway.errors import (
    ErrorFormat,
    ErrorRenderer,
    Problem,
    RequestRefused,
    problem_json,
    problem_of,
    sentence,
)
from app.gateway.problem_types import PROBLEMS
from app.server.contract import status_line
from tests.gateway.fakes import codes, environ

PROBLEM_FORMAT = ErrorFormat(re.compile(""), problem_json, dict)
OTHER = ErrorFormat(re.compile("/v2"), lambda problem: (problem.name.encode(), "text/other"), dict, {503: 429})
ERRORS = ErrorRenderer([OTHER], PROBLEM_FORMAT)


NOT_OF_REQUESTS = {
    "invalid-settings",
    "invalid-repository",
    "loading-failed",
    "packing-refused",
    "scoring-cancelled",
    "not-resumable",
    "too-many-rejects",
    "choice-refused",
    "database-unavailable",
    "key-not-found",
    "no-keys",
}


def test_every_code_of_a_request_has_a_status() -> None:
    assert codes() - PROBLEMS.keys() == NOT_OF_REQUESTS


def test_an_error_is_a_problem_document_with_the_id_of_the_request() -> None:
    context = RequestContext(environ(HTTP_X_REQUEST_ID="abc"))
    response = ERRORS.response(context, ModelNotFound("m", ["penguins"]))
    document = json.loads(bytes(response.body))  # type: ignore[arg-type]
    assert (response.status, response.headers) == (404, [("Content-Type", "application/problem+json")])
    assert (document["type"], document["status"], document["request_id"]) == ("/problems/model-not-found", 404, "abc")
    assert "penguins" in document["detail"]
    assert context.outcome == "model-not-found"


def test_the_path_decides_the_error_format() -> None:
    response = ERRORS.response(RequestContext(environ("/v2/models/m/infer")), ModelNotFound("m", []))
    assert (response.body, response.headers) == (b"model-not-found", [("Content-Type", "text/other")])


def test_a_refusal_has_the_status_of_the_protocol_and_its_header_fields() -> None:
    refusal = RequestRefused(503, "queue-full", "the server is busy", {"Retry-After": "1"})
    for path, status in (("/predict", 503), ("/v2/models/m/infer", 429)):
        response = ERRORS.response(RequestContext(environ(path)), refusal)
        assert response.status == status
        assert ("Retry-After", "1") in response.headers


def test_an_interceptor_chooses_status_name_and_detail_of_its_refusal() -> None:
    problem = problem_of(RequestRefused(403, "no-tenant", "the header X-Tenant is missing", {"X-Why": "tenant"}))
    assert problem == Problem(403, "no-tenant", "the header X-Tenant is missing", headers={"X-Why": "tenant"})


class UnknownToTheTable(RetortError):
    code = "of-a-user"


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), UnknownToTheTable("secret")])
def test_an_unexpected_error_is_logged_and_hidden_from_the_client(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    response = ERRORS.response(RequestContext(environ()), error)
    assert response.status == 500
    assert b"secret" not in bytes(response.body)  # type: ignore[arg-type]
    assert "secret" in caplog.text


def test_titles_are_those_of_http() -> None:
    assert [status_line(status)[4:] for status in (413, 422, 429, 799)] == [
        "Content Too Large",
        "Unprocessable Content",
        "Too Many Requests",
        "Unknown",
    ]


def test_a_problem_without_fields_is_its_detail_as_a_sentence() -> None:
    assert sentence(Problem(400, "x", "it is wrong")) == "it is wrong"
