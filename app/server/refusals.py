"""The worker's own refusals. The application formats them as responses."""

from __future__ import annotations

from gunicorn.http import errors

from app.errors import SERVER_FAILED, BodyTooLarge, UploadTooLarge
from app.server.contract import Refusal
from app.server.limits import Limits

PARSE_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (errors.LimitRequestLine, 414),
    (errors.LimitRequestHeaders, 431),
    (errors.ExpectationFailed, 417),
    (errors.UnsupportedTransferCoding, 501),
    (errors.ForbiddenProxyRequest, 403),
    (errors.ConfigurationProblem, 500),
)
"""The status for each parse error, as in Gunicorn's own workers. Every other parse error is a 400."""
ERROR_TEXT_LENGTH = 300
RETRY_AFTER_S = 1
RETRY_LATER = {"Retry-After": str(RETRY_AFTER_S)}
AT_CAPACITY = "the server is at its capacity; try again in a moment"

FAILED = Refusal(500, "internal-error", SERVER_FAILED)
INCOMPLETE_BODY = Refusal(400, "incomplete-body", "the connection ended before the body did")
HEAD_TIMEOUT = Refusal(408, "head-timeout", "the head of the request did not arrive in time")
BODY_TIMEOUT = Refusal(408, "body-timeout", "the body of the request did not arrive in time")
NO_ROOM = Refusal(503, "no-room", "the server has no room for the body", RETRY_LATER)
CLIENT_HAS_NO_ROOM = Refusal(
    429, "too-many-requests", "the unfinished uploads of this client take all the room that one may have", RETRY_LATER
)
QUEUE_FULL = Refusal(503, "queue-full", AT_CAPACITY, RETRY_LATER)
QUEUE_WAIT = Refusal(503, "queue-wait", AT_CAPACITY, RETRY_LATER)
SHUTTING_DOWN = Refusal(
    503, "shutting-down", "the server is shutting down and could not finish this request", RETRY_LATER
)


def parse_status(error: Exception) -> int:
    """Return the status for an error of Gunicorn's parser."""
    return next((status for kind, status in PARSE_STATUSES if isinstance(error, kind)), 400)


def malformed(error: Exception) -> Refusal:
    """Return the refusal of a request that Gunicorn's parser does not accept."""
    status = parse_status(error)
    detail = "the request is not valid HTTP/1.1: " + ascii(str(error))[1:-1][:ERROR_TEXT_LENGTH]
    if status == 500:
        detail = "the configuration of the server does not fit this request"
    return Refusal(status, "malformed-request", detail)


def body_too_large(limits: Limits, limit_bytes: int) -> Refusal:
    """Return the refusal of a body over the limit of its path."""
    error = BodyTooLarge(limit_bytes) if limit_bytes == limits.body_bytes else UploadTooLarge(limit_bytes)
    return Refusal(413, error.code, error.detail)


def too_many_chunks(limits: Limits) -> Refusal:
    """Return the refusal of a body in too many chunks."""
    detail = f"the body comes in more than {limits.body_chunks} chunks, the most this server reads"
    return Refusal(413, "body-too-large", detail)


def over_fair_share(share: float) -> Refusal:
    """Return the refusal of a client with more requests in a full queue than its share.

    Its header fields follow draft-ietf-httpapi-ratelimit-headers-11.
    """
    allowed = max(1, int(share))
    detail = (
        f"the server is at its capacity, and more requests of this client wait than of others: {allowed} may, as"
        " long as so many clients wait; try again in a moment"
    )
    return _over_share(allowed, detail)


def over_client_share(allowed: int) -> Refusal:
    """Return the refusal of a client at its limit of concurrent requests."""
    detail = f"{allowed} requests of this client are under way, as many as one client may have; try again in a moment"
    return _over_share(allowed, detail)


def deadline(allowed_s: float) -> Refusal:
    """Return the refusal of a request that was not answered before its deadline."""
    return Refusal(504, "deadline", f"the answer was not ready within {allowed_s:.3g} s")


def _over_share(allowed: int, detail: str) -> Refusal:
    policy = f'"queue";q={allowed};qu="concurrent-requests"'
    headers = {"RateLimit-Policy": policy, "RateLimit": f'"queue";r=0;t={RETRY_AFTER_S}', **RETRY_LATER}
    return Refusal(429, "too-many-requests", detail, headers)
