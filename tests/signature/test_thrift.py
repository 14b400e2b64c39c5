"""Tests of Thrift's compact protocol as pyarrow reads it, and of the chunks in a footer."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidBody
from app.signature import parquet_pages
from app.signature.arrow_messages import DeclaredLimits
from app.signature.parquet_pages import (
    BINARY,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Budget,
    Chunk,
    chunks_of,
    footer_of,
    struct_at,
)

STOP = b"\0"
LIMITS = DeclaredLimits(2**25, 2**25, 100_000)


def budget() -> Budget:
    return Budget(1000)


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (b"", {}),
        (b"\x15\x04", {(1, I32): 2}),
        (b"\x15\x03\x16\x04", {(1, I32): -2, (2, I64): 2}),
        (b"\x05\x08\x04", {(4, I32): 2}),
        (b"\x15\x80\x80\x80\x80\x10", {(1, I32): 0}),  # 2**32, of which 32 bits are left
        (b"\x15\x84\x80\x80\x80\x10", {(1, I32): 2}),
        (b"\x14\x80\x80\x04", {(1, I16): -(2**15)}),
        (b"\x11\x12", {(1, TRUE): True, (2, 2): False}),
        (b"\x18\x03abc\x15\x02", {(1, BINARY): (3, 6), (2, I32): 1}),
        (b"\x1c\x15\x02\x00", {(1, STRUCT): {(1, I32): 1}}),
        (b"\x29\x25\x02\x04", {(2, LIST): [1, 2]}),
        (b"\x39\x2c\x15\x02\x00\x00", {(3, LIST): [{(1, I32): 1}, {}]}),
    ],
)
def test_structs(content: bytes, fields: Any) -> None:
    assert struct_at(b"." + content + STOP + b"more", 1, {2: I32, 3: {}}, budget()) == (fields, len(content) + 2)


def test_a_type_of_nothing_ends_a_struct_whatever_its_step() -> None:
    assert struct_at(b"\x10\x15\x02\x00", 0, {}, budget()) == ({}, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"\x15\x02\x05\x02\x04\x00",  # a field twice
        b"\x29\x26\x02\x04\x00",  # a list of other elements
        b"\x19\x25\x02\x04\x00",  # a list that nobody expects
        b"\x2b\x00\x00",  # a map
        b"\x15",
        b"\x15\xff",
        b"\x18\xff\xff\xff\xff\x0f\x00",  # a text of -1 bytes
        b"\x29\xf5\xff\xff\xff\xff\x0f\x00",
        b"\x1c" * 20,
    ],
)
def test_malformed_structs_are_refused(content: bytes) -> None:
    with pytest.raises((IndexError, TypeError, RecursionError)):
        struct_at(content, 0, {2: I32}, budget())


@given(st.binary(max_size=60))
def test_no_other_exception_is_raised(content: bytes) -> None:
    with contextlib.suppress(IndexError, TypeError, RecursionError, OverflowError):
        struct_at(content, 0, {1: I32, 2: {1: I64}}, budget())


@pytest.mark.parametrize(
    "content",
    [
        b"\x29\xf5\xff\xff\xff\xff\x07\x00",  # two billion numbers
        b"\x39\xfc\xff\x01" + bytes(300),  # structs without a field
        b"\x11" * 500 + STOP,
        (b"\x1c" + b"\x11" * 200) * 3,
    ],
)
def test_a_struct_of_more_fields_than_the_budget_is_not_read_to_its_end(content: bytes) -> None:
    with pytest.raises(OverflowError):
        struct_at(content, 0, {2: I32, 3: {}}, Budget(400))


def test_the_chunks_equal_those_of_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    table = pa.table({"number": [1.5, 2.5, None], "text": ["a", "b", "a"], "list": [[1], [2, 3], []]})
    pq.write_table(table, out, row_group_size=2)
    metadata = pq.ParquetFile(out).metadata
    columns = [metadata.row_group(group).column(at) for group in range(2) for at in range(3)]
    begins = [column.dictionary_page_offset or column.data_page_offset for column in columns]
    sizes = [column.total_compressed_size for column in columns]
    expected = [Chunk(*each) for each in zip(begins, sizes, [8, 16, 24] * 2, strict=True)]
    footer = footer_of(out.getvalue(), LIMITS)
    assert chunks_of(footer, [8, 16, 24], LIMITS) == expected
    with pytest.raises(InvalidBody, match="cannot be read"):
        chunks_of(footer, [8, 16], LIMITS)
    monkeypatch.setattr(parquet_pages, "MAX_CHUNKS", 5)
    with pytest.raises(InvalidBody, match="more than 5 column chunks"):
        chunks_of(footer, [8, 16, 24], LIMITS)
