"""Looks at the headers of a Parquet file's pages before pyarrow does, for what pyarrow would believe.

A page of a hundred bytes may say that it becomes two gigabytes, or that it repeats a value two billion times, and be
right. Sources: https://github.com/apache/parquet-format (parquet.thrift, Encodings.md), and Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import BodyTooLarge, InvalidBody
from app.wire.codecs.codec import Limits

FORM = "Parquet"
MAX_PAGES = 100_000
MAX_DEPTH = 8
DELTA_BYTE_ARRAY = 7
"""Each value says how much of the one before it begins with: a few bytes become any number."""
UNCOMPRESSED_SIZE, COMPRESSED_SIZE, DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 2, 3, 5, 7, 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where the pages of a column begin, how long they are together, and the bytes that one value takes in memory."""

    begins: int
    size_bytes: int
    value_bytes: int


def check_pages(body: bytes, chunks: Sequence[Chunk], limits: Limits) -> None:
    """Refuses pages that are together longer after decompression, or have more values, than are read.

    Raises:
        InvalidBody: the pages cannot be followed, or have an encoding that is not read.
        BodyTooLarge: they declare too much.
    """
    pages = 0
    size_bytes = 0
    for chunk in chunks:
        at, ends = chunk.begins, chunk.begins + chunk.size_bytes
        if not 0 <= at <= ends <= len(body):
            raise InvalidBody(FORM, "a column lies outside of it")
        values = 0
        while at < ends:
            try:
                header, at = _struct(body, at, 0)
                compressed, uncompressed = header[COMPRESSED_SIZE], header[UNCOMPRESSED_SIZE]
                page = header.get(DATA_PAGE) or header.get(DATA_PAGE_V2) or {}
                values += page.get(1, 0)
                encoding = page.get(2 if DATA_PAGE in header else 4)
            except (IndexError, KeyError, TypeError, AttributeError, RecursionError):
                raise InvalidBody(FORM, "the header of a page cannot be read") from None
            pages += 1
            size_bytes += uncompressed
            at += compressed
            if encoding == DELTA_BYTE_ARRAY:
                raise InvalidBody(FORM, "the encoding DELTA_BYTE_ARRAY is not read here; write it with another")
            if compressed < 0 or uncompressed < 0 or at > ends or pages > MAX_PAGES:
                raise InvalidBody(FORM, "its pages are not where they should be")
            if size_bytes > limits.body_bytes or values * chunk.value_bytes > limits.body_bytes:
                raise BodyTooLarge(limits.body_bytes)


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by their numbers, and where it ends; texts and containers are passed over."""
    if depth > MAX_DEPTH:
        raise RecursionError
    fields: dict[int, Any] = {}
    number = 0
    while (head := content[at]) != 0:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(content, at)
        fields[number], at = _value(content, at, head & 15, depth)
    return fields, at + 1


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # a boolean, in the type itself
        return kind == 1, at
    if kind == 3:
        return content[at], at + 1
    if kind in (4, 5, 6):
        return _zigzag(content, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(content, at)
        return None, at + length
    if kind == 12:
        return _struct(content, at, depth + 1)
    raise TypeError  # lists, sets and maps: no header of a page has one


def _zigzag(content: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(content, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 64:
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise IndexError
