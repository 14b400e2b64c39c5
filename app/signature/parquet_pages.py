"""Check the footer and the page headers of a Parquet file before pyarrow reads them, because pyarrow trusts them.

A page of a hundred bytes may truthfully declare that it decompresses to two gigabytes, or repeats a value two billion
times. A compressed footer of kilobytes may have a million columns, each of which takes a kilobyte in memory. Source:
https://github.com/apache/parquet-format (parquet.thrift, Encodings.md).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import BodyTooLarge, InvalidBody
from app.signature.arrow_messages import DeclaredLimits, check_schema_message

BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 3, 4, 5, 6, 7, 8, 9, 12
TRUE, FALSE = 1, 2
BITS = {I16: 16, I32: 32, I64: 64}
MAX_DEPTH = 8
FIELDS_OF_A_STRUCT = 4
"""A struct takes as much memory and time in pyarrow as this many fields."""

Fields = dict[tuple[int, int], Any]
"""Fields by number and type. Like other readers, callers ignore fields of an unexpected type."""

Lists = Mapping[int, Any]
"""The lists in a struct, by the number of the field: the type of the elements, or the `Lists` of each element if they
are structs. For a field that is a struct, the `Lists` in it."""

FORM = "Parquet"
MAGIC = b"PAR1"
MAX_CHUNKS = 3_000
MAX_PAGES = 12_000
MAX_FOOTER_BYTES = 2**23
MAX_FOOTER_FIELDS = 300_000
"""Most fields and elements in a footer, with `FIELDS_OF_A_STRUCT` for each struct. A column chunk has about 80."""
MAX_PAGE_FIELDS = 500_000
"""Most fields in the headers of all pages. One has about 40."""
HEADER_BYTES = 256
"""Most headers of pages are shorter than this. Only statistics of long texts make them longer."""
DELTA_BYTE_ARRAY = 7
"""Encoding in which each value may repeat a prefix of the value before it: few bytes become very many."""
UNCOMPRESSED_SIZE, COMPRESSED_SIZE, DATA_PAGE, DATA_PAGE_V2 = (2, I32), (3, I32), (5, STRUCT), (8, STRUCT)
VALUES, ENCODING, ENCODING_V2 = (1, I32), (2, I32), (4, I32)
ROW_GROUPS, COLUMNS, COLUMN = (4, LIST), (1, LIST), (3, STRUCT)
PAIRS, KEY, VALUE, ARROW_SCHEMA = (5, LIST), (1, BINARY), (2, BINARY), b"ARROW:schema"
CHUNK_SIZE, DATA_OFFSET, DICTIONARY_OFFSET = (7, I64), (9, I64), (11, I64)
COLUMN_LISTS: Lists = {2: I32, 3: BINARY, 8: {}, 13: {}, 16: {2: I64, 3: I64}, 17: {2: I32}}
FOOTER_LISTS: Lists = {2: {}, 4: {1: {3: COLUMN_LISTS}, 4: {}}, 5: {}, 7: {}}
"""Every list in a `FileMetaData`, down to those of a `ColumnMetaData`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The position and length of a column's pages, and the bytes of one value in memory."""

    begins: int
    size_bytes: int
    value_bytes: int

    @property
    def ends(self) -> int:
        """The position behind the pages."""
        return self.begins + self.size_bytes


def footer_of(content: Any, limits: DeclaredLimits) -> Fields:
    """Return the footer of a file, its bytes or its map. It must be read before pyarrow opens the file.

    Raises:
        InvalidBody: It cannot be read, or is too long.
        BodyTooLarge: It has a schema of Arrow that declares too much.
    """
    size_bytes = int.from_bytes(content[-8:-4], "little")
    if content[-4:] != MAGIC or size_bytes > len(content) - 8:
        raise InvalidBody(FORM, "it is cut short, damaged, or says of itself what is not so")
    if size_bytes > MAX_FOOTER_BYTES * limits.parts:
        raise InvalidBody(FORM, f"its footer is longer than {MAX_FOOTER_BYTES * limits.parts} bytes")
    footer = bytes(content[-8 - size_bytes : -8])
    budget = Budget(MAX_FOOTER_FIELDS * limits.parts)
    try:
        metadata, _ = struct_at(footer, 0, FOOTER_LISTS, budget)
        for pair in metadata.get(PAIRS, ()):
            key, value = (pair.get(name, (0, 0)) for name in (KEY, VALUE))
            if footer[slice(*key)] == ARROW_SCHEMA:
                check_schema_message(base64.b64decode(footer[slice(*value)]), limits.piece_bytes)
    except OverflowError:
        raise InvalidBody(FORM, "its footer has more columns, groups of rows or pairs than are read") from None
    except (LookupError, TypeError, ValueError, RecursionError, binascii.Error):
        raise InvalidBody(FORM, "its footer cannot be read") from None
    return metadata


