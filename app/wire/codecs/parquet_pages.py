"""Check the headers of a Parquet file's pages before pyarrow does, because pyarrow trusts them.

A page of a hundred bytes may truthfully declare that it decompresses to two gigabytes, or repeats a value two billion
times. Source: https://github.com/apache/parquet-format (parquet.thrift, Encodings.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import BodyTooLarge, InvalidBody
from app.wire.codecs.codec import BodyLimits
from app.wire.codecs.thrift import BINARY, I32, I64, LIST, STRUCT, Lists, struct_at

FORM = "Parquet"
MAX_PAGES = 12_000
MAX_FOOTER_BYTES = 2**23
DELTA_BYTE_ARRAY = 7
"""Encoding in which each value may repeat a prefix of the value before it: few bytes become very many."""
UNCOMPRESSED_SIZE, COMPRESSED_SIZE, DATA_PAGE, DATA_PAGE_V2 = (2, I32), (3, I32), (5, STRUCT), (8, STRUCT)
VALUES, ENCODING, ENCODING_V2 = (1, I32), (2, I32), (4, I32)
ROW_GROUPS, COLUMNS, COLUMN = (4, LIST), (1, LIST), (3, STRUCT)
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


def chunks_of(body: bytes, widths: Sequence[int], most: int) -> list[Chunk]:
    """Return the chunks of the columns by the footer of a file. `widths` are bytes per value.

    pyarrow's own objects for chunks end the process if a chunk contradicts itself: their constructors throw and nothing
    catches.

    Raises:
        InvalidBody: there are more than `most`, or they do not match the columns.
    """
    chunks = []
    size_bytes = int.from_bytes(body[-8:-4], "little")
    if size_bytes > MAX_FOOTER_BYTES:
        raise InvalidBody(FORM, f"its footer is longer than {MAX_FOOTER_BYTES} bytes")
    try:
        metadata, _ = struct_at(body[-8 - size_bytes : -8], 0, FOOTER_LISTS)
        for group in metadata[ROW_GROUPS]:
            for column, width in zip(group[COLUMNS], widths, strict=True):
                chunk = column[COLUMN]
                begins = chunk[DATA_OFFSET]
                if 0 < chunk.get(DICTIONARY_OFFSET, 0) < begins:
                    begins = chunk[DICTIONARY_OFFSET]
                chunks.append(Chunk(begins, chunk[CHUNK_SIZE], width))
                if len(chunks) > most:
                    raise InvalidBody(FORM, f"it has more than {most} column chunks")
    except (LookupError, TypeError, ValueError, RecursionError):
        raise InvalidBody(FORM, "its footer cannot be read") from None
    return chunks


def check_pages(body: bytes, chunks: Sequence[Chunk], limits: BodyLimits) -> None:
    """Refuse pages that are together longer after decompression, or have more values, than the limits.

    Raises:
        InvalidBody: the pages cannot be parsed, or have an unsupported encoding.
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
                header, at = struct_at(body, at, {})
                compressed, uncompressed = header[COMPRESSED_SIZE], header[UNCOMPRESSED_SIZE]
                page = header.get(DATA_PAGE) or header.get(DATA_PAGE_V2) or {}
                in_page = page.get(VALUES, 0)
                encoding = page.get(ENCODING if DATA_PAGE in header else ENCODING_V2)
            except (LookupError, TypeError, RecursionError):
                raise InvalidBody(FORM, "the header of a page cannot be read") from None
            pages += 1
            size_bytes += uncompressed
            at += compressed
            values += in_page
            if encoding == DELTA_BYTE_ARRAY:
                raise InvalidBody(FORM, "the encoding DELTA_BYTE_ARRAY is not read here; write it with another")
            if min(compressed, uncompressed, in_page) < 0 or at > ends or pages > MAX_PAGES:
                raise InvalidBody(FORM, "its pages are not where they should be")
            if size_bytes > limits.body_bytes or values * chunk.value_bytes > limits.body_bytes:
                raise BodyTooLarge(limits.body_bytes)
