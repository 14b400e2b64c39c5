"""Requests for predictions, batches (accepted instances as columns), and outputs as JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.signature.field_errors import in_row

Column = NDArray[Any]
Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Coded:
    """The distinct values of a column, and the place of each row's value among them."""

    values: Column
    places: NDArray[np.intp]

    def column(self) -> Column:
        """Return the column."""
        return self.values[self.places]


NONE_CODED: Mapping[str, Coded] = {}


class CodedOutputs(dict[str, Column]):
    """Outputs with many equal rows. `distinct` has each row once; `places` has the place of each row among these."""

    __slots__ = ("distinct", "places")

    def __init__(self, distinct: Mapping[str, Column], places: NDArray[np.intp]) -> None:
        super().__init__({name: output[places] for name, output in distinct.items()})
        self.distinct = distinct
        self.places = places


class Batch:
    """Columns by input name, of shape (rows,), or (rows, *shape) for arrays. Treated as immutable.

    A matrix of numbers is kept unchanged, and its columns are made on demand. `requests` is the number of requests
    whose rows it has; 0 for recorded examples. `coded` has the columns with known distinct values in another form.
    """

    __slots__ = ("_columns", "_matrix", "_names", "coded", "requests", "rows")

    def __init__(
        self,
        columns: Mapping[str, Column] | None,
        rows: int,
        coded: Mapping[str, Coded] = NONE_CODED,
        matrix: NDArray[Any] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.rows = rows
        self.requests = 1
        self.coded = coded
        self._columns = columns
        self._matrix = matrix
        self._names = names

    @classmethod
    def of_matrix(cls, matrix: NDArray[np.float64], names: Sequence[str]) -> Batch:
        """Return the batch of a matrix of shape (rows, inputs), whose columns have these names."""
        return cls(None, len(matrix), NONE_CODED, matrix, names)

    @staticmethod
    def joined(batches: Sequence[Batch], requests: int = 1) -> Batch:
        """Return one batch with the rows of several batches of the same signature, in order."""
        if len(batches) == 1:
            joined = batches[0]
        elif all(batch._matrix is not None for batch in batches):
            joined = Batch.of_matrix(np.concatenate([batch.matrix() for batch in batches]), batches[0]._names)
        else:
            columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in batches[0].columns}
            joined = Batch(columns, sum(batch.rows for batch in batches))
        joined.requests = requests
        return joined

    @property
    def columns(self) -> Mapping[str, Column]:
        """The columns by input name, in the order of the signature."""
        if self._columns is None:
            matrix = self.matrix()
            self._columns = {name: matrix[:, position] for position, name in enumerate(self._names)}
        return self._columns

    def matrix(self) -> NDArray[Any]:
        """Return the columns side by side, shape (rows, inputs): float64, or object if a column is not numeric.

        An array takes one column for each element, in row-major order.
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
class PredictRequest:
    """One request for predictions, independent of the protocol.

    `pointer` locates the list of instances in the document; a `single` instance stands there itself. `outputs` are the
    output names at `outputs_pointer`, or None for the defaults. `batch` is set, instead of `instances`, if the decoder
    has validated them; `in_rows` is then the result of `in_row` for each.
    """

    instances: Sequence[Any]
    pointer: str = "#"
    single: bool = False
    outputs: Sequence[Any] | None = None
    outputs_pointer: str = "#/outputs"
    batch: Batch | None = None
    in_rows: bool | None = False

    def place(self, row: int) -> tuple[str, bool | None]:
        """Return the pointer of an instance, and its result of `in_row`."""
        is_row = in_row(self.instances[row]) if 0 <= row < len(self.instances) else self.in_rows
        return (self.pointer if self.single else f"{self.pointer}/{row}"), is_row


Decode = Callable[[bytes], PredictRequest | None]
"""Decodes a JSON body in this service's own form, with its batch; returns None if it needs the slow path."""

FEW_VALUES = 64
"""Up to this many numbers, Python is faster than NumPy."""


def objects_of(values: Sequence[Any]) -> Column:
    """Return values of any type as a column of objects, shape (rows,). A list among them stays a list."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def json_text(value: Any) -> str:
    """Return a JSON value as text, for formats that have no objects."""
    return msgspec.json.encode(value).decode()


def json_outputs(outputs: Outputs) -> dict[str, list[Any]]:
    """Return outputs as JSON values by name, one for each row."""
    return {name: json_values(array) for name, array in outputs.items()}


def json_values(array: NDArray[Any]) -> list[Any]:
    """Return an output as JSON values, one for each row. NaN and infinities become None."""
    values: list[Any] = array.tolist()
    kind = array.dtype.kind
    if kind in "biuU" or (kind == "f" and _are_finite(array, values)):
        return values
    return [_json_value(value) for value in values]


def _are_finite(array: NDArray[Any], values: list[Any]) -> bool:
    """Return whether all numbers are finite. For up to `FEW_VALUES`, False may be wrong if their sum overflows."""
    if array.size > FEW_VALUES or array.ndim > 2:
        return bool(np.isfinite(array).all())
    return math.isfinite(sum(values if array.ndim == 1 else map(sum, values)))  # a third of NumPy's time


def _json_value(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()  # first, because np.float64 is also a float, and np.str_ a str
    if isinstance(value, list | tuple):
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
