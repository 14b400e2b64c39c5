"""Reads a request's body whole, or refuses it."""

from __future__ import annotations

from flask import Request

from app.errors import BodyTooLarge, UnsupportedMediaType

CHUNK_BYTES = 1 << 20


def read(request: Request, limit_bytes: int) -> bytes:
    """The whole body.

    `request.get_data()` is not used: with `MAX_CONTENT_LENGTH` it cuts a body that has no Content-Length at the limit
    and hands it on as if it were whole (Werkzeug 3.1's `LimitedStream.readall`).

    Raises:
        BodyTooLarge: it is longer than the limit; at once where its length is declared.
        UnsupportedMediaType: it is compressed.
    """
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType(encoding[:100], ["identity"], header="Content-Encoding")
    if (request.content_length or 0) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    chunks = []
    size_bytes = 0
    while chunk := request.stream.read(CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)
