"""Errors as `application/problem+json` (RFC 9457), and the one table that turns a code into a status."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from app.errors import (
    ABSENT,
    Code,
    FieldError,
    InvalidInstances,
    ModelUnavailable,
    RetortError,
    UnsupportedMediaType,
)
from app.telemetry import request_id

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

STATUS: dict[Code, HTTPStatus] = {
    Code.INVALID_JSON: HTTPStatus.BAD_REQUEST,
    Code.INVALID_INSTANCES: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.TOO_MANY_INSTANCES: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.NOT_ACCEPTABLE: HTTPStatus.NOT_ACCEPTABLE,
    Code.MODEL_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.VERSION_NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.MODEL_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Code.MODEL_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
}
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""RFC 9110's names, where the standard library still has older ones."""


def problem(
    status: int, type_: str, detail: str, errors: Sequence[FieldError] = (), facts: dict[str, Any] | None = None
) -> Response:
    """A problem document; `facts` are further members of it."""
    document: dict[str, Any] = {
        "type": f"/problems/{type_}",
        "title": TITLES.get(status) or HTTP_STATUS_CODES.get(status, "Unknown"),
        "status": status,
        "detail": detail,
        "request_id": request_id.get(),
        **(facts or {}),
    }
    if errors:
        document["errors"] = [
            {"pointer": e.pointer, "detail": e.detail} | ({} if e.value is ABSENT else {"value": e.value})
            for e in errors
        ]
    return Response(msgspec.json.encode(document), status, content_type=MEDIA_TYPE)


def from_error(error: RetortError) -> Response:
    """The problem of one of our own errors; one that is not a client's affair is told as any unexpected one."""
    if error.code not in STATUS:
        return from_anything(error)
    status = STATUS[error.code]
    if isinstance(error, InvalidInstances):
        facts = {"errors_total": error.total, "errors_more": error.more}
        return problem(status, error.code.value, error.detail, error.errors, facts)
    response = problem(status, error.code.value, error.detail)
    if isinstance(error, ModelUnavailable):
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, UnsupportedMediaType):
        response.headers[error.header.replace("Content-Type", "Accept").replace("Content-", "Accept-")] = ", ".join(
            error.allowed
        )
    return response


def from_http(error: HTTPException) -> Response:
    """The problem of an error that Flask raised: no such path, no such method, a body that ended early."""
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if status < HTTPStatus.BAD_REQUEST:  # a redirect, which is no problem
        return Response(status=status, headers=error.get_headers(request.environ))
    headers = dict(error.get_headers(request.environ))
    allow = headers.get("Allow", "")
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.path[:200]}; see /docs for what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method[:20]} is not allowed here; allowed: {allow}",
    }.get(HTTPStatus(status), error.description or "")
    name = HTTP_STATUS_CODES.get(status, "error").lower().replace(" ", "-")
    response = problem(status, name, detail)
    for header in ("Allow", "Location", "Retry-After"):
        if header in headers:
            response.headers[header] = headers[header]
    return response


def from_anything(error: Exception) -> Response:
    """500 with the request id and nothing from inside; the traceback goes to the log."""
    log.error("unexpected error in %s %s", request.method, request.path, exc_info=error)
    detail = "the server failed on this request; its log has the cause under the request id"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)


def register(app: Flask) -> None:
    """Answers every error of the app in this one form."""
    app.register_error_handler(RetortError, from_error)
    app.register_error_handler(HTTPException, from_http)
    app.register_error_handler(Exception, from_anything)
