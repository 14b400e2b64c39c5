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


class Batch:
    """Columns by input name, each of shape (rows,), for an array (rows, *shape). Treated as immutable.

    Numbers that came as one matrix stay one: its columns are only made for those who ask for them.
    """

    __slots__ = ("_columns", "_matrix", "_names", "rows")

    def __init__(self, columns: Mapping[str, Column], rows: int) -> None:
        self.rows = rows
        self._columns: Mapping[str, Column] | None = columns
        self._matrix: NDArray[Any] | None = None
        self._names: Sequence[str] = ()

    @classmethod
    def of_matrix(cls, matrix: NDArray[np.float64], names: Sequence[str]) -> Batch:
        """The batch of a matrix of numbers, shape (rows, inputs), whose columns have these names."""
        batch = cls.__new__(cls)
        batch.rows = len(matrix)
        batch._columns = None
        batch._matrix = matrix
        batch._names = names
        return batch

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """The rows of several batches of one signature, one after the other."""
        if len(batches) == 1:
            return batches[0]
        if all(batch._matrix is not None for batch in batches):
            return Batch.of_matrix(np.concatenate([batch.matrix() for batch in batches]), batches[0]._names)
        columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in batches[0].columns}
        return Batch(columns, sum(batch.rows for batch in batches))

    @property
    def columns(self) -> Mapping[str, Column]:
        """The columns by input name, in the order of the signature."""
        if self._columns is None:
            matrix = self.matrix()
            self._columns = {name: matrix[:, position] for position, name in enumerate(self._names)}
        return self._columns

    def matrix(self) -> NDArray[Any]:
        """The columns side by side, shape (rows, inputs): float64, or object where a column is not a number.

        An array has as many columns as it has elements, in row-major order.
        """
        if self._matrix is None:
            columns = list(self.columns.values())
            if any(column.ndim > 1 for column in columns):
                wide = [column.reshape(self.rows, math.prod(column.shape[1:])) for column in columns]
                self._matrix = np.concatenate(wide, axis=1, dtype=np.float64)
                return self._matrix
            numeric = all(column.dtype.kind in "fiub" for column in columns)
            self._matrix = np.empty((self.rows, len(columns)), dtype=np.float64 if numeric else object)
            for position, column in enumerate(columns):
                self._matrix[:, position] = column
        return self._matrix


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch, and the names of the outputs asked for (None: the defaults).

    `pointer` is where the instances stood in the document; a `single` one stood there itself. `in_rows` says that they
    were rows and not records; None that they were the values of a model's only input themselves.
    """

    batch: Batch
    outputs: tuple[str, ...] | None
    pointer: str = "#"
    single: bool = False
    in_rows: bool | None = False


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
    if isinstance(value, dict):
        return {str(name): _json_value(part) for name, part in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
