"""Content codings (RFC 9110 sections 8.4 and 12.5.3): bodies decompressed within a limit, answers compressed.

gzip and deflate are Python's own; zstd (RFC 8878) needs the library zstandard, which is optional.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from app.errors import BodyTooLarge, InvalidBody, NotAcceptable, UnsupportedMediaType

PIECE_BYTES = 1 << 18
ZSTD_PIECE_BYTES = 256
"""So much at once is fed to zstd, which cannot be told to stop: a block of 4 bytes may become 128 KiB."""
ZSTD_WINDOW_BYTES = 2**23
"""What RFC 9659 allows to this coding."""
MAX_MEMBERS = 1000
WORTH_BYTES = 1024
LEVEL = 4
GZIP_BITS, ZLIB_BITS, RAW_BITS = 31, 15, -15


class Decoder(Protocol):
    """Decompresses one member of a body."""

    @property
    def rest(self) -> bytes | None:
        """What stood behind its end; None while the end was not met."""

    def pieces(self, part: bytes) -> Iterator[bytes]:
        """What the next part becomes, in bounded pieces."""


def codings() -> list[str]:
    """The content codings of this installation, the best first."""
    return [*(["zstd"] if importlib.util.find_spec("zstandard") else []), "gzip", "deflate"]


def coding_of(content_encoding: str) -> str:
    """The one coding of a request's body; empty for none.

    Raises:
        UnsupportedMediaType: it is another than those of this installation, or more than one.
    """
    name = content_encoding.strip().lower()
    name = {"x-gzip": "gzip", "identity": ""}.get(name, name)
    if name and name not in codings():
        because = "this server lacks zstandard: its operator can install retort-serving[zstd]" * (name == "zstd")
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
        import zstandard

        self._decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
        self._unfed = b""

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data + self._unfed if self._decoder.eof else None

    def pieces(self, part: bytes) -> Iterator[bytes]:
        import zstandard

        for at in range(0, len(part), ZSTD_PIECE_BYTES):
            try:
                yield self._decoder.decompress(part[at : at + ZSTD_PIECE_BYTES])
            except zstandard.ZstdError:
                raise InvalidBody("zstd", "it is damaged, or needs a window of more than 8 MiB") from None
            if self._decoder.eof:
                self._unfed = part[at + ZSTD_PIECE_BYTES :]
                return


def _zstd(content: bytes) -> bytes:
    import zstandard

    return bytes(zstandard.ZstdCompressor(level=3).compress(content))


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": _zstd,
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
        import zstandard

        compressor: Any = zstandard.ZstdCompressor(level=3).compressobj()
        flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    else:
        compressor = zlib.compressobj(LEVEL, wbits=GZIP_BITS if coding == "gzip" else ZLIB_BITS)
        flush = zlib.Z_SYNC_FLUSH
    for part in parts:
        yield compressor.compress(part) + compressor.flush(flush)
    yield compressor.flush()
