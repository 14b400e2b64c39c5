"""Errors as responses: `application/problem+json` (RFC 9457), or the error format of a protocol.

If the clients of a protocol expect another body, the protocol has an `ErrorFormat` for its paths, with the same facts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

from app.errors import (
    SERVER_FAILED,
    FieldError,
    InvalidInstances,
    JobsUnavailable,
    ModelQuarantined,
    ModelUnavailable,
    RetortError,
    TooManyJobs,
    UnsupportedMediaType,
)
from app.gateway.context import RequestContext
from app.gateway.problem_types import PROBLEMS
from app.server.contract import Environ, Headers, Refusal, Response, status_line
from app.telemetry import current_request, request_id

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_LATER: Mapping[str, str] = {"Retry-After": "5"}
"""Headers of every 503; the value is in seconds."""


@dataclass(frozen=True, slots=True)
class Problem(Refusal):
    """The public facts of an error. `name` ends its type; `facts` are further members of the document."""

    errors: Sequence[FieldError] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


INTERNAL_ERROR = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", SERVER_FAILED)
NOT_READY = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "unready",
    "not every model is available, or the server is about to stop; GET /readyz says which",
    headers=RETRY_LATER,
)
"""The problem for a readiness probe while some models are not available."""


class RequestRefused(Exception):
    """Raised by an interceptor to refuse a request. The protocol of the path formats it."""

    def __init__(self, status: int, name: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = Problem(status, name, detail, headers=headers or {})


Form = Callable[[Problem], tuple[bytes, str]]
"""Function that returns the body of an error and its media type."""


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """The error format of a protocol, for URLs whose beginning matches `paths`.

    `schema` documents the format. `statuses` maps a usual status to the one that the protocol uses instead.
    """

    paths: re.Pattern[str]
    form: Form
    schema: type
    statuses: Mapping[int, int] = field(default_factory=dict)
    media_type: str = "application/json"


def problem_json(problem: Problem) -> tuple[bytes, str]:
    """Return a problem document."""
    document: dict[str, Any] = {
        "type": f"/problems/{problem.name}",
        "title": status_line(problem.status)[4:],
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id(),
        **problem.facts,
    }
    if problem.errors:
        document["errors"] = [each.document() for each in problem.errors]
    return msgspec.json.encode(document), MEDIA_TYPE


def sentence(problem: Problem, most: int = 3) -> str:
    """Return a problem as one sentence with its first few bad fields, for formats with no room for more."""
    shown = "; ".join(f"{error.pointer} {error.detail}" for error in problem.errors[:most])
    more = f" (and {len(problem.errors) - most} more)" if len(problem.errors) > most else ""
    return f"{problem.detail}: {shown}{more}" if shown else problem.detail


def problem_of(error: BaseException) -> Problem:
    """Return the problem for an error. If clients may not see the error, log it and return an internal error."""
    if isinstance(error, RequestRefused):
        return error.problem
    if not isinstance(error, RetortError) or error.code not in PROBLEMS:
        log.error("unexpected error", exc_info=error)
        return INTERNAL_ERROR
    status, headers = PROBLEMS[error.code].status, dict[str, str]()
    if isinstance(error, InvalidInstances):
        facts = {"errors_total": error.total, "errors_more": error.more}
        return Problem(status, error.code, error.detail, errors=error.errors, facts=facts)
    if isinstance(error, ModelUnavailable | ModelQuarantined | JobsUnavailable | TooManyJobs):
        headers |= RETRY_LATER
    if isinstance(error, UnsupportedMediaType):
        header = error.header.replace("Content-Type", "Accept").replace("Content-", "Accept-")
        headers[header] = ", ".join(error.allowed)
    return Problem(status, error.code, error.detail, headers=headers)


ErrorPage = Callable[[Environ, Problem], Response | None]
"""Function that renders an error as a page; it returns None for requests of programs."""


class ErrorRenderer:
    """Renderer of errors as responses, each in the format of the request's protocol. Safe to share.

    If `page` is set, it renders errors at Retort's own paths as pages for browsers.
    """

    page: ErrorPage | None = None

    def __init__(self, formats: Sequence[ErrorFormat], own: ErrorFormat) -> None:
        self._formats = formats
        self._own = own

    def format_at(self, path: str) -> ErrorFormat:
        """Return the error format of a path."""
        return next((each for each in self._formats if each.paths.match(path)), self._own)

    def response(self, context: RequestContext, error: BaseException) -> Response:
        """Return the response to a request that ended with this error."""
        token = current_request.set(context)
        try:
            return self.problem(context, problem_of(error))
        finally:
            current_request.reset(token)

    def problem(self, context: RequestContext, problem: Problem) -> Response:
        """Return a problem in the format of the request's path, and set the outcome of the request."""
        context.outcome = problem.name
        error_format = self.format_at(context.path)
        if self.page is not None and error_format is self._own and (page := self.page(context.environ, problem)):
            page.headers += problem.headers.items()
            return page
        body, media_type = error_format.form(problem)
        headers: Headers = [("Content-Type", media_type), *problem.headers.items()]
        return Response(error_format.statuses.get(problem.status, int(problem.status)), headers, body)