def chunks_of(footer: Fields, widths: Sequence[int], limits: DeclaredLimits) -> list[Chunk]:
    """Return the chunks of the columns by the footer of a file. `widths` are bytes per value.

    pyarrow's own objects for chunks end the process if a chunk contradicts itself: their constructors throw and nothing
    catches.

    Raises:
        InvalidBody: there are too many, or they do not match the columns.
    """
    chunks = []
    most = MAX_CHUNKS * limits.parts
    try:
        for group in footer[ROW_GROUPS]:
            for column, width in zip(group[COLUMNS], widths, strict=True):
                chunk = column[COLUMN]
                begins = chunk[DATA_OFFSET]
                if 0 < chunk.get(DICTIONARY_OFFSET, 0) < begins:
                    begins = chunk[DICTIONARY_OFFSET]
                chunks.append(Chunk(begins, chunk[CHUNK_SIZE], width))
                if len(chunks) > most:
                    raise InvalidBody(FORM, f"it has more than {most} column chunks")
    except (LookupError, TypeError, ValueError):
        raise InvalidBody(FORM, "its footer cannot be read") from None
    return chunks


def check_pages(content: Any, chunks: Sequence[Chunk], limits: DeclaredLimits) -> None:
    """Refuse pages of a file, its bytes or its map, that are longer decompressed, or have more values, than the limits.

    Raises:
        InvalidBody: the pages cannot be parsed, or have an unsupported encoding.
        BodyTooLarge: they declare too much.
    """
    pages = PageCheck(chunks, len(content), limits)
    for number in range(len(chunks)):
        pages.check(number, content, len(content))


class PageCheck:
    """The check of a file's pages, chunk by chunk and page by page. The limits apply to all pages together."""

    def __init__(self, chunks: Sequence[Chunk], size_bytes: int, limits: DeclaredLimits) -> None:
        self.chunks = chunks
        self._size_bytes = size_bytes
        self._limits = limits
        self._budget = Budget(MAX_PAGE_FIELDS * limits.parts)
        self._pages = self._total_bytes = 0
        self._next: dict[int, int] = {}
        """The position of the next header by chunk; absent at the beginning of a chunk."""
        self._values: dict[int, int] = {}

    def check(self, number: int, content: Any, ends: int) -> None:
        """Check the headers of a chunk that begin before `ends` and were not checked yet. Raises as `check_pages`.

        `number` is the position of the chunk among all, and `content` holds the bytes of the file by position.
        """
        chunk = self.chunks[number]
        if not chunk.begins:  # the file's first bytes are no page: the chunk has no rows, or pyarrow refuses it
            return
        if not 0 <= chunk.begins <= chunk.ends <= self._size_bytes:
            raise InvalidBody(FORM, "a column lies outside of it")
        while self._next.get(number, chunk.begins) < min(ends, chunk.ends):
            self._check_page(number, content)

    def _check_page(self, number: int, content: Any) -> None:
        limits, chunk = self._limits, self.chunks[number]
        try:
            header, ends = _header_at(content, self._next.get(number, chunk.begins), self._budget)
            compressed, uncompressed = header[COMPRESSED_SIZE], header[UNCOMPRESSED_SIZE]
            page = header.get(DATA_PAGE) or header.get(DATA_PAGE_V2) or {}
            in_page = page.get(VALUES, 0)
            encoding = page.get(ENCODING if DATA_PAGE in header else ENCODING_V2)
        except (LookupError, TypeError, RecursionError, OverflowError):
            raise InvalidBody(FORM, "the header of a page cannot be read") from None
        self._pages += 1
        self._total_bytes += uncompressed
        self._values[number] = self._values.get(number, 0) + in_page
        self._next[number] = ends + compressed
        if encoding == DELTA_BYTE_ARRAY:
            raise InvalidBody(FORM, "the encoding DELTA_BYTE_ARRAY is not read here; write it with another")
        is_outside = min(compressed, uncompressed, in_page) < 0 or ends + compressed > chunk.ends
        if is_outside or self._pages > MAX_PAGES * limits.parts:
            raise InvalidBody(FORM, "its pages are not where they should be")
        if max(uncompressed, in_page * chunk.value_bytes) > limits.piece_bytes:
            raise BodyTooLarge(limits.piece_bytes)
        if max(self._total_bytes, self._values[number] * chunk.value_bytes) > limits.total_bytes:
            raise BodyTooLarge(limits.total_bytes)


