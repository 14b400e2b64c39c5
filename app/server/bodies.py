"""Request bodies as they arrive: by length or in chunks, into memory or a file, within the limits."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import IO, Any

from gunicorn.http.body import CHUNK_EXT_RE
from gunicorn.http.errors import (
    ChunkMissingTerminator,
    InvalidChunkExtension,
    InvalidChunkSize,
    InvalidHeader,
    LimitRequestHeaders,
)

from app.server import refusals
from app.server.contract import Environ, Refusal
from app.server.limits import Limits

WHOLE_BODY = "retort.body"
"""Key of the environ for a body that was received in parts. The worker closes it at the end of the request."""
HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
CHUNK_SIZE_DIGITS = 16
EXTENSION_BYTES = 16 * 1024
"""Limit of all chunk extensions of a body together. They are ignored, but to check them takes time."""
CARRIAGE_RETURN = 13
CLIENT_SHARE = 0.5
"""Share of the space for bodies in files that one client may use."""
DISK_SHARE = 0.8
"""Share of the temporary folder's free space that bodies in files may use."""


class BodyRefused(Exception):
    """The body is over a limit, or there is no space for it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


@dataclass(slots=True)
class Store:
    """Space for all bodies of one process: in memory while they are received, in files until the files are closed.

    The bodies of one client may use `CLIENT_SHARE` of the space for files. Belongs to the loop's thread.
    """

    spool_bytes: int
    in_memory_bytes: int
    in_files_bytes: int = 2**40
    one_body_bytes: int = 0
    """Length of the longest body. A client may have one such body in a file even beyond its share."""
    held_bytes: int = 0
    spooled_bytes: int = 0
    by_client: dict[Hashable, int] = field(default_factory=dict)
    """Bytes in files, by client."""
    closed: deque[tuple[Hashable, int]] = field(default_factory=deque)
    """Files that any thread has closed: client and bytes."""
    _most_bytes: int = 0

    def open(self) -> IO[bytes]:
        """Return a new temporary file."""
        folder = os.statvfs(tempfile.gettempdir())
        free_bytes = folder.f_bavail * folder.f_frsize
        self._most_bytes = min(self.in_files_bytes, int((free_bytes + self.spooled_bytes) * DISK_SHARE))
        return tempfile.TemporaryFile("w+b", buffering=1 << 16, prefix="retort-body-")

    def reserve(self, client: Hashable, count: int) -> None:
        """Reserve space in files for bytes of a client.

        Raises:
            BodyRefused: there is no space.
        """
        while self.closed:
            self.release(*self.closed.popleft())
        of_client_bytes = self.by_client.get(client, 0) + count
        if of_client_bytes > max(self._most_bytes * CLIENT_SHARE, self.one_body_bytes):
            raise BodyRefused(refusals.CLIENT_HAS_NO_ROOM)
        if self.spooled_bytes + count > self._most_bytes:
            raise BodyRefused(refusals.NO_ROOM)
        self.by_client[client] = of_client_bytes
        self.spooled_bytes += count

    def release(self, client: Hashable, count: int) -> None:
        """Release reserved space."""
        self.spooled_bytes -= count
        self.by_client[client] -= count
        if not self.by_client[client]:
            del self.by_client[client]


class RequestBody:
    """The body of one request while it is received: in memory up to the store's limits, else in a temporary file."""

    def __init__(self, store: Store, client: Hashable = None) -> None:
        self._store = store
        self._client = client
        self._spooled_bytes = 0
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.size_bytes = 0

    def feed(self, received: bytes) -> bytes | None:
        """Take the bytes that belong to the body. Return the bytes after it, or None while it is incomplete.

        The result does not depend on how the bytes are divided into calls.

        Raises:
            BodyRefused: the body is over a limit, or there is no space for it.
            ParseException: an error of Gunicorn's parser.
            OSError: the file of the body cannot be written.
        """
        raise NotImplementedError

    def _write(self, part: bytes) -> None:
        self.size_bytes += len(part)
        store = self._store
        if self._file is not None:
            self._spool(part)
            return
        self._parts.append(part)
        store.held_bytes += len(part)
        if self.size_bytes > store.spool_bytes or store.held_bytes > store.in_memory_bytes:
            self._file = store.open()
            for received in self._parts:
                self._spool(received)
            self._forget_parts()

    def _spool(self, part: bytes) -> None:
        self._store.reserve(self._client, len(part))
        self._spooled_bytes += len(part)
        if self._file is not None:
            self._file.write(part)

    def finish(self) -> IO[bytes]:
        """Return the whole body, at its beginning; the caller closes it.

        Raises:
            OSError: the disk has no space for the last bytes.
        """
        if self._file is not None:
            self._file.seek(0)
            whole, self._file = self._file, None
            closed = weakref.finalize(whole, self._store.closed.append, (self._client, self._spooled_bytes))
            closed.atexit = False
            self._spooled_bytes = 0
            return whole
        memory = io.BytesIO(b"".join(self._parts))
        self._forget_parts()
        return memory

    def discard(self) -> None:
        """Free the memory and the file. May be called at any time."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # closing writes the buffer, for which there may be no space
                file.close()
        if self._spooled_bytes:
            self._store.release(self._client, self._spooled_bytes)
            self._spooled_bytes = 0
        self._forget_parts()

    def _forget_parts(self) -> None:
        self._store.held_bytes -= sum(map(len, self._parts))
        self._parts = []


class LengthBody(RequestBody):
    """A body with a declared length, which is within the limit."""

    def __init__(self, length_bytes: int, store: Store, client: Hashable = None) -> None:
        super().__init__(store, client)
        self._left_bytes = length_bytes

    def feed(self, received: bytes) -> bytes | None:
        """Take up to the declared length."""
        part = received if len(received) <= self._left_bytes else received[: self._left_bytes]
        self._write(part)
        self._left_bytes -= len(part)
        return None if self._left_bytes else received[len(part) :]


class ChunkedBody(RequestBody):
    """A body in chunks: the grammar and limits of Gunicorn's `ChunkedReader`, and the limits of this worker.

    `head_request` is Gunicorn's request, which parses the trailers. `limit_bytes` is the limit at the request's path.
    Source: RFC 9112 section 7.1.
    """

    def __init__(self, head_request: Any, limits: Limits, store: Store, client: Hashable, limit_bytes: int) -> None:
        super().__init__(store, client)
        self._request = head_request
        self._line_bytes = head_request.limit_request_field_size
        self._section_bytes = min(head_request.max_buffer_headers, limits.head_bytes)
        self._limits = limits
        self._limit_bytes = self._allowed_bytes = limit_bytes
        self._chunks_left = limits.body_chunks
        self._extension_bytes_left = EXTENSION_BYTES
        self._left_bytes = 0  # unread bytes of the present chunk
        self._searched_bytes = 0  # bytes of the trailers that were searched for their end
        self._pending = b""  # an incomplete line
        self._is_whole = False
        self._state = self._read_size

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

    def _read_size(self, received: bytes, at: int) -> int:
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
        self._allowed_bytes -= size_bytes
        if self._allowed_bytes < 0:
            raise BodyRefused(refusals.body_too_large(self._limits, self._limit_bytes))
        if self._chunks_left < 0:
            raise BodyRefused(refusals.too_many_chunks(self._limits))
        self._left_bytes = size_bytes
        self._state = self._read_content if size_bytes else self._read_trailers
        return end + 2 if size_bytes else self._read_trailers(received, end + 2)

    def _read_content(self, received: bytes, at: int) -> int:
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
        self._state = self._read_size
        return end + 2

    def _read_trailers(self, received: bytes, at: int) -> int:
        if received[at : at + 2] == b"\r\n":
            self._is_whole = True
            return at + 2
        # Search each byte only once. Otherwise a client that sends byte by byte would be costly.
        searched = at + self._searched_bytes
        end = received.find(b"\r\n\r\n", max(at, searched - 3))
        if end < 0:
            if len(received) - at > self._section_bytes:
                raise LimitRequestHeaders("limit request trailer section size")
            begin = searched - 1 if searched > at and received[searched - 1] == CARRIAGE_RETURN else searched
            if received.count(b"\n", begin) != received.count(b"\r\n", begin):
                raise InvalidHeader("bare LF as line terminator")
            self._searched_bytes = len(received) - at
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
    """Close a request's body that was received in parts, even if a middleware has replaced `wsgi.input`."""
    body = environ.get(WHOLE_BODY)
    if body is not None:
        body.close()
