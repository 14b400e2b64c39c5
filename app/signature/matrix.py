"""The fast path from a matrix of numbers to a batch, for signatures that are all plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.signature import Signature
from app.signature.batch import Batch
from app.signature.kinds import limits_of

EXACT = ("f2", "f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4")
"""Their every value is the same number in float64."""


def batch_of(matrix: NDArray[Any], signature: Signature) -> Batch | None:
    """The batch of a matrix of shape (rows, inputs), where it is accepted at first sight; None where it has to be read.

    The same batch as its values would give one by one: a property that the tests hold it to.
    """
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
