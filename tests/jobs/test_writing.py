"""Scored rows as bytes: the same with and without pyarrow, and readable by pandas."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from app.jobs import writing
from app.jobs.formats import Format, format_of
from app.jobs.writing import arrow_of, csv_header, encode
from app.signature.batch import Coded

FLOATS = [1.0, -0.0, 3e10, 1e16, 1e22, 1.5, 0.1, 0.001, 1e-5, 2.5e-8, 5e-324, np.nan, np.inf, -7.0]
OUTPUTS: dict[str, dict[str, list[Any]]] = {
    "floats": {"prediction": [*FLOATS, *FLOATS]},
    "floats beside texts": {"prediction": ["a,b", 'say "no"', "two\nlines", "\r", " x", "", "é"] * 2, "score": FLOATS},
    "whole floats": {"prediction": [1.0, 2.0]},
    "whole numbers": {"prediction": [1, 2]},
    "booleans": {"prediction": [True, False]},
    "texts": {"prediction": ["", "a", '"']},
    "labels of several types": {"prediction": ["a", None, 1, True, 2.0]},
    "nothing": {"prediction": []},
}


def csv_of(column: NDArray[Any]) -> bytes:
    return encode({}, {"score": column}, Format("csv"), is_file=False)


def columns_of(lists: dict[str, list[Any]]) -> dict[str, NDArray[Any]]:
    columns = {}
    for name, values in lists.items():
        is_number = {*map(type, values)} <= {int, float} or {*map(type, values)} == {bool}
        columns[name] = np.array(values) if is_number else np.empty(len(values), dtype=object)
        columns[name][:] = values
    return columns


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
def test_csv_is_the_same_with_and_without_pyarrow(
    monkeypatch: pytest.MonkeyPatch, outputs: dict[str, list[Any]], is_file: bool
) -> None:
    columns = columns_of(outputs)
    rows = len(columns["prediction"])
    note = [1.0, 'a "b"', None, True, 5, "x\ry", [1, "z"], ""] * 4
    for kept in ({}, {"note, kept": note[:rows]}):
        with_pyarrow = encode(kept, columns, Format("csv"), is_file=is_file)
        with monkeypatch.context() as without:
            without.setattr(writing, "has_pyarrow", lambda: False)
            assert encode(kept, columns, Format("csv"), is_file=is_file) == with_pyarrow


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_pandas_reads_floats_as_the_floats_that_they_were(dtype: str) -> None:
    for values in ([1.0, 0.0, -3.0], [1.0, np.nan], [np.nan], FLOATS):
        with np.errstate(over="ignore"):
            column = np.array(values, dtype)
        written = csv_of(column)
        read = pd.read_csv(io.BytesIO(csv_header(["score"]) + written))["score"]
        assert read.dtype == np.float64
        assert len(read) == len(values)
        exact = [float(line.strip('"') or "nan") for line in written.decode().splitlines()]
        np.testing.assert_array_equal(exact, np.where(np.isfinite(column), column, np.nan).astype(float))


def test_kept_floats_of_a_table_stay_floats() -> None:
    kept = {"weight": pa.array([1.0, None, np.nan, np.inf, -np.inf]), "half": pa.array([1.0] * 5, pa.float16())}
    written = encode(kept, {"prediction": np.arange(5)}, Format("csv"), is_file=True)
    assert written.decode().splitlines() == [
        "weight,half,prediction",
        "1.0,1.0,0",
        ",1.0,1",
        "nan,1.0,2",
        "inf,1.0,3",
        "-inf,1.0,4",
    ]


def test_only_cells_that_need_quotes_have_them() -> None:
    labels = np.array(["a", "b,c", 'd"'], dtype=object)
    scores = np.array([0.5, 1.0, np.nan])
    written = encode({}, {"prediction": labels, "score": scores}, Format("csv"), is_file=False)
    assert written == b'a,0.5\n"b,c",1.0\n"d""",\n'


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_floats_that_repeat_are_written_as_each_alone(dtype: str) -> None:
    column = np.array([0.0, -0.0, 1 / 3, np.nan, 1e30, 2.5e-7], dtype)
    alone = b"".join(csv_of(column[at : at + 1]) for at in range(len(column)))
    assert csv_of(np.tile(column, 1000)) == alone * 1000


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "csv.gz"])
@pytest.mark.parametrize("labels", [["a", "b"], ["a,b", 'c"d'], ["a\nb", "c"], [1, None]])
@pytest.mark.parametrize("is_kept", [False, True])
def test_lines_that_repeat_are_those_of_each_row(form: str, labels: list[Any], is_kept: bool) -> None:
    label = np.empty(2, dtype=object)
    label[:] = labels
    coded = {
        name: Coded(values, np.array([1, 0, 0, 1, 1]))
        for name, values in (("a", label), ("b", np.array([-0.0, np.nan])))
    }
    columns = {name: each.column() for name, each in coded.items()}
    kept = {"id": pa.array(range(5))} if is_kept else {}
    for is_file in (False, True):
        wanted = encode(kept, columns, format_of(f"out.{form}"), is_file=is_file)
        assert encode(kept, coded, format_of(f"out.{form}"), is_file=is_file) == wanted


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        (["a", "b", "a", "é\ud800"], ["a", "b", "a", "é?"]),
        (["a", None, 1], ["a", None, "1"]),
        ([["a"], ["b"]], [["a"], ["b"]]),
        ([], []),
    ],
)
def test_labels_are_texts_unless_all_are_of_another_type(labels: list[Any], read: list[Any]) -> None:
    column = np.empty(len(labels), dtype=object)
    column[:] = labels
    assert arrow_of(column).to_pylist() == read


def test_a_column_of_texts_is_not_a_dictionary() -> None:
    assert arrow_of(np.array(["a", "b", "a"])).type == pa.string()
