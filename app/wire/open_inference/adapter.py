"""The adapter of the Open Inference Protocol's inference requests.

A request sends a table in one of two ways (docs/protocols.md): a tensor for each column, named like the input; or one
tensor `[rows, inputs]` with any name.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.core.answer import Answer
from app.errors import FieldError, InvalidInstances, MalformedRequest, TooManyInstances
from app.runtime.entry import Entry
from app.server.contract import Environ
from app.signature import Input, Signature
from app.signature.batch import Batch, Column, Decode, PredictRequest
from app.signature.field_errors import refuse, shown, some
from app.signature.tensors import batch_of, column_of
from app.wire import body, codecs
from app.wire.backend import Adapter
from app.wire.instances import OUTPUT_OF_METHOD
from app.wire.open_inference.describe import array_of, datatype_of, output
from app.wire.open_inference.reading import HEADER_LENGTH, InferRequest, parse_request
from app.wire.open_inference.tensors import DTYPES, Tensor, to_binary, to_json

ALIASES = {**OUTPUT_OF_METHOD, "output-0": "prediction"}
ROWS = "#/rows"
"""Pointer to the rows that the validator reads. `located` replaces it with the pointer into a tensor."""
CELL = re.compile(rf"{ROWS}/(\d+)/(\d+)(?![^/])")


class InferAdapter(Adapter):
    """Adapter of one inference request: takes tensors as JSON or binary, and responds with tensors."""

    _request: InferRequest
    _signature: Signature
    _is_matrix: bool
    _tensors: Sequence[Tensor]
    _rows: int
    _wanted: Sequence[tuple[str, str, bool]]

    def __init__(self, environ: Environ, limits: codecs.BodyLimits, entry_of: Callable[[str, str], Entry]) -> None:
        super().__init__(environ, limits)
        self._entry_of = entry_of

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """Return the tensors as a batch if all values are valid, else as rows for the validator.

        Raises:
            MalformedRequest: the tensors are not a table of this model's inputs.
            InvalidInstances: columns are missing or unknown.
            TooManyInstances: there are more rows than the limit.
        """
        content = body.read(self._environ, self._limits.body_bytes)
        header_length = self._environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
        request = parse_request(content, header_length, signature, self._limits)
        self._request, self._signature, self._tensors = request, signature, request.tensors
        self._is_matrix = _is_matrix(request, signature)
        if self._is_matrix:
            _check_matrix(request.tensors[0], signature)
        elif len(request.tensors) != 1 or len(signature.inputs) != 1 or request.pandas:  # else its name is ignored
            self._tensors = _in_order(request.tensors, signature)
        self._rows = len(self._tensors[0].array) if self._tensors else 0
        if self._rows > self._limits.max_instances:
            raise TooManyInstances(self._rows, self._limits.max_instances)
        requested = request.outputs or [(name, request.binary) for name in signature.defaults]
        self._wanted = [
            (requested_name, _canonical(requested_name, signature), is_binary)
            for requested_name, is_binary in requested
        ]
        return self._to_request([name for _, name, _ in self._wanted] if request.outputs else None)

    def _to_request(self, outputs: Sequence[str] | None) -> PredictRequest:
        signature = self._signature
        if self._is_matrix:
            matrix = _texts(self._tensors[0])
            batch = batch_of(matrix, signature)
            return PredictRequest(() if batch else matrix.tolist(), ROWS, outputs=outputs, batch=batch, in_rows=True)
        arrays = [_column_array(tensor, spec) for tensor, spec in zip(self._tensors, signature.inputs, strict=True)]
        columns: dict[str, Column] = {}
        for array, spec in zip(arrays, signature.inputs, strict=True):
            column = column_of(array, spec)
            if column is None:
                rows = [list(row) for row in zip(*(array.tolist() for array in arrays), strict=True)]
                return PredictRequest(rows, ROWS, outputs=outputs)
            columns[spec.name] = column
        return PredictRequest((), ROWS, outputs=outputs, batch=Batch(columns, self._rows), in_rows=True)

    def located(self, error: InvalidInstances) -> InvalidInstances:
        """Return the error with pointers into the tensors of the request."""
        errors = [FieldError(self._pointer(e.pointer), e.detail, e.value) for e in error.errors]
        return InvalidInstances(errors, error.total)

    def _pointer(self, pointer: str) -> str:
        if not pointer.startswith(ROWS):
            return pointer
        place = CELL.match(pointer)
        row, column = map(int, place.groups()) if place else (-1, -1)
        if not (0 <= row < self._rows and 0 <= column < len(self._signature.inputs)):
            return "#/inputs"  # a step refused a value that is not in the request
        return self._tensors[0].pointer_to(row, column) if self._is_matrix else self._tensors[column].pointer_to(row)

    def encode(self, answer: Answer) -> bytes:
        """Return the inference response object, followed by the raw bytes of the outputs requested as binary.

        The lengths in the response count bytes before compression.
        """
        outputs, raw = [], []
        for requested_name, name, is_binary in self._wanted:
            array = self._array(answer, name)
            tensor: dict[str, Any] = {
                "name": requested_name,
                "datatype": datatype_of(array),
                "shape": list(array.shape),
            }
            if is_binary:
                raw.append(to_binary(array))
                tensor["parameters"] = {"binary_data_size": len(raw[-1])}
            else:
                tensor["data"] = to_json(array)
            outputs.append(tensor)
        id_member = {} if self._request.id is None else {"id": self._request.id}
        document = {"model_name": answer.model, "model_version": str(answer.version), **id_member, "outputs": outputs}
        head = msgspec.json.encode(document)
        content, coded = body.compress(b"".join([head, *raw]), self._environ.get("HTTP_ACCEPT_ENCODING", ""))
        if raw:
            self.media_type = "application/octet-stream"
            coded = [(HEADER_LENGTH, str(len(head))), *coded]
        self._coded = coded
        return content

    def _array(self, answer: Answer, name: str) -> NDArray[Any]:
        """Return the array of an output. An empty one has the datatype and shape that the manifest describes."""
        manifest = None if self._rows else self._entry_of(answer.model, str(answer.version)).manifest
        if manifest is None:
            return array_of(answer.outputs[name])
        datatype, shape = output(name, manifest)
        return np.empty([0, *shape[1:]], dtype=DTYPES.get(datatype, object))


def _canonical(name: str, signature: Signature) -> str:
    """Return Retort's name of an output."""
    if name == "transform" and signature.outputs == ("prediction",):  # a transformer's prediction is its transform
        return "prediction"
    own = ALIASES.get(name, name)
    return own if name not in signature.outputs and own in signature.outputs else name


