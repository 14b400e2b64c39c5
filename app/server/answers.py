"""Answers: check the status and headers of a WSGI response or a `Response`, make its bytes, and send them."""

from __future__ import annotations

import array
import fcntl
import functools
import socket
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from gunicorn import SERVER, util
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName
from gunicorn.http.message import TOKEN_RE
from gunicorn.http.wsgi import HEADER_VALUE_RE, STATUS_RE

from app.server.contract import Headers, Response, status_line

NO_BODY, NO_LENGTH = 1, 2
"""Restrictions of a status (RFC 9110 section 6.4.1): 304 has no body; 1xx and 204 have no length either."""
HOP_BY_HOP = "hop-by-hop"
KNOWN_LIMIT = 2048
LAST_CHUNK = b"0\r\n\r\n"
JOIN_BYTES = 65536
"""Up to this size, joining head and body is cheaper than passing the kernel a list of buffers."""
BUFFERS_PER_CALL = 64

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

_names: dict[str, str] = {}
"""Cache of valid field names: the name in lower case, or HOP_BY_HOP."""


@dataclass(slots=True, eq=False)
class WsgiAnswer:
    """The answer to one request, with the values that `start_response` received. Not thread-safe."""

    is_head: bool
    status: str = ""
    headers: Sequence[tuple[str, str]] = ()
    length_bytes: int | None = None
    omits_body: bool = False
    chunked: bool = False
    started: bool = False  # the head was passed on for sending
    sent: int = 0  # bytes of body; Gunicorn's access log reads this name
    written: list[bytes] | None = None

    def start_response(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Callable[[bytes], None]:
        """Check and keep the status and headers (PEP 3333).

        Raises:
            InvalidResponseHeader, InvalidResponseHeaderName: a header is not valid in HTTP.
        """
        if exc_info is not None:
            try:
                if self.started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise AssertionError("start_response was called twice")
        restriction = _restriction(status)
        self.status = status
        self.omits_body = self.is_head or restriction > 0
        self._set_headers(headers, forbids_length=restriction == NO_LENGTH)
        return self.write

    def write(self, part: bytes) -> None:
        """Send a part of the body before the parts that the application returns (`write` of PEP 3333)."""
        if self.written is None:
            self.written = []
        self.written.append(part)

    def _set_headers(self, headers: Headers, forbids_length: bool) -> None:
        kept = headers
        self.length_bytes = None
        try:
            are_valid = HEADER_VALUE_RE.fullmatch(" ".join([value for _, value in headers])) is not None
        except TypeError:
            are_valid = False
        if not are_valid:
            _refuse_values(headers)
        for name, value in headers:
            lower = _names.get(name) or _check_name(name)
            if lower == "content-length":
                self.length_bytes = None if forbids_length else int(value)
                if forbids_length:
                    kept = [field for field in kept if field[0].lower() != "content-length"]
            elif lower is HOP_BY_HOP:
                # Make a new list: this one belongs to the application.
                kept = [field for field in kept if field[0] != name]
        self.headers = kept


@functools.lru_cache(KNOWN_LIMIT)
def _restriction(status: str) -> int:
    """Return 0, NO_BODY or NO_LENGTH for a status line."""
    if not STATUS_RE.fullmatch(status):
        raise ValueError(f"{status!r} is not a status")
    code = status[:3]
    return NO_LENGTH if code == "204" or code < "200" else NO_BODY if code == "304" else 0


def _refuse_values(headers: Headers) -> NoReturn:
    for name, value in headers:
        if not isinstance(value, str):
            raise TypeError(f"the value of {name!r} is not a string")
        if not HEADER_VALUE_RE.fullmatch(value):
            raise InvalidResponseHeader(repr(name))  # without the value, which may be a secret
    raise AssertionError("no value is at fault")


def _check_name(name: str) -> str:
    """Return a valid field name in lower case, or HOP_BY_HOP, and cache the result."""
    if not TOKEN_RE.fullmatch(name):
        raise InvalidResponseHeaderName(repr(name))
    lower = HOP_BY_HOP if util.is_hoppish(name) else name.lower()
    if len(_names) < KNOWN_LIMIT:
        _names[name] = lower
    return lower


class CommonHeaders:
    """The header lines that every response has, made once a second. Belongs to the loop's thread."""

    _until_s = float("-inf")
    close = keep_alive = ""

    def refresh(self, now_s: float) -> None:
        """Set the date; `now_s` is monotonic."""
        if now_s >= self._until_s:
            wall_s = time.time()
            self._until_s = now_s + 1.0 - wall_s % 1.0
            shared = f"\r\nServer: {SERVER}\r\nDate: {util.http_date(wall_s)}\r\nConnection: "
            self.keep_alive, self.close = f"{shared}keep-alive\r\n", f"{shared}close\r\n"


def head(answer: WsgiAnswer, protocol: str, shared: str) -> bytes:
    """Build the head of an answer; `shared` is one of the texts of `CommonHeaders`."""
    framing = "Transfer-Encoding: chunked\r\n\r\n" if answer.chunked else "\r\n"
    fields = "".join([f"{name}: {value}\r\n" for name, value in answer.headers])
    version = "HTTP/1.0" if protocol == "HTTP/1.0" else "HTTP/1.1"  # RFC 9110 section 2.5: the latest known here
    return f"{version} {answer.status}{shared}{fields}{framing}".encode("latin-1")


def chunk(part: bytes) -> bytes:
    """Frame one part of a body of unknown length (RFC 9112 section 7.1)."""
    return b"%X\r\n%b\r\n" % (len(part), part)


def set_head(answer: WsgiAnswer, response: Response) -> None:
    """Check and keep the status and headers of a response; raises the errors of `start_response`."""
    answer.start_response(status_line(response.status), response.headers)


def allowed_part(answer: WsgiAnswer, part: bytes) -> bytes:
    """Return the bytes of a part that may be sent: none if the answer has no body, and never more than declared."""
    if not isinstance(part, bytes):
        raise TypeError(f"a part of the body is a {type(part).__name__}, not bytes")
    if answer.omits_body:
        return b""
    if answer.length_bytes is not None and answer.sent + len(part) > answer.length_bytes:
        part = part[: answer.length_bytes - answer.sent]
    answer.sent += len(part)
    return part


def in_order(answer: WsgiAnswer, app_iter: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of a body in order. Parts that were passed to `write` come before the next returned part."""
    for part in app_iter:
        if answer.written:
            written, answer.written = answer.written, None
            yield from written
        yield part
    if answer.written:
        yield from answer.written


def complete_body(answer: WsgiAnswer, parts: Sequence[bytes]) -> bytes:
    """Return a whole body, and add its length to the headers if the application has not set it.

    Raises:
        AssertionError: the application has violated PEP 3333.
    """
    if not answer.status:
        raise AssertionError("the application did not call start_response")
    body = allowed_part(answer, parts[0] if len(parts) == 1 else b"".join(parts))
    if answer.length_bytes is None:
        if not answer.omits_body:
            answer.headers = [*answer.headers, ("Content-Length", str(len(body)))]
            answer.length_bytes = len(body)
    elif answer.sent < answer.length_bytes and not answer.omits_body:
        raise AssertionError(f"the application declared {answer.length_bytes} bytes and gave {answer.sent}")
    return body


def whole_body(answer: WsgiAnswer, response: Response) -> bytes:
    """Set the head of an answer from a response whose body is whole, and return that body.

    Raises:
        TypeError: the body is an iterator.
        Exception: an error of `set_head` or `complete_body`.
    """
    body = response.body
    if not isinstance(body, bytes):
        close(body)
        raise TypeError(f"the body of this response must be bytes, not {type(body).__name__}")
    set_head(answer, response)
    return complete_body(answer, (body,))


def close(body: Any) -> None:
    """Close a body, if it can be closed (PEP 3333)."""
    if hasattr(body, "close"):
        body.close()


class SendQueue(deque[memoryview]):
    """The bytes for one client that the kernel has not accepted yet. Belongs to the loop's thread.

    It also counts the bytes that the client has read.
    """

    __slots__ = ("_read_bytes", "_sent_bytes", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._sent_bytes = 0  # accepted by the kernel
        self._read_bytes = 0  # sent bytes that the client's kernel has acknowledged

    def keep(self, *parts: bytes | memoryview) -> None:
        """Append bytes, to be sent by `flush`."""
        self.extend(memoryview(part) for part in parts if part)

    def send(self, head: bytes, body: bytes) -> int:
        """Send as much as the kernel accepts now, keep the rest, and return the number of bytes sent.

        Raises:
            OSError: the client is gone.
        """
        try:
            if len(body) <= JOIN_BYTES:
                head, body = head + body if body else head, b""
                sent_bytes = self._sock.send(head)
            else:
                sent_bytes = self._sock.sendmsg((head, body))
        except (BlockingIOError, InterruptedError):
            sent_bytes = 0
        if sent_bytes < len(head):
            self.keep(memoryview(head)[sent_bytes:], body)
        elif sent_bytes < len(head) + len(body):
            self.keep(memoryview(body)[sent_bytes - len(head) :])
        self._sent_bytes += sent_bytes
        return sent_bytes

    def flush(self) -> int:
        """Send as many kept bytes as the kernel accepts now, and return the number of bytes sent.

        Raises:
            OSError: the client is gone.
        """
        sent_bytes = 0
        while self:
            try:
                sent = self._sock.sendmsg([self[at] for at in range(min(len(self), BUFFERS_PER_CALL))])
            except (BlockingIOError, InterruptedError):
                break
            sent_bytes += sent
            while self and sent >= len(self[0]):
                sent -= len(self.popleft())
            if sent:
                self[0] = self[0][sent:]
        self._sent_bytes += sent_bytes
        return sent_bytes

    def newly_read_bytes(self) -> int:
        """Return how many bytes the client has read since the last call.

        The kernel reports free space only when a third of its buffer is free. A slow client may take minutes to read so
        much. So count the bytes that the client's kernel has acknowledged.
        """
        read_bytes = max(self._read_bytes, self._sent_bytes - unacknowledged_bytes(self._sock))
        newly_bytes, self._read_bytes = read_bytes - self._read_bytes, read_bytes
        return newly_bytes


def unacknowledged_bytes(sock: socket.socket) -> int:
    """Return how many sent bytes the other end has not acknowledged (SIOCOUTQ; tcp(7), unix(7))."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    return count[0]
