"""Tests that a small file of a job cannot take much memory or time, whatever it declares."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import ScoringRefused
from app.jobs import table_guards
from app.jobs.checked_pages import ChunkPlaces
from app.jobs.input_parts import parts_of
from app.jobs.locations import sources_of
from app.signature import Input, Layout, Signature
from app.signature.parquet_pages import Chunk
from tests.wire.codecs import hostile_structures as hostile
from tests.wire.codecs.hostile_tables import same, shared_lists, shared_texts

SIGNATURE = Signature(
    (Input("feature1", "text", "str"), Input("feature2", "number", "float64", nullable=True)),
    ("prediction",),
    ("prediction",),
    Layout.FRAME,
)
ROWS = 100_000
LONG = "a" * 2**16


def arrow(column: Any, **how: Any) -> bytes:
    table, sink = pa.table({"feature1": column, "feature2": np.zeros(len(column))}), io.BytesIO()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table, **how)
    return sink.getvalue()


def parquet(column: Any, **how: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"feature1": column, "feature2": np.zeros(len(column))}), sink, compression="zstd", **how)
    return sink.getvalue()


def one_text_again() -> bytes:
    return parquet(same(LONG), store_schema=False)


FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "columns": ("in.parquet", lambda: hostile.of_many_elements(100_000), "its footer has more columns"),
    "groups": ("in.parquet", lambda: hostile.of_many_groups(100_000), "its footer has more columns"),
    "chunks": ("in.parquet", lambda: hostile.of_many_chunks(100_000), "its footer has more columns"),
    "shared-fields-in-parquet": (
        "in.parquet",
        lambda: hostile.parquet_of_schema(hostile.schema_of_shared_fields(8, 8, 2**22)),
        "its schema has more than",
    ),
    "shared-fields": ("in.arrows", lambda: hostile.stream_of(hostile.schema_of_shared_fields(8, 8)), "its schema has"),
    "one-text-again": ("in.parquet", one_text_again, "values of 'feature1' are together longer"),
    "one-text-again-in-arrow": ("in.arrow", lambda: arrow(same(LONG)), "are together longer"),
    "one-text-viewed": ("in.arrow", lambda: arrow(shared_texts(10_000, LONG)), "are together longer"),
    "shared-lists": ("in.arrow", lambda: arrow(shared_lists(1000, 10_000)), "is a column of the type"),
    "prefixes": (
        "in.parquet",
        lambda: parquet(
            pa.array([LONG] * 100),
            use_dictionary=False,
            column_encoding={"feature1": "DELTA_BYTE_ARRAY", "feature2": "PLAIN"},
        ),
        "DELTA_BYTE_ARRAY is not read",
    ),
    "nothing": ("in.arrow", lambda: b"ARROW1\0\0" + bytes(100) + b"ARROW1", "it is damaged"),
}
SLOW = {"chunks", "columns", "shared-fields"}


def parts(path: Path, keep: tuple[str, ...] = ()) -> list[Any]:
    return list(parts_of(sources_of(str(path)), SIGNATURE, keep, as_bytes=False))


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [pytest.param(*file, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, file in FILES.items()],
)
def test_a_file_that_declares_too_much_is_refused(
    name: str, make: Callable[[], bytes], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = table_guards.DeclaredLimits(table_guards.PIECE_BYTES, 2**62, table_guards.MAX_ROWS)
    monkeypatch.setattr(table_guards, "LIMITS", limits)
    (tmp_path / name).write_bytes(make())
    with pytest.raises(ScoringRefused, match=says) as refused:
        parts(tmp_path / name)
    assert refused.value.detail.startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "make"),
    [("in.arrow", arrow), ("in.parquet", partial(parquet, use_dictionary=False, data_page_size=2**30))],
)
def test_a_batch_or_page_has_a_limit_of_bytes(
    name: str, make: Callable[[Any], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_guards, "LIMITS", table_guards.DeclaredLimits(2**22, 2**62, table_guards.MAX_ROWS))
    (tmp_path / name).write_bytes(make(pa.array([LONG] * 60)))
    assert sum(part.table.num_rows for part in parts(tmp_path / name)) == 60
    (tmp_path / name).write_bytes(make(pa.array([LONG] * 70)))
    with pytest.raises(ScoringRefused, match="a page or batch of it is longer"):
        parts(tmp_path / name)


def test_a_file_of_nulls_has_a_limit_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = table_guards.DeclaredLimits(table_guards.PIECE_BYTES, 2**62, 1000, table_guards.PARTS)
    monkeypatch.setattr(table_guards, "LIMITS", limits)
    monkeypatch.setattr(table_guards, "MAX_ROWS", 1000)
    for name, make in (("in.arrow", arrow), ("in.parquet", parquet)):
        (tmp_path / name).write_bytes(make(pa.nulls(1001)))
        with pytest.raises(ScoringRefused, match="more than 1000 rows"):
            parts(tmp_path / name)


@pytest.mark.parametrize("made", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_texts_keep_their_type(made: Any, tmp_path: Path) -> None:
    texts = pa.array(["a", "b", None, "a"]).cast(made)
    for name, make in (("in.arrow", arrow), ("in.parquet", parquet)):
        (tmp_path / name).write_bytes(make(texts))
        [part] = parts(tmp_path / name)
        assert part.table.column("feature1").type == made
        assert part.table.column("feature1").to_pylist() == ["a", "b", None, "a"]


def test_chunks_are_found_by_their_bytes_even_if_they_overlap() -> None:
    chunks = [Chunk(*each, 8) for each in [(50, 10), (4, 100), (10, 5), (60, 40), (104, 6)]]
    places = ChunkPlaces(chunks)
    for begins in range(0, 120, 3):
        for ends in range(begins + 1, 121, 7):
            wanted = {at for at, chunk in enumerate(chunks) if chunk.begins < ends and chunk.ends > begins}
            assert set(places.in_range(begins, ends)) == wanted
