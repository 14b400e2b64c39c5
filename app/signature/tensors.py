"""The fast path from arrays (tensors, matrices, columns of files) to a batch, without a Python object for each number.

Arrays that are not accepted here go to `Validator.validate`, which finds and words the errors. A property test checks
that both accept the same values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from app.signature import INT64_MAX, Input, Signature
from app.signature.batch import Batch, Column
from app.signature.kinds import KINDS, integer_limits_of, limits_of


def column_of(array: NDArray[Any], spec: Input) -> Column | None:
    """Return the column of an array of shape (rows,) or (rows, ...); None if a value is not accepted."""
    if array.ndim == 1 and spec.kind == "number" and array.dtype.kind in "fiu":
        return _numbers(array, spec)
    if array.ndim == 1 and spec.kind == "integer" and array.dtype.kind in "iu":
        return _integers(array, spec)
    return KINDS[spec.kind].column(array.tolist(), spec)


def batch_of(matrix: NDArray[Any], signature: Signature) -> Batch | None:
    """Return the batch of a matrix of shape (rows, inputs); None if a value is not accepted."""
    if matrix.ndim != 2 or matrix.shape[1] != len(signature.inputs):
        return None
    if signature.is_plain and matrix.dtype.kind in "fiu":
        numbers = np.ascontiguousarray(_cast(matrix, np.float64))
        is_accepted = not _are_beyond_64_bits(matrix) and _accepted(numbers, signature)
        return Batch.of_matrix(numbers, signature.names) if is_accepted else None
    columns: dict[str, Column] = {}
    for position, spec in enumerate(signature.inputs):
        column = column_of(matrix[:, position], spec)
        if column is None:
            return None
        columns[spec.name] = column
    return Batch(columns, len(matrix))


def _accepted(numbers: NDArray[np.float64], signature: Signature) -> bool:
    """Apply the rule of `Number` to a whole matrix."""
    missing = np.isnan(numbers)
    if missing.any() and missing[:, [not spec.nullable for spec in signature.inputs]].any():
        return False
    least, most = np.array([limits_of(spec) for spec in signature.inputs]).T
    return not ((numbers < least) | (numbers > most)).any()


def _numbers(array: NDArray[Any], spec: Input) -> Column | None:
    if _are_beyond_64_bits(array):
        return None
    numbers = _cast(array, np.float64)
    least, most = limits_of(spec)
    if (not spec.nullable and np.isnan(numbers).any()) or ((numbers < least) | (numbers > most)).any():
        return None
    return _cast(numbers, spec.dtype)


def _are_beyond_64_bits(array: NDArray[Any]) -> bool:
    """Return whether an integer has more than 64 bits with its sign, which the rule of numbers refuses."""
    return array.dtype.kind == "u" and bool(array.size) and bool(array.max() > INT64_MAX)


def _cast(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array in another dtype, without NumPy's warning of a signaling NaN, which is a missing value."""
    with np.errstate(invalid="ignore"):
        return array.astype(dtype, copy=False)


def _integers(array: NDArray[Any], spec: Input) -> Column | None:
    least, most = integer_limits_of(spec)
    if array.size and not (least <= int(array.min()) and int(array.max()) <= most):
        return None
    return array.astype(spec.dtype, copy=False)
