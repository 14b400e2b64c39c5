"""Read the body of a request: decompressed, limited, whole or in parts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from werkzeug.wsgi import get_input_stream

from app.errors import BodyTooLarge, IncompleteBody
from app.gateway.wsgi import rewind
from app.wire.coding import coding_of, decompress

CHUNK_BYTES = 1 << 20
PART_BYTES = 1 << 16
LIMIT_OF_FLASK = "retort.body_limit_bytes"
"""Key of the environ for the limit that a user has set by `MAX_CONTENT_LENGTH`, in bytes."""


def read(environ: dict[str, Any], limit_bytes: int) -> bytes:
    """Return the whole body of the request in a WSGI environ.

    This does not use `request.get_data()`: with `MAX_CONTENT_LENGTH` it truncates a body without Content-Length at the
    limit and returns it as if it were whole (Werkzeug 3.1's `LimitedStream.readall`).

    Raises:
        BodyTooLarge: the body is longer than the limit. Raised before reading if Content-Length says so.
        IncompleteBody: the body ended before its declared length.
        UnsupportedMediaType, InvalidBody: the coding is unknown, or the body is not in it.
    """
    limit_bytes = _prepared(environ, limit_bytes)
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding is not None and (coding := coding_of(encoding)):
        return _joined(decompress(_parts(environ, limit_bytes), coding, limit_bytes))
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdigit() and "HTTP_TRANSFER_ENCODING" not in environ:
        if len(length) > 18 or int(length) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        body: bytes = environ["wsgi.input"].read(int(length))
        if len(body) < int(length):
            raise IncompleteBody
        return body
    return _joined(_parts(environ, limit_bytes))


def _prepared(environ: dict[str, Any], limit_bytes: int) -> int:
    """Go to the beginning of the body, and return the limit of its length."""
    rewind(environ)
    of_flask: int | None = environ.get(LIMIT_OF_FLASK)
    return limit_bytes if of_flask is None else min(limit_bytes, of_flask)


def _joined(pieces: Iterable[bytes]) -> bytes:
    """Join pieces without keeping all of them beside the whole."""
    whole = io.BytesIO()
    for piece in pieces:
        whole.write(piece)
    return whole.getvalue()


def parts(environ: dict[str, Any], limit_bytes: int) -> Iterator[bytes]:
    """Return the body in parts of bounded length as it arrives. Raises the errors of `read`, some of them midway."""
    limit_bytes = _prepared(environ, limit_bytes)
    coding = coding_of(environ.get("HTTP_CONTENT_ENCODING", ""))
    received = _parts(environ, limit_bytes, PART_BYTES)
    return decompress(received, coding, limit_bytes) if coding else received


def _parts(environ: dict[str, Any], limit_bytes: int, part_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isdigit() and (len(length) > 18 or int(length) > limit_bytes):
        raise BodyTooLarge(limit_bytes)
    size_bytes = 0
    stream = get_input_stream(environ)
    while chunk := stream.read(part_bytes):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        yield chunk
    if length.isdigit() and "HTTP_TRANSFER_ENCODING" not in environ and size_bytes < int(length):
        raise IncompleteBody
