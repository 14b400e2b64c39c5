"""Read ONNX files, and extract parts of their graphs, without the library `onnx`, which is not installed for serving.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto and https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
GRAPH = 7  # of a ModelProto
NODE, INITIALIZER, INPUT, OUTPUT, VALUE_INFO = 1, 5, 11, 12, 13  # of a GraphProto
DTYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 11: "float64"}
ELEMENT_TYPES = {name: number for number, name in DTYPES.items()}

Field = tuple[int, int, Any]
"""The number of a field, its wire type, and its value: an integer, or bytes."""


def fields_of(message: bytes) -> list[Field]:
    """Return the fields of a message, in order."""
    fields: list[Field] = []
    view, at = memoryview(message), 0
    while at < len(view):
        key, at = _read_varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _read_varint(view, at)
            fields.append((number, wire, value))
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if size is None:
            if wire != BYTES:
                raise ValueError(f"wire type {wire} is not known")
            size, at = _read_varint(view, at)
        if at + size > len(view):
            raise ValueError("a field is cut short")
        fields.append((number, wire, bytes(view[at : at + size])))
        at += size
    return fields


def message_of(fields: Iterable[Field]) -> bytes:
    """Encode fields as a message."""
    parts: list[bytes] = []
    for number, wire, value in fields:
        parts.append(_encode_varint(number << 3 | wire))
        if wire == VARINT:
            parts.append(_encode_varint(value))
        else:
            parts += [_encode_varint(len(value)), value] if wire == BYTES else [value]
    return b"".join(parts)


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _values_of(fields: Sequence[Field], number: int) -> list[Any]:
    return [value for field_number, _, value in fields if field_number == number]


def _text(fields: Sequence[Field], number: int) -> str:
    values = _values_of(fields, number)
    return cast(bytes, values[0]).decode() if values else ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph, with its attributes by name. `message` is the encoded node."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    message: bytes

    @classmethod
    def of(cls, message: bytes) -> Node:
        """Read a node."""
        fields = fields_of(message)
        attributes = dict(map(_attribute, _values_of(fields, 5)))
        inputs, outputs = (tuple(name.decode() for name in _values_of(fields, number)) for number in (1, 2))
        return cls(_text(fields, 4), inputs, outputs, attributes, message)


def _attribute(message: bytes) -> tuple[str, Any]:
    fields = fields_of(message)
    name = _text(fields, 1)
    if tensors := _values_of(fields, 5):
        with suppress(ValueError):  # texts
            return name, array_of(tensors[0])
    integers: list[int] = []
    for number, wire, value in fields:
        if number == 8:
            integers += [value] if wire == VARINT else _read_packed(value)
    if integers:
        return name, np.array(integers, dtype=np.uint64).astype(np.int64)
    single = _values_of(fields, 3)
    return name, single[0] if single else None


def _read_packed(content: bytes) -> list[int]:
    values, view, at = [], memoryview(content), 0
    while at < len(view):
        value, at = _read_varint(view, at)
        values.append(value)
    return values


def array_of(message: bytes) -> NDArray[Any]:
    """Return the array of a TensorProto with raw bytes.

    Raises:
        ValueError: The tensor has another type or encoding.
    """
    fields = fields_of(message)
    shape = [value for number, wire, value in fields if number == 1 and wire == VARINT]
    for number, wire, value in fields:
        if number == 1 and wire == BYTES:
            shape += _read_packed(value)
    [kind], raw = _values_of(fields, 2), _values_of(fields, 9)
    if kind not in DTYPES or len(raw) != 1:
        raise ValueError("a tensor of another type or encoding")
    return np.frombuffer(raw[0], dtype=DTYPES[kind]).reshape(shape)


class OnnxGraph:
    """A graph, from which models with a part of its nodes can be extracted."""

    def __init__(self, model: bytes) -> None:
        self._model = fields_of(model)
        [graph] = _values_of(self._model, GRAPH)
        self._graph = fields_of(graph)
        self.nodes = [Node.of(message) for message in _values_of(self._graph, NODE)]
        self.outputs = [_text(fields_of(message), 1) for message in _values_of(self._graph, OUTPUT)]
        self.inputs = [_text(fields_of(message), 1) for message in _values_of(self._graph, INPUT)]
        self._initializers = {_text(fields_of(message), 8): message for message in _values_of(self._graph, INITIALIZER)}

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the constant of this name; None if it does not exist."""
        message = self._initializers.get(name)
        return None if message is None else array_of(message)

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a tensor."""
        return [node for node in self.nodes if name in node.inputs]

    def model_between(self, given: Mapping[str, str], outputs: Mapping[str, str]) -> bytes:
        """Return the model that computes some tensors from other tensors and from the inputs.

        Args:
            given: The names and dtypes of tensors that become inputs. The nodes that compute them are left out.
            outputs: The names and dtypes of the computed tensors; an empty dtype is not declared.
        """
        nodes = self._nodes_for([*outputs], {*given})
        return self._model_of(nodes, given, [_value_info(name, dtype) for name, dtype in outputs.items()])

    def tensors_computed_from(self, inputs: Collection[str], tensor: str) -> list[str]:
        """Return the tensors that depend only on `inputs`, and that other nodes read to compute `tensor`.

        Nodes that read only constants count as other nodes.
        """
        constant, from_inputs = {"", *self._initializers}, {*inputs}
        nodes = self._nodes_for([tensor], set())
        for node in nodes:
            names = {*node.inputs}
            if names <= constant:
                constant.update(node.outputs)
            elif names <= constant | from_inputs:
                from_inputs.update(node.outputs)
        others = [node for node in nodes if not from_inputs.issuperset(node.outputs)]
        return sorted({name for node in others for name in node.inputs if name in from_inputs})

    def model_from(self, tensor: str, dtype: str) -> bytes:
        """Return the model that computes the outputs from this tensor alone.

        Raises:
            ValueError: The outputs also need inputs.
        """
        nodes = self._nodes_for(self.outputs, {tensor})
        available = {tensor, *self._initializers, *(name for node in nodes for name in node.outputs), ""}
        if not all(name in available for node in nodes for name in node.inputs):
            raise ValueError("the outputs need more than this tensor")
        return self._model_of(nodes, {tensor: dtype}, None)

    def _nodes_for(self, tensors: Sequence[str], given: set[str]) -> list[Node]:
        missing, nodes = {*tensors} - given, []
        for node in reversed(self.nodes):  # nodes are sorted: a node comes after the nodes whose outputs it reads
            if missing & {*node.outputs}:
                nodes.append(node)
                missing |= {*node.inputs} - given
        return nodes[::-1]

    def _model_of(self, nodes: Sequence[Node], given: Mapping[str, str], outputs: list[bytes] | None) -> bytes:
        """Return the model with these nodes, the given tensors as inputs, and these outputs; None keeps the outputs."""
        names = {name for node in nodes for name in node.inputs} - {*given}
        graph: list[Field] = [(NODE, BYTES, node.message) for node in nodes]
        for number, wire, value in self._graph:
            is_replaced = number == OUTPUT and outputs is not None
            name_field = {INITIALIZER: 8, INPUT: 1}.get(number)
            is_left_out = name_field is not None and _text(fields_of(value), name_field) not in names
            if number not in (NODE, VALUE_INFO) and not is_replaced and not is_left_out:
                graph.append((number, wire, value))
        graph += [(INPUT, BYTES, _value_info(*tensor)) for tensor in given.items()]
        graph += [(OUTPUT, BYTES, output) for output in outputs or []]
        other_fields = [field for field in self._model if field[0] != GRAPH]
        return message_of([*other_fields, (GRAPH, BYTES, message_of(graph))])


def _value_info(name: str, dtype: str) -> bytes:
    """Return the ValueInfoProto of a tensor of any shape."""
    if not dtype:
        return message_of([(1, BYTES, name.encode())])
    tensor = message_of([(1, VARINT, ELEMENT_TYPES[dtype])])
    return message_of([(1, BYTES, name.encode()), (2, BYTES, message_of([(1, BYTES, tensor)]))])
