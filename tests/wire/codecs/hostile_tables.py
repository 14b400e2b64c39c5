"""Hostile tables: few bytes that stand for many values, in Arrow, Parquet and NumPy's files."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tests.wire.codecs.hostile import ARROW, MIB, NPY, NPZ, PARQUET, PREDICT, Hostile, npy, table, zipped

ROWS = 100_000
LONG = "a" * MIB


def shared_lists(rows: int, values: int) -> pa.Array:
    """Return lists that share all values of one list."""
    child = pa.array(np.zeros(values))
    offsets, sizes = pa.array([0] * rows, pa.int32()), pa.array([values] * rows, pa.int32())
    return pa.ListViewArray.from_arrays(offsets, sizes, child)


def shared_texts(rows: int, text: str) -> pa.Array:
    """Return texts that are views of one text."""
    one = pa.array([text], pa.string_view())
    views = one.buffers()[1].to_pybytes() * rows
    return pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(views), *one.buffers()[2:]])


def run_of(rows: int, value: Any) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), pa.array([value]))


def same(value: Any, rows: int = ROWS) -> pa.Array:
    """Return one repeated value, as a dictionary array."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def nested(depth: int) -> pa.Array:
    array = pa.array(np.zeros(1000))
    for _ in range(depth):
        array = pa.StructArray.from_arrays([array], ["a"])
    return array


COLUMNS: dict[str, Callable[[], Any]] = {
    "list-views": lambda: shared_lists(10_000, 10_000),
    "text-views": lambda: shared_texts(10_000, LONG),
    "one-run": lambda: run_of(ROWS, 0.0),
    "one-long-run": lambda: run_of(2**31 - 1, 0.0),
    "long-text-again": lambda: same(LONG),
    "wide-text-again": lambda: same("\U0001f427" * 1000),
    "list-again": lambda: same([0.0] * 10_000),
    "struct-again": lambda: same({f"m{number}": 0.0 for number in range(1000)}),
    "texts-of-16": lambda: pa.array(["a" * 16] * ROWS, pa.large_string()),
    "texts-of-300": lambda: pa.array(["a" * 300] * 15_000),
    "binary-of-300": lambda: pa.array([b"a" * 300] * ROWS, pa.binary(300)),
    "lists-of-300": lambda: pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(300 * 10_000, np.int8)), 300),
    "lists-of-bits": lambda: pa.FixedSizeListArray.from_arrays(pa.array([False] * 4_000_000), 400),
    "lists-of-no-values": lambda: pa.FixedSizeListArray.from_arrays(pa.array([], pa.float64()), 1).slice(0),
    "maps": lambda: pa.array([[("a", 1)]] * 20_000, pa.map_(pa.string(), pa.int64())),
    "deep-structs": lambda: nested(200),
    "decimals-256": lambda: pa.array([1] * 50_000, pa.decimal256(76)),
    "durations": lambda: pa.array(np.zeros(ROWS, "m8[ns]")),
    "times-with-zones": lambda: pa.array(np.zeros(ROWS, "M8[us]")).cast(pa.timestamp("us", "Europe/Berlin")),
    "halves": lambda: pa.array(np.zeros(ROWS, np.float16)),
    "bits": lambda: pa.array([True] * ROWS),
}


def of_columns() -> Iterator[Hostile]:
    for name, column in COLUMNS.items():
        for called, media_type in (("arrow", ARROW), ("parquet", PARQUET)):

            def make(media_type: str = media_type, column: Callable[[], Any] = column) -> bytes:
                made = column()
                try:
                    return table(media_type, {"feature1": made, "feature2": made})
                except (pa.ArrowException, OSError):  # that form has no such column
                    return table(media_type, {"feature1": pa.nulls(1)})

            yield Hostile(f"column-{called}-{name}", PREDICT, media_type, make, "zstd")
    rows = {name: np.zeros(20_000) for name in ("feature1", "feature2")}
    texts = {f"feature{number}": pa.array(["a" * 20] * ROWS) for number in (1, 2)}
    for name, how in {
        "tiny-pages": {"data_page_size": 1, "write_batch_size": 1},
        "no-dictionary": {"use_dictionary": False},
        "second-version": {"data_page_version": "2.0"},
        "delta-binary": {"use_dictionary": False, "column_encoding": "DELTA_BINARY_PACKED"},
        "byte-streams": {"use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"},
    }.items():
        whole = {key: column.astype(np.int64) for key, column in rows.items()} if name == "delta-binary" else rows
        make_parquet = lambda whole=whole, how=how: table(PARQUET, whole, **how)  # noqa: E731
        yield Hostile(f"parquet-{name}", PREDICT, PARQUET, make_parquet, "zstd")
    plain = lambda: table(PARQUET, texts, use_dictionary=False)  # noqa: E731
    yield Hostile("parquet-plain-texts", PREDICT, PARQUET, plain, "zstd")


