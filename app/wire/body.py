"""Read and decompress request bodies within a limit; compress responses, whole or in parts.

Content codings: RFC 9110 sections 8.4 and 12.5.3. Python has gzip and deflate; zstd (RFC 8878) needs Python 3.14 or
backports.zstd.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header
from werkzeug.wsgi import get_input_stream

from app.errors import BodyTooLarge, IncompleteBody, InvalidBody, NotAcceptable, UnsupportedMediaType
from app.gateway.wsgi import rewind

CHUNK_BYTES = 1 << 20
PART_BYTES = 1 << 16
LIMIT_OF_FLASK = "retort.body_limit_bytes"
"""Key of the environ for the limit in bytes that a user has set with `MAX_CONTENT_LENGTH`."""
DECODER_INPUT_BYTES = {"zstd": 256, "gzip": 1024, "deflate": 1024}
"""Compressed bytes for each call of a decoder. They limit its result to 8 MiB: zstd can make 128 KiB of 4 bytes, gzip
and deflate 1032 bytes of one."""
ZSTD_WINDOW_LOG = 23
"""Base-2 logarithm of the largest window, in bytes, that RFC 9659 allows for zstd."""
MAX_MEMBERS = 1000
MIN_COMPRESSED_BYTES = 1024
LEVEL, ZSTD_LEVEL = 4, 3
GZIP_BITS, ZLIB_BITS, RAW_BITS = 31, 15, -15


def read(environ: dict[str, Any], limit_bytes: int) -> bytes:
    """Return the whole body of the request in a WSGI environ.

    This does not use `request.get_data()`: with `MAX_CONTENT_LENGTH` it truncates a body without Content-Length at the
    limit and returns it as if it were whole (Werkzeug 3.1's `LimitedStream.readall`).

    Raises:
        BodyTooLarge: the body is longer than the limit. A Content-Length above the limit raises it before reading.
        IncompleteBody: the body ended before its declared length.
        UnsupportedMediaType: the content coding is not supported.
        InvalidBody: the body is not in its content coding.
    """
    limit_bytes = _rewind_within(environ, limit_bytes)
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding is not None and (coding := coding_of(encoding)):
        return _join(decompress(_parts(environ, limit_bytes), coding, limit_bytes))
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdigit() and "HTTP_TRANSFER_ENCODING" not in environ:
        if len(length) > 18 or int(length) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        body: bytes = environ["wsgi.input"].read(int(length))
        if len(body) < int(length):
            raise IncompleteBody
        return body
    return _join(_parts(environ, limit_bytes))


def _rewind_within(environ: dict[str, Any], limit_bytes: int) -> int:
    """Rewind the body, and return the smaller of the limit and Flask's own."""
    rewind(environ)
    flask_limit_bytes: int | None = environ.get(LIMIT_OF_FLASK)
    return limit_bytes if flask_limit_bytes is None else min(limit_bytes, flask_limit_bytes)


def _join(pieces: Iterable[bytes]) -> bytes:
    """Join pieces without holding them all in memory beside the result."""
    whole = io.BytesIO()
    for piece in pieces:
        whole.write(piece)
    return whole.getvalue()


def parts(environ: dict[str, Any], limit_bytes: int) -> Iterator[bytes]:
    """Yield the body as it arrives, in non-empty parts of at most `PART_BYTES`.

    Raises:
        The errors of `read`, some of them between parts.
    """
    limit_bytes = _rewind_within(environ, limit_bytes)
    coding = coding_of(environ.get("HTTP_CONTENT_ENCODING", ""))
    received = _parts(environ, limit_bytes, PART_BYTES)
    return _split(decompress(received, coding, limit_bytes), PART_BYTES) if coding else received


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


def _zstd_library() -> Any:
    """Return Python's zstd module, else its backport, else None."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    return None


zstd = _zstd_library()


def codings() -> list[str]:
    """Return the supported content codings, best first."""
    return [*(["zstd"] if zstd else []), "gzip", "deflate"]


def coding_of(content_encoding: str) -> str:
    """Return the single coding of a request's body; empty if there is none.

    Raises:
        UnsupportedMediaType: the coding is not supported, or there are several codings.
    """
    name = content_encoding.strip().lower()
    name = {"x-gzip": "gzip", "identity": ""}.get(name, name)
    if name and name not in codings():
        because = "this server lacks backports-zstd: its operator can pip install backports-zstd" * (name == "zstd")
        because = because or "one coding is taken, not several" * ("," in name)
        allowed = [*codings(), "identity"]
        raise UnsupportedMediaType(content_encoding[:100], allowed, "Content-Encoding", because)
    return name


def decompress(parts: Iterable[bytes], coding: str, limit_bytes: int) -> Iterator[bytes]:
    """Yield the decompressed body in pieces of bounded length.

    Raises:
        InvalidBody: the body is damaged, ends too early, or has bytes after its end.
        BodyTooLarge: the body is longer than the limit.
    """
    size_bytes = members = 0
    decoder: Any = None
    damage: type[Exception] = zstd.ZstdError if coding == "zstd" else zlib.error
    try:
        for part in _split(parts, DECODER_INPUT_BYTES[coding]):
            rest = part
            while rest:
                if decoder is None or decoder.eof:  # gzip and zstd may have several members (RFC 1952 section 2.2)
                    members += 1
                    if members > (1 if coding == "deflate" else MAX_MEMBERS):
                        raise InvalidBody(coding, "there are bytes after its end")
                    decoder = _decoder(coding, rest)
                piece = decoder.decompress(rest)
                rest = decoder.unused_data
                size_bytes += len(piece)
                if size_bytes > limit_bytes:
                    raise BodyTooLarge(limit_bytes)
                yield piece
    except damage:
        window = ", or needs a window of more than 8 MiB" * (coding == "zstd")
        raise InvalidBody(coding, "it is damaged" + window) from None
    if decoder is None or not decoder.eof:
        raise InvalidBody(coding, "it ends too early")


def _split(parts: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    for part in parts:
        for at in range(0, len(part), most_bytes):
            yield part[at : at + most_bytes]


def _decoder(coding: str, start: bytes) -> Any:
    """Return a decoder for one member, which begins with these bytes."""
    if coding == "zstd":
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})
    if coding == "gzip":
        return zlib.decompressobj(GZIP_BITS)
    # Some clients send deflate without zlib's header.
    has_header = start[0] & 15 == 8 and (len(start) < 2 or int.from_bytes(start[:2], "big") % 31 == 0)
    return zlib.decompressobj(ZLIB_BITS if has_header else RAW_BITS)


def _encoder(coding: str) -> tuple[Any, int]:
    """Return a compressor, and the flush mode after which the client can read all input so far."""
    if coding == "zstd":
        return zstd.ZstdCompressor(ZSTD_LEVEL), zstd.ZstdCompressor.FLUSH_BLOCK
    return zlib.compressobj(LEVEL, wbits=GZIP_BITS if coding == "gzip" else ZLIB_BITS), zlib.Z_SYNC_FLUSH


def choose_coding(accept_encoding: str, size_bytes: int) -> str:
    """Return the coding for a response of this size by the client's Accept-Encoding; empty for no coding.

    Raises:
        NotAcceptable: the client allows neither an available coding nor an uncompressed response.
    """
    accepted = parse_accept_header(accept_encoding, Accept)
    quality_of = {name.lower(): quality for name, quality in accepted}
    default_quality = quality_of.get("*", 0.0)
    allows_identity = quality_of.get("identity", quality_of.get("*", 1.0)) > 0
    qualities = {name: quality_of.get(name, default_quality) for name in codings()}
    best = max(qualities, key=lambda name: qualities[name])
    if qualities[best] <= 0 and not allows_identity:
        raise NotAcceptable(accept_encoding[:100], [*codings(), "identity"], "Accept-Encoding")
    is_worthwhile = size_bytes >= MIN_COMPRESSED_BYTES and qualities[best] >= quality_of.get("identity", 0.0)
    return best if qualities[best] > 0 and (is_worthwhile or not allows_identity) else ""


def compress(content: bytes, accept_encoding: str) -> tuple[bytes, list[tuple[str, str]]]:
    """Return a response in the client's preferred coding, and its header fields. Raises as `choose_coding`."""
    coding = choose_coding(accept_encoding, len(content))
    if not coding:
        return content, [("Vary", "Accept-Encoding")] if len(content) >= MIN_COMPRESSED_BYTES else []
    encoder, _ = _encoder(coding)
    return encoder.compress(content) + encoder.flush(), [("Content-Encoding", coding), ("Vary", "Accept-Encoding")]


def compress_parts(parts: Iterable[bytes], accept_encoding: str) -> tuple[Iterable[bytes], list[tuple[str, str]]]:
    """Like `compress`, but for a response in parts: the client can read each part when it arrives."""
    coding = choose_coding(accept_encoding, MIN_COMPRESSED_BYTES) if accept_encoding else ""
    if not coding:
        return parts, [("Vary", "Accept-Encoding")]
    return _compress_and_flush(parts, coding), [("Content-Encoding", coding), ("Vary", "Accept-Encoding")]


def _compress_and_flush(parts: Iterable[bytes], coding: str) -> Iterator[bytes]:
    encoder, flush_mode = _encoder(coding)
    for part in parts:
        yield encoder.compress(part) + encoder.flush(flush_mode)
    yield encoder.flush()
