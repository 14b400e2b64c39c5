"""Bodies that travel compressed (RFC 9110 section 8.4): gzip, and deflate, which is zlib's format (RFC 1950)."""

from __future__ import annotations

import gzip
import zlib

from werkzeug.http import parse_accept_header

from app.errors import BodyTooLarge, MalformedRequest, UnsupportedMediaType

GZIP_OR_ZLIB = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
CODINGS = ("gzip", "deflate")
WORTH_IT_BYTES = 512
LEVEL = 4
MAX_MEMBERS = 64


def expanded(content: bytes, encoding: str | None, limit_bytes: int) -> bytes:
    """The body that was compressed by this Content-Encoding; never holds more than the limit of it.

    Raises:
        UnsupportedMediaType: the encoding is another one.
        BodyTooLarge: there is more in it than the limit.
        MalformedRequest: it is not what the encoding says, or is cut short.
    """
    coding = (encoding or "").strip().lower()
    if coding in ("", "identity"):
        return content
    if coding not in GZIP_OR_ZLIB:
        raise UnsupportedMediaType(coding[:100], CODINGS, header="Content-Encoding")
    whole = bytearray()
    rest = content
    for _ in range(MAX_MEMBERS):  # gzip may have members one after the other
        stream = zlib.decompressobj(GZIP_OR_ZLIB[coding])
        try:
            whole += stream.decompress(rest, limit_bytes + 1 - len(whole))
        except zlib.error:
            raise MalformedRequest("the body", f"is not {coding}, which its Content-Encoding says") from None
        if len(whole) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        if not stream.eof:
            raise MalformedRequest("the body", f"ends before its {coding} stream does")
        rest = stream.unused_data
        if not rest:
            return bytes(whole)
        if coding == "deflate":
            raise MalformedRequest("the body", "goes on after the end of its deflate stream")
    raise MalformedRequest("the body", f"has more than {MAX_MEMBERS} gzip members; send one")


def compressed(content: bytes, accept_encoding: str | None) -> tuple[bytes, str | None]:
    """An answer's body as the client prefers it, and its Content-Encoding; None where it goes as it is."""
    if not accept_encoding or len(content) < WORTH_IT_BYTES:
        return content, None
    accepted = parse_accept_header(accept_encoding)
    quality = {coding: accepted.quality(coding) for coding in CODINGS}
    best = max(CODINGS, key=quality.__getitem__)
    if quality[best] <= 0:
        return content, None
    if best == "gzip":
        return gzip.compress(content, LEVEL, mtime=0), best
    return zlib.compress(content, LEVEL), best