def overlapping(members: int, size_bytes: int) -> bytes:
    """Return a zip whose members share the same bytes (https://www.bamsoftware.com/hacks/zipbomb)."""
    content = npy("'<f8'", f"({size_bytes // 8},)", bytes(size_bytes // 8 * 8))
    packed = zlib.compress(content, 9, -15)
    fields = struct.pack("<HHHIII", 8, 0, 0, zlib.crc32(content), len(packed), len(content))
    local = b"PK\3\4" + struct.pack("<HH", 20, 0) + fields + struct.pack("<HH", 1, 0) + b"a" + packed
    central = b"".join(
        b"PK\1\2" + struct.pack("<HHH", 20, 20, 0) + fields + struct.pack("<HHHHHII", 1, 0, 0, 0, 0, 0, 0) + b"a"
        for _ in range(members)
    )
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, members, members, len(central), len(local), 0)
    return local + central + end


def long_comment() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", npy("'<f8'", "(1, 2)", bytes(16)))
        archive.comment = b"PK\5\6" * 16_000
    return out.getvalue()


ARRAYS: dict[str, Callable[[], bytes]] = {
    "one-long-text": lambda: npy("'<U8000000'", "(1,)", bytes(32_000_000)),
    "complex": lambda: npy("'<c16'", "(100000, 20)", bytes(32_000_000)),
    "long-doubles": lambda: npy("'<f16'", "(100000, 20)", bytes(32_000_000)),
    "big-endian": lambda: npy("'>f8'", "(100000, 40)", bytes(32_000_000)),
    "halves": lambda: npy("'<f2'", "(100000, 160)", bytes(32_000_000)),
    "two-halves": lambda: npy("'<f2'", "(100000, 2)", bytes(400_000)),
    "two-texts": lambda: npy("'<U40'", "(100000, 2)", bytes(32_000_000)),
    "two-byte-texts": lambda: npy("'|S160'", "(100000, 2)", b"a" * 32_000_000),
    "two-times": lambda: npy("'<M8[ns]'", "(100000, 2)", bytes(1_600_000)),
    "two-durations": lambda: npy("'<m8[ns]'", "(100000, 2)", bytes(1_600_000)),
    "void": lambda: npy("'|V320'", "(100000,)", bytes(32_000_000)),
    "columns-first": lambda: npy("'<f8'", "(2, 2000000)", bytes(32_000_000)).replace(b"False", b"True "),
    "many-members": lambda: npy(str([(f"f{n}", "<f8") for n in range(600)]), "(1,)", bytes(4800)),
    "nested-members": lambda: npy(
        "[('feature1', [('a', '<f8'), ('b', '<f8')]), ('feature2', '<f8')]", "(1,)", bytes(24)
    ),
    "texts-of-members": lambda: npy(str([(f"feature{n}", "<U40") for n in (1, 2)]), "(100000,)", bytes(32_000_000)),
}


def of_arrays() -> Iterator[Hostile]:
    for name, make in ARRAYS.items():
        yield Hostile(f"more-npy-{name}", PREDICT, NPY, make, "zstd")
        yield Hostile(f"more-npz-{name}", PREDICT, NPZ, lambda make=make: zipped(make()), "zstd")
    yield Hostile("npz-overlapping", PREDICT, NPZ, lambda: overlapping(500, 30 * MIB))
    yield Hostile("npz-overlapping-few", PREDICT, NPZ, lambda: overlapping(30, MIB))
    yield Hostile("npz-long-comment", PREDICT, NPZ, long_comment, "zstd")


def every() -> list[Hostile]:
    """Return all bodies, by name."""
    return [*of_columns(), *of_arrays()]