def _header_at(content: Any, at: int, budget: Budget) -> tuple[Fields, int]:
    """Return a page's header, and its end. Reading bytes is much faster than reading the map of a file."""
    before = budget.fields
    try:
        header, size_bytes = struct_at(bytes(content[at : at + HEADER_BYTES]), 0, {}, budget)
    except IndexError:  # it is longer
        budget.fields = before
        return struct_at(content, at, {}, budget)
    return header, at + size_bytes


# --- structs in Thrift's compact protocol, read exactly as pyarrow reads them

# A malicious file may try to show this reader other numbers than pyarrow. So numbers are cut to their width as in
# pyarrow, and this refuses what generated code accepts unchecked: lists of an unexpected type and duplicate fields.
# Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md, and
# lib/cpp/src/thrift/protocol/TCompactProtocol.tcc.


@dataclass(slots=True)
class Budget:
    """The number of fields and elements that may be read, in all structs that share it."""

    fields: int

    def take(self, fields: int) -> None:
        """Take this many fields; raise OverflowError if fewer are left."""
        self.fields -= fields
        if self.fields < 0:
            raise OverflowError


def struct_at(content: Any, at: int, lists: Lists, budget: Budget, depth: int = 0) -> tuple[Fields, int]:
    """Return the fields of a struct, and its end. For a text, the positions of its begin and end are returned.

    Raises:
        IndexError, TypeError, RecursionError: it is truncated, invalid or too deep.
        OverflowError: it has more fields than the budget.
    """
    if depth > MAX_DEPTH:
        raise RecursionError
    budget.take(FIELDS_OF_A_STRUCT)
    fields: Fields = {}
    number = 0
    while (kind := content[at] & 15) != 0:
        step = content[at] >> 4
        at += 1
        if step:
            number += step
            if number >= 2**15:  # as `_signed`, whose call would take a third of the time of a header
                number -= 2**16
        else:
            number, at = _integer(content, at, 16)
        if (number, kind) in fields:
            raise TypeError
        budget.take(1)
        fields[number, kind], at = _value(content, at, kind, lists.get(number), budget, depth)
    return fields, at + 1


def _value(content: Any, at: int, kind: int, inner: Any, budget: Budget, depth: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):  # the type is the value
        return kind == TRUE, at
    if kind == STRUCT:
        return struct_at(content, at, inner if isinstance(inner, Mapping) else {}, budget, depth + 1)
    if kind == LIST:
        return _list(content, at, inner, budget, depth)
    if kind in BITS:
        return _integer(content, at, BITS[kind])
    if kind == BINARY:
        length, at = _varint(content, at)
        return (at, at + _length(length)), at + _length(length)
    if kind not in (BYTE, DOUBLE):
        raise TypeError  # Parquet has no sets and maps
    return None, at + (1 if kind == BYTE else 8)


def _list(content: Any, at: int, inner: Any, budget: Budget, depth: int) -> tuple[list[Any], int]:
    size, kind = content[at] >> 4, content[at] & 15
    if kind != (STRUCT if isinstance(inner, Mapping) else inner):
        raise TypeError
    at += 1
    if size == 15:
        size, at = _varint(content, at)
    values = []
    budget.take(_length(size))
    for _ in range(size):
        value, at = _value(content, at, kind, inner, budget, depth)
        values.append(value)
    return values, at


def _length(number: int) -> int:
    if (length := _signed(number, 32)) < 0:
        raise TypeError
    return length


def _integer(content: Any, at: int, bits: int) -> tuple[int, int]:
    number, at = _varint(content, at)
    number &= 2**64 - 1 if bits == 64 else 2**32 - 1
    number = (number >> 1) ^ -(number & 1)
    return (_signed(number, bits) if bits < 32 else number), at


def _signed(number: int, bits: int) -> int:
    number &= 2**bits - 1
    return number - 2**bits if number >> bits - 1 else number


def _varint(content: Any, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 2**64 - 1, at
        shift += 7
    raise IndexError