def _is_matrix(request: InferRequest, signature: Signature) -> bool:
    """Return whether the only tensor contains all inputs, because its name or its shape is not that of a column."""
    if request.pandas or len(request.tensors) != 1 or len(signature.inputs) == 1:
        return False
    tensor = request.tensors[0]
    return tensor.name not in signature.names or list(tensor.array.shape[1:]) == [len(signature.inputs)]


def _check_matrix(tensor: Tensor, signature: Signature) -> None:
    shape, width = list(tensor.array.shape), len(signature.inputs)
    if len(shape) != 2 or shape[1] != width:
        names = some(signature.names)
        detail = f"is {shape}; a table of this model is [rows, {width}], with the inputs in this order: {names}"
        raise MalformedRequest(f"{tensor.pointer}/shape", f"{detail}; or send one tensor for each, of shape [rows]")


def _in_order(tensors: Sequence[Tensor], signature: Signature) -> list[Tensor]:
    """Return the columns in the order of the signature, all of the same length."""
    by_name = {tensor.name: tensor for tensor in tensors}
    names = frozenset(signature.names)
    unknown = f"is not an input of this model; the inputs of this model are: {some(signature.names)}"
    errors = [FieldError(f"{t.pointer}/name", unknown, shown(t.name)) for t in tensors if t.name not in names]
    missing = [name for name in signature.names if name not in by_name]
    refuse(errors + [FieldError("#/inputs", f"has no tensor for the input {name!r}") for name in missing])
    ordered = [by_name[name] for name in signature.names]
    for tensor in ordered:
        if len(tensor.array) != len(ordered[0].array):
            detail = f"has {len(tensor.array)} rows; {ordered[0].name!r} has {len(ordered[0].array)}"
            raise MalformedRequest(f"{tensor.pointer}/shape", detail)
    return ordered


def _column_array(tensor: Tensor, spec: Input) -> NDArray[Any]:
    """Return a column's tensor as an array of shape (rows,), or of more dimensions if the input's kind is `array`."""
    if spec.kind == "array":
        return tensor.array
    array = _texts(tensor, encodes=spec.kind == "image")
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        detail = f"is {list(array.shape)}; the column of an input is [rows] or [rows, 1]"
        raise MalformedRequest(f"{tensor.pointer}/shape", detail)
    return array.reshape(-1)


def _texts(tensor: Tensor, encodes: bool = False) -> NDArray[Any]:
    """Return the tensor's array with its raw BYTES as text, or as base64 if `encodes` is true."""
    array = tensor.array
    if array.dtype != object or not any(type(value) is bytes for value in array.flat):
        return array
    if not encodes:
        raise MalformedRequest(tensor.pointer, "has BYTES that are not UTF-8 text")
    encoded = [base64.b64encode(v).decode("ascii") if type(v) is bytes else v for v in array.flat]
    return np.array(encoded, dtype=object).reshape(array.shape)
