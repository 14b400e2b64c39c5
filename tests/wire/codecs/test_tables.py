"""Tests of Parquet and Arrow: declared sizes are checked before pyarrow reads them; damaged bodies are refused."""

from __future__ import annotations

import datetime
import decimal
import random
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flask import Flask

from tests.wire.codecs.bodies import as_arrow, as_csv, as_npz, as_parquet
from tests.wire.codecs.conftest import Sends
from tests.wire.exchange import post

PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
ROWS = [{"feature1": 5.1, "feature2": 3.5}, {"feature1": 6.2, "feature2": 3.4}]


def parquet(table: pa.Table, **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **how)
    return bytes(sink.getvalue().to_pybytes())


def arrow(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def both(ask: Sends, table: pa.Table) -> list[Any]:
    return [ask(PARQUET, parquet(table)), ask(ARROW, arrow(table))]


@pytest.mark.parametrize("make", [as_csv, as_parquet, as_arrow, as_npz])
def test_an_unknown_or_missing_column_is_reported_once(ask: Sends, make: Any) -> None:
    for names, details in [
        (("feature1", "feature2", "more"), ["is not a feature of this model; the features are: feature1, feature2"]),
        (
            ("feature1", "feature2", "a", "b"),
            ["is not a feature of this model; the features are: feature1, feature2"] * 2,
        ),
    ]:
        media_type, body = make([dict.fromkeys(names, 5.0)] * 300)
        problem = ask(media_type, body).document
        assert [error["pointer"] for error in problem["errors"]] == [f"#/instances/0/{name}" for name in names[2:]]
        assert [error["detail"] for error in problem["errors"]] == details
    media_type, body = make([{"feature2": 5.0, "other": 1.0}] * 300)
    assert len(ask(media_type, body).document["errors"]) <= 2


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_files_as_they_are_written(ask: Sends, compression: str, version: str) -> None:
    table = pa.table({"feature1": [5.1, 6.2], "feature2": [3.5, 3.4]})
    answer = ask(PARQUET, parquet(table, compression=compression, data_page_version=version, row_group_size=1))
    assert answer.document["prediction"] == [0, 2]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([5, 6], pa.int8()),
        pa.array([5.1, 6.2], pa.float32()),
        pa.array(np.array([5, 6], np.float16)),
        pa.array([decimal.Decimal("5.1"), decimal.Decimal("6.2")]),
        pa.array([decimal.Decimal("5"), decimal.Decimal("6")], pa.decimal256(50, 0)),
        pa.array([5.1, 6.2]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_numbers_of_many_types(ask: Sends, values: pa.Array) -> None:
    for answer in both(ask, pa.table({"feature1": values, "feature2": [3.5, 3.4], "__index_level_0__": [7, 8]})):
        assert answer.status == 200, answer.content


@pytest.mark.parametrize(
    "values",
    [
        pa.array([None, None]),
        pa.array([True, False]),
        pa.array(["5.1", "6.2"]),
        pa.array([b"5.1", b"\xff"]),
        pa.array([datetime.date(2024, 1, 1)] * 2),
        pa.array([datetime.datetime(2024, 1, 1)] * 2),
        pa.array([1, 2], pa.timestamp("ns", "Mars/Olympus")),
        pa.array([2**62, 2], pa.timestamp("s")),
        pa.array([1, 2], pa.time64("us")),
        pa.array([[1.0], [2.0]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
        pa.array([["a"], ["b"]]),
        pa.array([[None], []], pa.list_(pa.null())),
    ],
    ids=lambda values: str(values.type),
)
@pytest.mark.fault("B04")
def test_columns_of_types_that_are_not_numbers(ask: Sends, values: pa.Array) -> None:
    table = pa.table({"feature1": values, "feature2": [3.5, 3.4]})
    for media_type, write in ((PARQUET, parquet), (ARROW, arrow)):
        try:
            content = write(table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue  # no file can be written with it
        answer = ask(media_type, content)
        assert answer.status in {400, 422}, answer.content
        if answer.status == 422:
            assert answer.document["errors"][0]["pointer"].startswith("#/instances")


@pytest.mark.fault("B02")
def test_types_that_only_arrow_has(ask: Sends) -> None:
    other = pa.array([3.5, 3.4])
    for values in (
        pa.array([1, 2], pa.duration("s")),
        pa.array(["a", "b"], pa.string_view()),
        pa.RunEndEncodedArray.from_arrays([2], [1.0]),
        pa.UnionArray.from_dense(pa.array([0, 0], pa.int8()), pa.array([0, 1], pa.int32()), [pa.array([1, 2])]),
        pa.array([[1.0]] * 2, pa.list_view(pa.float64())),
    ):
        assert ask(ARROW, arrow(pa.table({"feature1": values, "feature2": other}))).status in {400, 422}


@pytest.mark.slow
@pytest.mark.parametrize(("media_type", "make"), [(PARQUET, as_parquet), (ARROW, as_arrow)])
@pytest.mark.fault("B01", "B04")
def test_truncated_and_damaged_files(ask: Sends, media_type: str, make: Any) -> None:
    _, good = make(ROWS)
    noise = random.Random(20)
    # A stream may end between two batches: the batches before are complete.
    for end in range(0, len(good) - 8, 7):
        assert ask(media_type, good[:end]).status in {200, 400, 422}
    for _ in range(300):
        bad = bytearray(good)
        for _ in range(noise.randint(1, 4)):
            bad[noise.randrange(len(bad))] = noise.choice((0, 1, 127, 128, 255, noise.randrange(256)))
        assert ask(media_type, bytes(bad)).status in {200, 400, 413, 422}


def test_an_arrow_file_is_distinguished_from_a_stream(ask: Sends) -> None:
    table, sink = pa.table({"feature1": [5.1], "feature2": [3.5]}), pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    answer = ask(ARROW, sink.getvalue().to_pybytes())
    assert answer.status == 400
    assert "it is an Arrow file; a stream is wanted" in answer.document["detail"]


@pytest.mark.slow
@pytest.mark.fault("B02")
def test_too_many_rows_are_refused(ask: Sends) -> None:
    table = pa.table({"feature1": pa.nulls(100_001), "feature2": pa.nulls(100_001)})
    for answer in both(ask, table):
        assert answer.status == 413
        assert "100001 instances" in answer.document["detail"]
    billion = pa.record_batch([pa.nulls(10**9), pa.nulls(10**9)], ["feature1", "feature2"])
    assert ask(ARROW, arrow(pa.Table.from_batches([billion]))).status == 413


@pytest.mark.slow
@pytest.mark.fault("B02", "B03")
def test_bombs_are_refused_before_they_grow(ask: Sends) -> None:
    before = pa.default_memory_pool().max_memory()
    zeros = pa.array([bytes(40_000_000)], pa.large_binary())
    table = pa.table({"feature1": zeros, "feature2": [1.0]})
    bombs = [
        (ARROW, arrow(table, "zstd")),
        (PARQUET, parquet(table, compression="zstd", use_dictionary=False)),
        (PARQUET, parquet(pa.table({"feature1": [[0.0] * 5_000_000], "feature2": [1.0]}), compression="zstd")),
    ]
    made = max(before, pa.default_memory_pool().max_memory())
    for media_type, content in bombs:
        assert len(content) < 1_000_000
        assert ask(media_type, content).status == 413
    assert pa.default_memory_pool().max_memory() <= made


@pytest.mark.slow
def test_a_repeated_long_text_is_decoded_once(ask: Sends) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), ["x" * 1_000_000])
    table = pa.table({"feature1": texts, "feature2": texts})
    for answer in both(ask, table):
        assert answer.status == 422
        assert answer.document["errors_total"] == 100_000


def test_a_delta_encoding_that_repeats_is_not_read(ask: Sends) -> None:
    table = pa.table({"feature1": ["a" * 1000] * 1000, "feature2": [1.0] * 1000})
    encoding = {"feature1": "DELTA_BYTE_ARRAY"}
    answer = ask(PARQUET, parquet(table, use_dictionary=False, column_encoding=encoding))
    assert answer.status == 400
    assert "DELTA_BYTE_ARRAY" in answer.document["detail"]


@pytest.mark.slow
@pytest.mark.fault("B02")
def test_very_many_columns(ask: Sends) -> None:
    for answer in both(ask, pa.table({f"c{number}": [1.0] for number in range(2000)})):
        assert answer.status == 422
        assert answer.document["errors"] == [
            {"pointer": "#/instances", "detail": "has 2000 columns; the model has 2 features"}
        ]


def test_without_pyarrow_the_media_type_says_what_to_install(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for media_type, content in (as_parquet_of(b""), (ARROW, b"")):
        answer = post(app, "/models/iris-two/predict", content, {"Content-Type": media_type})
        assert answer.status == 415
        assert "pip install pyarrow" in answer.document["detail"]
        assert "parquet" not in answer.headers["Accept"]
        wanted = post(app, "/models/iris-two/predict", as_csv(ROWS)[1], {"Content-Type": "text/csv", "Accept": ARROW})
        assert wanted.status == 406


def as_parquet_of(content: bytes) -> tuple[str, bytes]:
    return PARQUET, content
