"""Bodies in WSGI (PEP 3333): response bodies, whole or in parts, and request bodies that can be read twice."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from app.gateway.context import RequestContext
from app.server.contract import Environ, Response, status_line
from app.telemetry import current_request

BODILESS = (204, 304)
INPUT = "wsgi.input"


class BodyInParts:
    """A response body in parts. Its request is the current one while each part is made."""

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


class KeptBody(io.IOBase):
    """A request body that user code may read first; the view then reads it again from its beginning.

    It never reads more bytes of the server's stream than the caller asks for: some servers wait for bytes beyond the
    body.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._kept = io.BytesIO()
        self._keeps = True

    def seekable(self) -> bool:
        """Return True: it can go to its beginning, once."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to the beginning.

        Raises:
            OSError: the position is not the beginning, or this is the second call.
        """
        if offset or whence != io.SEEK_SET or not self._keeps:
            raise io.UnsupportedOperation("a body can only be read again once, from its beginning")
        self._keeps = False
        return self._kept.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes; all if `size` is negative or None."""
        kept = b"" if self._keeps else self._kept.read(size)
        if size is None or size < 0:
            return kept + self._keep(self._stream.read())
        return kept if len(kept) == size else kept + self._keep(self._stream.read(size - len(kept)))

    def readline(self, size: int | None = -1) -> bytes:
        """Read one line, or up to `size` bytes of it."""
        if self._keeps:
            return self._keep(self._stream.readline() if size is None or size < 0 else self._stream.readline(size))
        line = self._kept.readline(size)
        if line.endswith(b"\n") or (size is not None and 0 <= size <= len(line)):
            return line
        rest: bytes = self._stream.readline() if size is None or size < 0 else self._stream.readline(size - len(line))
        return line + rest

    def _keep(self, part: bytes) -> bytes:
        if self._keeps:
            self._kept.write(part)
        return part


def keep_body(environ: Environ) -> None:
    """Make the body of a request readable twice, unless it already is."""
    if INPUT in environ and not _is_seekable(environ[INPUT]):
        environ[INPUT] = KeptBody(environ[INPUT])


def rewind(environ: Environ) -> None:
    """Go to the beginning of the body, which a hook may have read: `request.get_json()`, `request.form`."""
    if _is_seekable(environ[INPUT]):
        environ[INPUT].seek(0)


def _is_seekable(stream: Any) -> bool:
    return hasattr(stream, "seekable") and bool(stream.seekable())
