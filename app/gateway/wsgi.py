"""Send a response through WSGI (PEP 3333), whole or in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from app.gateway.context import RequestContext
from app.server.contract import Response, status_line
from app.telemetry import current_request

BODILESS = (204, 304)


class BodyInParts:
    """A response body that is made in parts. Its request is the current one while each part is made."""

    def __init__(self, parts: Iterable[bytes], context: RequestContext, end: Callable[[RequestContext], None]) -> None:
        self._parts = parts
        self._end = end
        self._iterator = iter(parts)
        self._context = context

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = current_request.set(self._context)
        try:
            part = next(self._iterator)
        finally:
            current_request.reset(token)
        self._context.sent_bytes += len(part)
        return part

    def close(self) -> None:
        """Close the parts, and end the request (PEP 3333)."""
        token = current_request.set(self._context)
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            self._end(self._context)
            current_request.reset(token)


def send(context: RequestContext, response: Response, start_response: Any) -> Iterable[bytes]:
    """Send a response through WSGI."""
    headers, body = response.headers, response.body
    if isinstance(body, bytes) and response.status not in BODILESS:
        headers = [*headers, ("Content-Length", str(len(body)))]
    start_response(status_line(response.status), headers)
    if not isinstance(body, bytes):
        return body
    return [b"" if response.status in BODILESS or context.environ["REQUEST_METHOD"] == "HEAD" else body]
