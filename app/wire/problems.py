"""Errors: the one table that turns a code into a status, and `application/problem+json` (RFC 9457).

A protocol whose clients expect another body gives a `Form` of its own for its paths (`ERRORS` in its module); the facts
and the statuses are the same.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import marshmallow as ma
import msgspec
from flask import Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from app.errors import (
    ABSENT,
    Code,
    FieldError,
    InvalidInstances,
    ModelQuarantined,
    ModelUnavailable,
    RetortError,
    UnsupportedMediaType,
)
from app.telemetry import request_id
from app.wire.application import Application

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_LATER: Mapping[str, str] = {"Retry-After": "5"}
"""Headers of every 503, in seconds."""

STATUS: dict[Code, HTTPStatus] = {
    Code.INVALID_JSON: HTTPStatus.BAD_REQUEST,
    Code.INVALID_BODY: HTTPStatus.BAD_REQUEST,
    Code.INVALID_INSTANCES: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.MALFORMED_REQUEST: HTTPStatus.BAD_REQUEST,
    Code.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.TOO_MANY_INSTANCES: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.NOT_ACCEPTABLE: HTTPStatus.NOT_ACCEPTABLE,
    Code.MODEL_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.VERSION_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.MODEL_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.MODEL_QUARANTINED: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Code.STEP_TIMED_OUT: HTTPStatus.GATEWAY_TIMEOUT,
    Code.STEP_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.MODEL_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
}
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""RFC 9110's names, where the standard library still has older ones."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is told of an error. `name` is its type, `facts` are further members of a problem document."""

    status: int
    name: str
    detail: str
    errors: Sequence[FieldError] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Form = Callable[[Problem], tuple[bytes, str]]
"""The body of an error, and its media type."""


def problem_json(problem: Problem) -> tuple[bytes, str]:
    """A problem document."""
    document: dict[str, Any] = {
        "type": f"/problems/{problem.name}",
        "title": TITLES.get(problem.status) or HTTP_STATUS_CODES.get(problem.status, "Unknown"),
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id.get(),
        **problem.facts,
    }
    if problem.errors:
        document["errors"] = [
            {"pointer": e.pointer, "detail": e.detail} | ({} if e.value is ABSENT else {"value": e.value})
            for e in problem.errors
        ]
    return msgspec.json.encode(document), MEDIA_TYPE


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


@dataclass(frozen=True, slots=True)
class Errors:
    """How a protocol words errors: on which paths (a pattern that matches from their beginning), and in what form.

    `schema` documents the form; `statuses` are those for which the protocol has another.
    """

    paths: re.Pattern[str]
    form: Form
    schema: type[ma.Schema]
    statuses: Mapping[int, int] = field(default_factory=dict)
    media_type: str = "application/json"


OWN = Errors(re.compile(""), problem_json, ProblemSchema, media_type=MEDIA_TYPE)


def errors_at(path: str, forms: Sequence[Errors]) -> Errors:
    """How errors are worded under a path."""
    return next((errors for errors in forms if errors.paths.match(path)), OWN)


def sentence(problem: Problem, most: int = 3) -> str:
    """A problem as one sentence, for forms that have room for no more: with its first few bad fields."""
    shown = "; ".join(f"{error.pointer} {error.detail}" for error in problem.errors[:most])
    more = f" (and {len(problem.errors) - most} more)" if len(problem.errors) > most else ""
    return f"{problem.detail}: {shown}{more}" if shown else problem.detail


def of_error(error: RetortError) -> Problem:
    """The problem of one of our own errors; one that is not a client's affair is told as any unexpected one."""
    if error.code not in STATUS:
        return of_anything(error)
    status, headers = STATUS[error.code], dict[str, str]()
    if isinstance(error, InvalidInstances):
        facts = {"errors_total": error.total, "errors_more": error.more}
        return Problem(status, error.code.value, error.detail, error.errors, facts)
    if isinstance(error, ModelUnavailable | ModelQuarantined):
        headers |= RETRY_LATER
    if isinstance(error, UnsupportedMediaType):
        header = error.header.replace("Content-Type", "Accept").replace("Content-", "Accept-")
        headers[header] = ", ".join(error.allowed)
    return Problem(status, error.code.value, error.detail, headers=headers)


def unready(form: Form) -> Response:
    """What a platform is told that asks whether every model is available, where some are not."""
    detail = "not every model is available, or the server is about to stop; GET /readyz says which"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    content, media_type = form(Problem(status, "unready", detail))
    return Response(content, status, RETRY_LATER, content_type=media_type)


def of_http(error: HTTPException) -> Problem:
    """The problem of an error that Flask raised: no such path, no such method, a body that ended early."""
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    sent = dict(error.get_headers(request.environ))
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.path[:200]}; see /docs for what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method[:20]} is not allowed here; allowed: {sent.get('Allow', '')}",
    }.get(HTTPStatus(status), error.description or "")
    name = HTTP_STATUS_CODES.get(status, "error").lower().replace(" ", "-")
    headers: dict[str, str] = {
        header: sent[header] for header in ("Allow", "Location", "Retry-After") if header in sent
    }
    return Problem(status, name, detail, headers=headers)


def of_anything(error: Exception) -> Problem:
    """500 with the request id and nothing from inside; the traceback goes to the log."""
    log.error("unexpected error in %s %s", request.method, request.path, exc_info=error)
    detail = "the server failed on this request; its log has the cause under the request id"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)


def register(app: Application, forms: Sequence[Errors] = ()) -> None:
    """Answers every error of the app: in the form of the protocol whose path it is, else as a problem document."""

    def answer(problem: Problem) -> Response:
        found = errors_at(request.path, forms)
        body, media_type = found.form(problem)
        status = found.statuses.get(problem.status, problem.status)
        return Response(body, status, headers=dict(problem.headers), content_type=media_type)

    def answer_http(error: HTTPException) -> Response:
        if (error.code or 500) < HTTPStatus.BAD_REQUEST:  # a redirect, which is no problem
            return Response(status=error.code, headers=error.get_headers(request.environ))
        return answer(of_http(error))

    def words(path: str, status: int, name: str, detail: str) -> tuple[bytes, str] | None:
        found = errors_at(path, forms)
        return None if found is OWN else found.form(Problem(status, name, detail))

    app.register_error_handler(RetortError, lambda error: answer(of_error(error)))
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(Exception, lambda error: answer(of_anything(error)))
    app.words = words
