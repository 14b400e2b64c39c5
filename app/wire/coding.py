"""Content codings (RFC 9110 sections 8.4 and 12.5.3): bodies decompressed within a limit, answers compressed.

gzip and deflate are Python's own. So is zstd (RFC 8878) from Python 3.14; before that it needs backports.zstd.
"""

from __future__ import annotations

import contextlib
import importlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from app.errors import BodyTooLarge, InvalidBody, NotAcceptable, UnsupportedMediaType

PIECE_BYTES = 1 << 18
ZSTD_WINDOW_LOG = 23
"""Base-2 logarithm of the largest window, in bytes, that RFC 9659 allows to this coding."""
ZSTD_LEVEL = 3
MAX_MEMBERS = 1000
WORTH_BYTES = 1024
LEVEL = 4
GZIP_BITS, ZLIB_BITS, RAW_BITS = 31, 15, -15


def _zstd_library() -> Any:
    """Return Python's own module, else its backport, else None."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    return None


zstd = _zstd_library()


class Decoder(Protocol):
    """Decompresses one member of a body."""

    @property
    def rest(self) -> bytes | None:
        """What stood behind its end; None while the end was not met."""

    def pieces(self, part: bytes) -> Iterator[bytes]:
        """What the next part becomes, in bounded pieces."""


def codings() -> list[str]:
    """The content codings of this installation, the best first."""
    return [*(["zstd"] if zstd else []), "gzip", "deflate"]


def coding_of(content_encoding: str) -> str:
    """The one coding of a request's body; empty for none.

    Raises:
        UnsupportedMediaType: it is another than those of this installation, or more than one.
    """
    name = content_encoding.strip().lower()
    name = {"x-gzip": "gzip", "identity": ""}.get(name, name)
    if name and name not in codings():
        because = "this server lacks backports-zstd: its operator can install retort-serving[zstd]" * (name == "zstd")
        because = because or "one coding is taken, not several" * ("," in name)
        allowed = [*codings(), "identity"]
        raise UnsupportedMediaType(content_encoding[:100], allowed, "Content-Encoding", because)
    return name


def decompressed(parts: Iterable[bytes], coding: str, limit_bytes: int) -> Iterator[bytes]:
    """The parts of the body as they were before they were compressed, in bounded pieces.

    Raises:
        InvalidBody: it is damaged, ends too early, or goes on after its end.
        BodyTooLarge: it is longer than the limit.
    """
    size_bytes = 0
    stream = _Stream(coding)
    try:
        for part in parts:
            for piece in stream.feed(part):
                size_bytes += len(piece)
                if size_bytes > limit_bytes:
                    raise BodyTooLarge(limit_bytes)
                yield piece
    except zlib.error:
        raise InvalidBody(coding, "it is damaged") from None
    if not stream.whole:
        raise InvalidBody(coding, "it ends too early")


class _Stream:
    """One body that is decompressed as it comes; gzip and zstd may have several members (RFC 1952 section 2.2)."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._decoder: Decoder | None = None
        self._members = 0

    @property
    def whole(self) -> bool:
        return self._decoder is not None and self._decoder.rest is not None

    def feed(self, part: bytes) -> Iterator[bytes]:
        while part:
            if self._decoder is None or self._decoder.rest is not None:
                self._decoder = self._next_member(part)
            yield from self._decoder.pieces(part)
            part = self._decoder.rest or b""

    def _next_member(self, part: bytes) -> Decoder:
        self._members += 1
        if self._members > 1 and (self._coding == "deflate" or self._members > MAX_MEMBERS):
            raise InvalidBody(self._coding, "there are bytes after its end")
        if self._coding == "zstd":
            return _Zstd()
        if self._coding == "gzip":
            return _Zlib(GZIP_BITS)
        # Some send deflate without zlib's two bytes around it.
        headed = part[0] & 15 == 8 and (len(part) < 2 or int.from_bytes(part[:2], "big") % 31 == 0)
        return _Zlib(ZLIB_BITS if headed else RAW_BITS)


