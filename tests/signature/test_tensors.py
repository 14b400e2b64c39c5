"""Arrays become the same columns as equal values in JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes

from app.errors import InvalidInstances
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch
from app.signature.tensors import batch_of, column_of
from app.signature.validator import Validator

SPECS = [
    Input("x", "number", "float64"),
    Input("x", "number", "float64", nullable=True),
    Input("x", "number", "float64", nullable=True, largest=100.0),
    Input("x", "number", "float32"),
    Input("x", "integer", "int64"),
    Input("x", "integer", "int64", nullable=True),
    Input("x", "integer", "int8"),
    Input("x", "integer", "uint8", nullable=True),
    Input("x", "boolean", "bool"),
    Input("x", "category", "int64", categories=(1, 2, 3), unseen="reject"),
    Input("x", "category", "str", categories=("a",), unseen="accept"),
    Input("x", "text", "str"),
    Input("x", "unused", "float64"),
]
DTYPES = st.sampled_from(["?", "i1", "i8", "u1", "u8", "f2", "f4", "f8"])


def accepted(signature: Signature, rows: list[list[Any]]) -> Batch | None:
    try:
        return Validator(signature, 1000).validate(rows)
    except InvalidInstances:
        return None


def equal(got: Any, expected: Any) -> bool:
    assert got.dtype == expected.dtype
    return bool(np.array_equal(got, expected, equal_nan=got.dtype.kind == "f"))


def signature_of(*specs: Input) -> Signature:
    return Signature(specs, ("prediction",), ("prediction",), Layout.FRAME)


@pytest.mark.slow
@given(st.data())
def test_a_column_is_accepted_as_its_values_are(data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(SPECS))
    array = data.draw(shapes.arrays(np.dtype(data.draw(DTYPES)), st.integers(0, 5)))
    got, expected = column_of(array, spec), accepted(signature_of(spec), [[value] for value in array.tolist()])
    assert (got is None) == (expected is None)
    if got is not None and expected is not None and len(array):
        assert equal(got, expected.columns["x"])


@pytest.mark.slow
@given(st.data())
def test_a_matrix_is_accepted_as_its_rows_are(data: st.DataObject) -> None:
    specs = [data.draw(st.sampled_from(SPECS[: data.draw(st.sampled_from([3, len(SPECS)]))])) for _ in range(2)]
    signature = signature_of(*(Input(f"x{i}", **parts(spec)) for i, spec in enumerate(specs)))
    matrix = data.draw(shapes.arrays(np.dtype(data.draw(DTYPES)), st.tuples(st.integers(1, 4), st.just(2))))
    got, expected = batch_of(matrix, signature), accepted(signature, matrix.tolist())
    assert (got is None) == (expected is None)
    if got is not None and expected is not None:
        for name in signature.names:
            assert equal(got.columns[name], expected.columns[name])


def parts(spec: Input) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in Input.__slots__ if name != "name"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_beyond_their_limits_are_not_accepted(value: float) -> None:
    array = np.array([1.0, value])
    assert column_of(array, Input("x", "number", "float64", largest=1e38)) is None
    assert batch_of(array.reshape(-1, 1), signature_of(Input("x", "number", "float64", largest=1e38))) is None


def test_a_matrix_of_doubles_is_not_copied() -> None:
    matrix = np.ones((3, 1))
    batch = batch_of(matrix, signature_of(SPECS[0]))
    assert batch is not None
    assert batch.matrix() is matrix


SIGNATURE = Signature(
    (Input("a", "number", "float64", nullable=True), Input("b", "number", "float64", largest=100.0)),
    ("prediction",),
    ("prediction",),
    Layout.MATRIX,
)
VALUES = [0.0, -0.0, 1.5, 100.0, 100.5, -101.0, np.nan, np.inf, -np.inf, 1e308, 5e-324]


@pytest.mark.parametrize("first", VALUES)
@pytest.mark.parametrize("second", VALUES)
def test_a_matrix_with_values_at_the_limits_is_accepted_as_its_rows_are(first: float, second: float) -> None:
    matrix = np.array([[1.0, 2.0], [first, second]])
    batch = batch_of(matrix, SIGNATURE)
    try:
        expected = Validator(SIGNATURE, 10).validate(matrix.tolist())
    except InvalidInstances:
        assert batch is None
        return
    assert batch is not None
    assert np.array_equal(batch.matrix(), expected.matrix(), equal_nan=True)
    assert list(batch.columns) == list(expected.columns)


def test_a_signaling_nan_is_missing_like_any_other() -> None:
    wide, narrow = b"\x01\0\0\0\0\0\xf0\x7f", b"\x01\x00\x80\x7f"
    matrix = np.frombuffer(narrow + np.float32(1).tobytes(), "<f4").reshape(1, 2)
    batch = batch_of(matrix, SIGNATURE)
    assert batch is not None
    assert np.isnan(batch.matrix()[0, 0])
    column = column_of(np.frombuffer(wide, "<f8"), Input("a", "number", "float32", nullable=True))
    assert isinstance(column, np.ndarray)
    assert np.isnan(column[0])


def test_a_matrix_of_another_shape_is_left_to_the_schema() -> None:
    assert batch_of(np.zeros((1, 3)), SIGNATURE) is None
    assert batch_of(np.zeros(2), SIGNATURE) is None


def test_a_matrix_in_fortran_order_becomes_contiguous() -> None:
    batch = batch_of(np.asfortranarray(np.ones((3, 2))), SIGNATURE)
    assert batch is not None
    assert batch.matrix().flags.c_contiguous
