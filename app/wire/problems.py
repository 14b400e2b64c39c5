"""Flask's errors in the formats of the protocols, and the schema of a problem document."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import marshmallow as ma
import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError, default_exceptions
from werkzeug.http import HTTP_STATUS_CODES

from app.errors import RetortError
from app.gateway.errors import (
    INTERNAL_ERROR,
    MEDIA_TYPE,
    ErrorFormat,
    ErrorRenderer,
    Problem,
    RequestRefused,
    problem_json,
    problem_of,
    sentence,
)
from app.wire.backend import context_of
from app.wire.codecs import JSON_TYPE

SENT_WITH_ERRORS = ("Allow", "Content-Range", "Location", "Retry-After")
"""Header fields of Flask's errors that the response keeps."""


class ProblemSchema(ma.Schema):
    """A problem document (RFC 9457)."""

    type = ma.fields.String(required=True, metadata={"example": "/problems/invalid-instances"})
    title = ma.fields.String(required=True)
    status = ma.fields.Integer(required=True)
    detail = ma.fields.String(required=True, metadata={"description": "what was wrong, where, and what is allowed"})
    request_id = ma.fields.String(required=True)
    errors = ma.fields.List(ma.fields.Dict(), metadata={"description": "each bad field: `pointer`, `detail`, `value`"})
    errors_total = ma.fields.Integer(metadata={"description": "how many bad fields there are"})
    errors_more = ma.fields.Integer(metadata={"description": "how many of them are not listed"})


class ErrorSchema(ma.Schema):
    """An error in one sentence."""

    error = ma.fields.String(required=True, metadata={"description": "what was wrong, where, and what is allowed"})


def error_sentence(problem: Problem) -> tuple[bytes, str]:
    """Return `{"error": "<sentence>"}`."""
    return msgspec.json.encode({"error": sentence(problem)}), JSON_TYPE


PROBLEM_FORMAT = ErrorFormat(re.compile(""), problem_json, ProblemSchema, media_type=MEDIA_TYPE)


def problem_of_http(error: HTTPException) -> Problem:
    """Return the problem for an error that Flask raised: unknown path, method not allowed, failed view."""
    if isinstance(error, InternalServerError) and error.original_exception is not None:
        return INTERNAL_ERROR  # Flask has logged it
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    fields = dict(error.get_headers(request.environ))
    if "Allow" in fields:  # Werkzeug lists a set, whose order differs between processes
        fields["Allow"] = ", ".join(sorted(fields["Allow"].split(", ")))
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.path[:200]}; see /docs for what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method[:20]} is not allowed here; allowed: {fields.get('Allow', '')}",
    }.get(HTTPStatus(status), error.description or "")
    name = HTTP_STATUS_CODES.get(status, "error").lower().replace(" ", "-")
    headers = {name: value for name, value in fields.items() if name in SENT_WITH_ERRORS}
    return Problem(status, name, detail, headers=headers)


def http_error_of(problem: Problem, error: Exception) -> HTTPException:
    """Return Flask's exception of the problem's status, for a user's error handlers. Its `__cause__` is `error`."""
    kind = default_exceptions.get(problem.status, HTTPException)
    raised = kind(description=problem.detail)
    raised.code, raised.__cause__ = problem.status, error
    if isinstance(raised, InternalServerError):
        raised.original_exception = error
    return raised


def register(app: Flask, errors: ErrorRenderer) -> None:
    """Make the app answer every error in the format of the path's protocol."""

    def answer(problem: Problem) -> Response:
        response = errors.problem(context_of(request.environ), problem)
        return Response(response.body, response.status, response.headers)

    def answer_http(error: HTTPException) -> Response:
        if (error.code or 500) < HTTPStatus.BAD_REQUEST:  # a redirect, not an error
            return Response(status=error.code, headers=error.get_headers(request.environ))
        return answer(problem_of_http(error))

    def answer_own(error: RetortError | RequestRefused) -> Any:
        problem = problem_of(error)
        raised = http_error_of(problem, error)
        handler = app._find_error_handler(raised, request.blueprints)
        if handler is None or handler is answer_http:
            return answer(problem)
        context_of(request.environ).outcome = problem.name
        return app.ensure_sync(handler)(raised)

    for kind in (RetortError, RequestRefused):
        app.register_error_handler(kind, answer_own)
    app.register_error_handler(HTTPException, answer_http)