class _Zlib:
    def __init__(self, bits: int) -> None:
        self._decoder = zlib.decompressobj(bits)

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None

    def pieces(self, part: bytes) -> Iterator[bytes]:
        while part and not self._decoder.eof:
            yield self._decoder.decompress(part, PIECE_BYTES)
            part = self._decoder.unconsumed_tail
        while not self._decoder.eof and (held := self._decoder.decompress(b"", PIECE_BYTES)):
            yield held


class _Zstd:
    def __init__(self) -> None:
        self._decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None

    def pieces(self, part: bytes) -> Iterator[bytes]:
        try:
            yield self._decoder.decompress(part, PIECE_BYTES)
            while not (self._decoder.eof or self._decoder.needs_input):
                yield self._decoder.decompress(b"", PIECE_BYTES)
        except zstd.ZstdError:
            raise InvalidBody("zstd", "it is damaged, or needs a window of more than 8 MiB") from None


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda content: zstd.compress(content, ZSTD_LEVEL),
    "gzip": lambda content: zlib.compress(content, LEVEL, GZIP_BITS),
    "deflate": lambda content: zlib.compress(content, LEVEL, ZLIB_BITS),
}


def chosen(accept_encoding: str, size_bytes: int) -> str:
    """The coding for an answer of this size, by the client's Accept-Encoding; empty for none.

    Raises:
        NotAcceptable: it allows no coding that there is, nor the answer as it is.
    """
    wanted = parse_accept_header(accept_encoding, Accept)
    named = {name.lower(): quality for name, quality in wanted}
    others = named.get("*", 0.0)
    identity = named.get("identity", named.get("*", 1.0)) > 0
    qualities = {name: named.get(name, others) for name in codings()}
    best = max(qualities, key=lambda name: qualities[name])
    if qualities[best] <= 0 and not identity:
        raise NotAcceptable(accept_encoding[:100], [*codings(), "identity"], "Accept-Encoding")
    worth = size_bytes >= WORTH_BYTES and qualities[best] >= named.get("identity", 0.0)
    return best if qualities[best] > 0 and (worth or not identity) else ""


def compressed(content: bytes, accept_encoding: str) -> tuple[bytes, list[tuple[str, str]]]:
    """An answer as the client wants it, and the headers that say so.

    Raises:
        NotAcceptable: it allows no coding that there is, nor the answer as it is.
    """
    coding = chosen(accept_encoding, len(content))
    if not coding:
        return content, [("Vary", "Accept-Encoding")] if len(content) >= WORTH_BYTES else []
    return COMPRESSORS[coding](content), [("Content-Encoding", coding), ("Vary", "Accept-Encoding")]


def compressed_parts(parts: Iterable[bytes], accept_encoding: str) -> tuple[Iterable[bytes], list[tuple[str, str]]]:
    """An answer that is made part by part, each of which can be read as soon as it is there; and the headers.

    Raises:
        NotAcceptable: it allows no coding that there is, nor the answer as it is.
    """
    coding = chosen(accept_encoding, WORTH_BYTES) if accept_encoding else ""
    if not coding:
        return parts, [("Vary", "Accept-Encoding")]
    return _flushed(parts, coding), [("Content-Encoding", coding), ("Vary", "Accept-Encoding")]


def _flushed(parts: Iterable[bytes], coding: str) -> Iterator[bytes]:
    if coding == "zstd":
        compressor: Any = zstd.ZstdCompressor(ZSTD_LEVEL)
        block_end, end = compressor.FLUSH_BLOCK, compressor.FLUSH_FRAME
    else:
        compressor = zlib.compressobj(LEVEL, wbits=GZIP_BITS if coding == "gzip" else ZLIB_BITS)
        block_end, end = zlib.Z_SYNC_FLUSH, zlib.Z_FINISH
    for part in parts:
        yield compressor.compress(part) + compressor.flush(block_end)
    yield compressor.flush(end)
