"""Reads a request's body whole, or refuses it."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from app.errors import BodyTooLarge, UnsupportedMediaType

CHUNK_BYTES = 1 << 20


def read(environ: dict[str, Any], limit_bytes: int) -> bytes:
    """The whole body of the request in a WSGI environ.

    `request.get_data()` is not used: with `MAX_CONTENT_LENGTH` it cuts a body that has no Content-Length at the limit
    and hands it on as if it were whole (Werkzeug 3.1's `LimitedStream.readall`).

    Raises:
        BodyTooLarge: it is longer than the limit; at once where its length is declared.
        ClientDisconnected: it ended before its declared length.
        UnsupportedMediaType: it is compressed.
    """
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType(encoding[:100], ["identity"], header="Content-Encoding")
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdigit() and "HTTP_TRANSFER_ENCODING" not in environ:
        if len(length) > 18 or int(length) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        body: bytes = environ["wsgi.input"].read(int(length))
        if len(body) < int(length):
            raise ClientDisconnected
        return body
    chunks = []
    size_bytes = 0
    stream = get_input_stream(environ)
    while chunk := stream.read(CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)
