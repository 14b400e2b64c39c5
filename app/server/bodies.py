"""Request bodies while they are received: by length or in chunks, into memory or a file, never longer than allowed."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from typing import IO, Any

from gunicorn.http.body import CHUNK_EXT_RE
from gunicorn.http.errors import (
    ChunkMissingTerminator,
    InvalidChunkExtension,
    InvalidChunkSize,
    InvalidHeader,
    LimitRequestHeaders,
)

from app.server.contract import Environ
from app.server.limits import Limits

HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
CHUNK_SIZE_DIGITS = 16
EXTENSION_BYTES = 16 * 1024
"""Of all chunk extensions of a body together: nobody reads them, and checking them takes time."""
CARRIAGE_RETURN = 13


class TooLong(Exception):
    """The body is longer than the server reads."""


class TooManyChunks(Exception):
    """The body has more chunks than the server reads, however short they are."""


@dataclass(slots=True)
class Store:
    """The bodies that one process is receiving into memory, together; belongs to the loop's thread."""

    spool_bytes: int
    in_memory_bytes: int
    held_bytes: int = 0


class RequestBody:
    """The body of one request while it is received: in memory up to the store's limits, else in a temporary file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.size_bytes = 0

    def feed(self, received: bytes) -> bytes | None:
        """Take what belongs to the body; return what follows it, or None while it is incomplete.

        Feeding it in any number of pieces gives the same verdict.

        Raises:
            TooLong, TooManyChunks: it is over a limit.
            ParseException: one of Gunicorn's.
            OSError: there is no room for it.
        """
        raise NotImplementedError

    def _write(self, part: bytes) -> None:
        self.size_bytes += len(part)
        if self._file is not None:
            self._file.write(part)
            return
        store = self._store
        self._parts.append(part)
        store.held_bytes += len(part)
        if self.size_bytes > store.spool_bytes or store.held_bytes > store.in_memory_bytes:
            self._file = tempfile.TemporaryFile("w+b", buffering=1 << 16, prefix="retort-body-")  # noqa: SIM115
            self._file.writelines(self._parts)
            self._forget()

    def finish(self) -> IO[bytes]:
        """Return the whole body, at its beginning; the caller closes it.

        Raises:
            OSError: there is no room for its end.
        """
        if self._file is not None:
            self._file.seek(0)
            whole, self._file = self._file, None
            return whole
        memory = io.BytesIO(b"".join(self._parts))
        self._forget()
        return memory

    def discard(self) -> None:
        """Free the storage; may be called at any time."""
        spooled, self._file = self._file, None
        if spooled is not None:
            with contextlib.suppress(OSError):  # closing writes what is buffered, for which there may be no room
                spooled.close()
        self._forget()

    def _forget(self) -> None:
        self._store.held_bytes -= sum(map(len, self._parts))
        self._parts = []


class LengthBody(RequestBody):
    """A body whose length was declared, and is within the limit."""

    def __init__(self, length_bytes: int, store: Store) -> None:
        super().__init__(store)
        self._left_bytes = length_bytes

    def feed(self, received: bytes) -> bytes | None:
        """Take up to the declared length."""
        part = received if len(received) <= self._left_bytes else received[: self._left_bytes]
        self._write(part)
        self._left_bytes -= len(part)
        return None if self._left_bytes else received[len(part) :]


class ChunkedBody(RequestBody):
    """A body in chunks: the grammar and limits of Gunicorn's `ChunkedReader`, and the limits of this worker.

    `head_request` is Gunicorn's request, which parses the trailers. Source: RFC 9112 section 7.1.
    """

    def __init__(self, head_request: Any, limits: Limits, store: Store) -> None:
        super().__init__(store)
        self._request = head_request
        self._line_bytes = head_request.limit_request_field_size
        self._section_bytes = min(head_request.max_buffer_headers, limits.head_bytes)
        self._limit_bytes = limits.body_bytes
        self._chunks_left = limits.body_chunks
        self._extension_bytes_left = EXTENSION_BYTES
        self._left_bytes = 0  # of the chunk that is being read
        self._looked_bytes = 0  # of the trailers
        self._pending = b""  # a line that has not ended
        self._is_whole = False
        self._state = self._size

    def feed(self, received: bytes) -> bytes | None:
        """Take chunks and trailers."""
        if self._pending:
            received, self._pending = self._pending + received, b""
        before, at = -1, 0
        while at != before:
            before, at = at, self._state(received, at)
            if self._is_whole:
                return received[at:]
        self._pending = received[at:]
        return None

    def _size(self, received: bytes, at: int) -> int:
        end = received.find(b"\r\n", at)
        if end < 0:
            if len(received) - at > self._line_bytes:
                raise InvalidChunkSize(b"line over %d bytes with no terminator" % self._line_bytes)
            return at
        self._extension_bytes_left -= max(0, end - at - CHUNK_SIZE_DIGITS)
        if self._extension_bytes_left < 0:
            raise InvalidChunkExtension("the extensions are too long")
        size_bytes = _chunk_size(received[at:end])
        if end - at > self._line_bytes:
            raise InvalidChunkSize(b"line over %d bytes" % self._line_bytes)
        self._chunks_left -= 1
        self._limit_bytes -= size_bytes
        if self._limit_bytes < 0:
            raise TooLong
        if self._chunks_left < 0:
            raise TooManyChunks
        self._left_bytes = size_bytes
        self._state = self._content if size_bytes else self._trailers
        return end + 2 if size_bytes else self._trailers(received, end + 2)

    def _content(self, received: bytes, at: int) -> int:
        part = received[at : at + self._left_bytes]
        if part:
            self._write(part)
            self._left_bytes -= len(part)
        end = at + len(part)
        if self._left_bytes:
            return end
        ending = received[end : end + 2]
        if ending != b"\r\n"[: len(ending)]:
            raise ChunkMissingTerminator(ending)
        if len(ending) < 2:
            return end
        self._state = self._size
        return end + 2

    def _trailers(self, received: bytes, at: int) -> int:
        if received[at : at + 2] == b"\r\n":
            self._is_whole = True
            return at + 2
        # Look at each byte once, or a client that sends byte by byte would be costly.
        looked = at + self._looked_bytes
        end = received.find(b"\r\n\r\n", max(at, looked - 3))
        if end < 0:
            if len(received) - at > self._section_bytes:
                raise LimitRequestHeaders("limit request trailer section size")
            begin = looked - 1 if looked > at and received[looked - 1] == CARRIAGE_RETURN else looked
            if received.count(b"\n", begin) != received.count(b"\r\n", begin):
                raise InvalidHeader("bare LF as line terminator")
            self._looked_bytes = len(received) - at
            return at
        self._request.parse_headers(received[at:end], from_trailer=True)
        self._is_whole = True
        return end + 4


def _chunk_size(line: bytes) -> int:
    size, semicolon, extension = line.partition(b";")
    if semicolon:
        if b"\r" in extension:
            raise InvalidChunkExtension("bare CR not allowed")
        size = size.rstrip(b" \t")
    if not size or not HEX_DIGITS.issuperset(size):
        raise InvalidChunkSize(size)
    if semicolon and not CHUNK_EXT_RE.fullmatch(b";" + extension):
        raise InvalidChunkExtension("invalid chunk extension")
    return int(size, 16)


def close_body(environ: Environ) -> None:
    """Close a request's body that is in a file."""
    body = environ.get("wsgi.input")
    if body is not None and not isinstance(body, io.BytesIO):
        body.close()
