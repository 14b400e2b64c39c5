"""Columns side by side, and outputs as JSON values."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.signature.batch import Batch, json_values


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [
        ({"a": np.array([1.5, 2.5]), "b": np.array([1, 2])}, np.float64),
        ({"a": np.array([1.5, 2.5], dtype=np.float32), "b": np.array([True, False])}, np.float64),
        ({"a": np.array([1.5, 2.5]), "b": np.array(["x", "y"], dtype=object)}, object),
    ],
)
def test_the_matrix_has_the_columns_side_by_side(columns: dict[str, Any], dtype: Any) -> None:
    matrix = Batch(columns, 2).matrix()
    assert matrix.dtype == dtype
    assert matrix.tolist() == [list(row) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]


def test_a_matrix_may_have_no_rows_or_no_columns() -> None:
    assert Batch({"a": np.empty(0)}, 0).matrix().shape == (0, 1)
    assert Batch({}, 3).matrix().shape == (3, 0)


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (np.array([1, 2]), [1, 2]),
        (np.array([True, False]), [True, False]),
        (np.array(["Adelie"]), ["Adelie"]),
        (np.array([0.1], dtype=np.float32), [float(np.float32(0.1))]),
        (np.array([1.5, np.nan, np.inf, -np.inf]), [1.5, None, None, None]),
        (np.array([[1.5, np.nan]]), [[1.5, None]]),
        (np.array(["a", None, 1, 2.5, np.nan, True], dtype=object), ["a", None, 1, 2.5, None, True]),
        (np.array([np.float64(1.5), np.int64(2), np.bool_(True), np.str_("a")], dtype=object), [1.5, 2, True, "a"]),
        (np.array([b"caf\xc3\xa9"]), ["café"]),
        (np.array(["2026-01-02"], dtype="datetime64[D]"), ["2026-01-02"]),
        (np.empty((0, 3)), []),
    ],
)
def test_outputs_become_json_values(array: Any, values: list[Any]) -> None:
    assert json_values(array) == values
    assert list(map(type, json_values(array))) == list(map(type, values))


def test_arrays_and_tuples_within_an_object_array_become_lists() -> None:
    ragged = np.empty(2, dtype=object)
    ragged[:] = [[np.array([1.5, np.nan]), (2, "a")], []]
    assert json_values(ragged) == [[[1.5, None], [2, "a"]], []]


@given(st.lists(st.floats()))
def test_floats_keep_every_digit_in_json(floats: list[float]) -> None:
    values = json_values(np.array(floats, dtype=np.float64))
    assert json.loads(json.dumps(values, allow_nan=False)) == [v if math.isfinite(v) else None for v in floats]
