"""The fast path from a matrix of numbers to a batch, for signatures that are all plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.signature import Signature
from app.signature.batch import Batch
from app.signature.kinds import limits_of

EXACT = ("f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4")
"""Dtypes whose values are all exact in float64."""


def batch_of(matrix: NDArray[Any], signature: Signature) -> Batch | None:
    """Return the batch of a matrix of shape (rows, inputs); None if it needs the slow path."""
    plain = all(spec.kind == "number" and spec.dtype == "float64" for spec in signature.inputs)
    if not plain or matrix.ndim != 2 or matrix.shape[1] != len(signature.inputs) or matrix.dtype.str[1:] not in EXACT:
        return None
    numbers = np.ascontiguousarray(matrix, dtype=np.float64)
    least, most = np.array([limits_of(spec) for spec in signature.inputs]).T
    nullable = np.array([spec.nullable for spec in signature.inputs], dtype=bool)
    missing = np.isnan(numbers)
    if (missing & ~nullable).any() or ((numbers < least) | (numbers > most)).any():
        return None
    return Batch.of_matrix(numbers, signature.names)
