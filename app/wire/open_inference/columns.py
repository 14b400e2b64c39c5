"""Tensors as the rows of a model, by either of the two conventions for tables (protocols.md 2.1): one tensor for each
column, named like the input; or one tensor `[rows, inputs]`, named anything."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.service import PredictRequest
from app.errors import FieldError, InvalidInstances, MalformedRequest, TooManyInstances
from app.signature import Input, Signature
from app.signature.batch import Batch, Column
from app.signature.pointers import shown, some
from app.signature.refusals import refuse
from app.signature.tensors import batch_of, column_of
from app.wire.open_inference.reading import InferRequest
from app.wire.open_inference.tensors import Tensor

ROWS = "#/rows"
"""Where the rows stand for the validator, which knows no tensors; `located` says where they stood in truth."""
CELL = re.compile(rf"{ROWS}/(\d+)/(\d+)(?![^/])")


class Table:
    """The tensors of one request as the rows of one model. Belongs to one request."""

    def __init__(self, request: InferRequest, signature: Signature, max_rows: int) -> None:
        """Raises:
        MalformedRequest: the tensors are no table of this model's inputs.
        InvalidInstances: columns are missing, or of another model.
        TooManyInstances: there are more rows than the limit.
        """
        self._signature = signature
        self._tensors: Sequence[Tensor] = request.tensors
        self._matrix = _is_matrix(request, signature)
        if self._matrix:
            _check_matrix(request.tensors[0], signature)
        elif len(request.tensors) != 1 or len(signature.inputs) != 1 or request.pandas:  # else it is that, by any name
            self._tensors = _in_order(request.tensors, signature)
        self.rows = self._tensors[0].array.shape[0] if self._tensors else 0
        if self.rows > max_rows:
            raise TooManyInstances(self.rows, max_rows)

    def asked(self, outputs: Sequence[str] | None) -> PredictRequest:
        """What is asked for: a batch where it is accepted at first sight, else rows, about which the validator words
        what is wrong."""
        if self._matrix:
            matrix = _texts(self._tensors[0])
            batch = batch_of(matrix, self._signature)
            return PredictRequest(() if batch else matrix.tolist(), ROWS, outputs=outputs, batch=batch, in_rows=True)
        arrays = [_of_column(t, spec) for t, spec in zip(self._tensors, self._signature.inputs, strict=True)]
        columns: dict[str, Column] = {}
        for array, spec in zip(arrays, self._signature.inputs, strict=True):
            column = column_of(array, spec)
            if column is None:
                rows = [list(row) for row in zip(*(array.tolist() for array in arrays), strict=True)]
                return PredictRequest(rows, ROWS, outputs=outputs)
            columns[spec.name] = column
        return PredictRequest((), ROWS, outputs=outputs, batch=Batch(columns, self.rows), in_rows=True)

    def located(self, error: InvalidInstances) -> InvalidInstances:
        """The error with its pointers into the tensors of the request."""
        errors = [FieldError(self._pointer(e.pointer), e.detail, e.value) for e in error.errors]
        return InvalidInstances(errors, error.total)

    def _pointer(self, pointer: str) -> str:
        if not pointer.startswith(ROWS):
            return pointer
        place = CELL.match(pointer)
        row, column = map(int, place.groups()) if place else (-1, -1)
        if not (0 <= row < self.rows and 0 <= column < len(self._signature.inputs)):
            return "#/inputs"  # a step may refuse what is no value of the request
        return self._tensors[0].pointer_to(row, column) if self._matrix else self._tensors[column].pointer_to(row)


def _is_matrix(request: InferRequest, signature: Signature) -> bool:
    """Whether one tensor holds several inputs: it is the only one, and is no column by its name and shape."""
    if request.pandas or len(request.tensors) != 1 or len(signature.inputs) == 1:
        return False
    only = request.tensors[0]
    return only.name not in signature.names or list(only.array.shape[1:]) == [len(signature.inputs)]


def _check_matrix(tensor: Tensor, signature: Signature) -> None:
    width = len(signature.inputs)
    shape = list(tensor.array.shape)
    if len(shape) != 2 or shape[1] != width:
        names = some(signature.names)
        said = f"is {shape}; a table of this model is [rows, {width}], with the inputs in this order: {names}"
        raise MalformedRequest(f"{tensor.pointer}/shape", f"{said}; or send one tensor for each, of shape [rows]")


def _in_order(tensors: Sequence[Tensor], signature: Signature) -> list[Tensor]:
    """The columns in the order of the signature, all of the same length."""
    by_name = {tensor.name: tensor for tensor in tensors}
    known = f"the inputs of this model are: {some(signature.names)}"
    own = frozenset(signature.names)
    unknown = [tensor for tensor in tensors if tensor.name not in own]
    missing = [name for name in signature.names if name not in by_name]
    refuse(
        [
            *(
                FieldError(f"{t.pointer}/name", f"is not an input of this model; {known}", shown(t.name))
                for t in unknown
            ),
            *(FieldError("#/inputs", f"has no tensor for the input {name!r}") for name in missing),
        ]
    )
    ordered = [by_name[name] for name in signature.names]
    for tensor in ordered:
        rows = ordered[0].array.shape[0]
        if tensor.array.shape[0] != rows:
            said = f"has {tensor.array.shape[0]} rows; {ordered[0].name!r} has {rows}"
            raise MalformedRequest(f"{tensor.pointer}/shape", said)
    return ordered


def _of_column(tensor: Tensor, spec: Input) -> NDArray[Any]:
    """A column's tensor as an array of shape (rows,); of any further shape where the kind's values are arrays."""
    if spec.kind == "array":
        return tensor.array
    array = _texts(tensor, encodes=spec.kind == "image")
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        said = f"is {list(array.shape)}; the column of an input is [rows] or [rows, 1]"
        raise MalformedRequest(f"{tensor.pointer}/shape", said)
    return array.reshape(-1)


def _texts(tensor: Tensor, encodes: bool = False) -> NDArray[Any]:
    """The tensor's array, whose raw BYTES must be text; where the kind `encodes`, they become base64."""
    array = tensor.array
    if array.dtype != object or not any(type(value) is bytes for value in array.flat):
        return array
    if not encodes:
        raise MalformedRequest(tensor.pointer, "has BYTES that are not UTF-8 text")
    encoded = np.empty(array.size, dtype=object)
    encoded[:] = [base64.b64encode(v).decode("ascii") if type(v) is bytes else v for v in array.flat]
    return encoded.reshape(array.shape)
