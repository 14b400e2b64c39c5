"""Accepted instances as columns: what `run` takes; and outputs as JSON values: what it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]
Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns by input name, each of shape (rows,); axis 0 is always the row. Treated as immutable."""

    columns: Mapping[str, Column]
    rows: int

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """The rows of several batches of one signature, one after the other."""
        if len(batches) == 1:
            return batches[0]
        columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in batches[0].columns}
        return Batch(columns, sum(batch.rows for batch in batches))

    def matrix(self) -> NDArray[Any]:
        """The columns side by side, shape (rows, inputs): float64, or object where a column is not a number."""
        columns = list(self.columns.values())
        numeric = all(column.dtype.kind in "fiub" for column in columns)
        matrix = np.empty((self.rows, len(columns)), dtype=np.float64 if numeric else object)
        for position, column in enumerate(columns):
            matrix[:, position] = column
        return matrix


def json_values(array: NDArray[Any]) -> list[Any]:
    """An output as JSON values, one for each row; what JSON cannot say (NaN, infinities) becomes None."""
    values: list[Any] = array.tolist()
    if array.dtype.kind in "biuU" or (array.dtype.kind == "f" and bool(np.isfinite(array).all())):
        return values
    return [_json_value(value) for value in values]


def _json_value(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()  # before all else: np.float64 is a float too, and np.str_ a str
    if isinstance(value, list):
        return [_json_value(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
