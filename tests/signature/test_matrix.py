"""The fast path from a matrix gives the batch that its values would give one by one, or leaves them to the schema."""

from __future__ import annotations

import numpy as np
import pytest

from app.errors import InvalidInstances
from app.signature import Input, Layout, Signature
from app.signature.matrix import EXACT, batch_of
from app.signature.schema import Validator

SIGNATURE = Signature(
    (Input("a", "number", "float64", nullable=True), Input("b", "number", "float64", largest=100.0)),
    ("prediction",),
    ("prediction",),
    Layout.MATRIX,
)
VALUES = [0.0, -0.0, 1.5, 100.0, 100.5, -101.0, np.nan, np.inf, -np.inf, 1e308, 5e-324]


@pytest.mark.parametrize("first", VALUES)
@pytest.mark.parametrize("second", VALUES)
def test_it_accepts_what_the_schema_accepts(first: float, second: float) -> None:
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


@pytest.mark.parametrize("dtype", EXACT)
def test_numbers_that_are_the_same_in_float64(dtype: str) -> None:
    batch = batch_of(np.array([[1, 2]], dtype=dtype), SIGNATURE)
    assert batch is not None
    assert batch.matrix().tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("dtype", ["i8", "u8", "?", "U1", "c16"])
def test_others_are_left_to_the_schema(dtype: str) -> None:
    assert batch_of(np.array([[1, 2]]).astype(dtype), SIGNATURE) is None
    assert batch_of(np.zeros((1, 3)), SIGNATURE) is None
    assert batch_of(np.zeros(2), SIGNATURE) is None
