"""Read ONNX files, and cut parts out of their graphs, without the library `onnx`, which serving does not have.

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
    found: list[Field] = []
    view, at = memoryview(message), 0
    while at < len(view):
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(view, at)
            found.append((number, wire, value))
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if size is None:
            if wire != BYTES:
                raise ValueError(f"wire type {wire} is not known")
            size, at = _varint(view, at)
        if at + size > len(view):
            raise ValueError("a field is cut short")
        found.append((number, wire, bytes(view[at : at + size])))
        at += size
    return found


def message_of(fields: Iterable[Field]) -> bytes:
    """Return the message with these fields."""
    parts: list[bytes] = []
    for number, wire, value in fields:
        parts.append(_encoded(number << 3 | wire))
        if wire == VARINT:
            parts.append(_encoded(value))
        else:
            parts += [_encoded(len(value)), value] if wire == BYTES else [value]
    return b"".join(parts)


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _all(fields: Sequence[Field], number: int) -> list[Any]:
    return [value for found, _, value in fields if found == number]


def _text(fields: Sequence[Field], number: int) -> str:
    found = _all(fields, number)
    return cast(bytes, found[0]).decode() if found else ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph, with its attributes by name. `message` is the node as it stands in the file."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    message: bytes

    @classmethod
    def of(cls, message: bytes) -> Node:
        """Read a node."""
        fields = fields_of(message)
        attributes = dict(map(_attribute, _all(fields, 5)))
        inputs, outputs = (tuple(name.decode() for name in _all(fields, number)) for number in (1, 2))
        return cls(_text(fields, 4), inputs, outputs, attributes, message)


def _attribute(message: bytes) -> tuple[str, Any]:
    fields = fields_of(message)
    name = _text(fields, 1)
    if tensors := _all(fields, 5):
        with suppress(ValueError):  # texts
            return name, array_of(tensors[0])
    integers: list[int] = []
    for number, wire, value in fields:
        if number == 8:
            integers += [value] if wire == VARINT else _packed(value)
    if integers:
        return name, np.array(integers, dtype=np.uint64).astype(np.int64)
    single = _all(fields, 3)
    return name, single[0] if single else None


def _packed(content: bytes) -> list[int]:
    values, view, at = [], memoryview(content), 0
    while at < len(view):
        value, at = _varint(view, at)
        values.append(value)
    return values


def array_of(message: bytes) -> NDArray[Any]:
    """Return the array of a TensorProto that holds its values as raw bytes.

    Raises:
        ValueError: It does not.
    """
    fields = fields_of(message)
    shape = [value for number, wire, value in fields if number == 1 and wire == VARINT]
    for number, wire, value in fields:
        if number == 1 and wire == BYTES:
            shape += _packed(value)
    [kind], raw = _all(fields, 2), _all(fields, 9)
    if kind not in DTYPES or len(raw) != 1:
        raise ValueError("a tensor of another type or encoding")
    return np.frombuffer(raw[0], dtype=DTYPES[kind]).reshape(shape)


class OnnxGraph:
    """A graph that can be read and cut."""

    def __init__(self, model: bytes) -> None:
        self._model = fields_of(model)
        [graph] = _all(self._model, GRAPH)
        self._graph = fields_of(graph)
        self.nodes = [Node.of(message) for message in _all(self._graph, NODE)]
        self.outputs = [_text(fields_of(message), 1) for message in _all(self._graph, OUTPUT)]
        self.inputs = [_text(fields_of(message), 1) for message in _all(self._graph, INPUT)]
        self._initializers = {_text(fields_of(message), 8): message for message in _all(self._graph, INITIALIZER)}

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return a constant of the graph; None if there is none of this name."""
        message = self._initializers.get(name)
        return None if message is None else array_of(message)

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that take a tensor."""
        return [node for node in self.nodes if name in node.inputs]

    def until(self, tensor: str, dtype: str) -> bytes:
        """Return the model that computes only this tensor, from the inputs."""
        return self.between({}, {tensor: dtype})

    def between(self, given: Mapping[str, str], wanted: Mapping[str, str]) -> bytes:
        """Return the model that computes tensors from other ones and from the inputs.

        Args:
            given: The dtypes of the tensors that are given in place of the nodes that compute them.
            wanted: The dtypes of the computed tensors; an empty one is left open.
        """
        nodes = self._needed([*wanted], {*given})
        return self._cut(nodes, given, [_described(name, dtype) for name, dtype in wanted.items()])

    def made_of(self, inputs: Collection[str], tensor: str) -> list[str]:
        """Return the tensors that are computed from some inputs alone, and read by other nodes on the way to a tensor.

        Nodes that read nothing but constants belong to the others.
        """
        constant, alone = {"", *self._initializers}, {*inputs}
        nodes = self._needed([tensor], set())
        for node in nodes:
            names = {*node.inputs}
            if names <= constant:
                constant.update(node.outputs)
            elif names <= constant | alone:
                alone.update(node.outputs)
        others = [node for node in nodes if not alone.issuperset(node.outputs)]
        return sorted({name for node in others for name in node.inputs if name in alone})

    def since(self, tensor: str, dtype: str) -> bytes:
        """Return the model that computes the outputs from this tensor alone.

        Raises:
            ValueError: They need inputs too.
        """
        nodes = self._needed(self.outputs, {tensor})
        there = {tensor, *self._initializers, *(name for node in nodes for name in node.outputs), ""}
        if not all(name in there for node in nodes for name in node.inputs):
            raise ValueError("the outputs need more than this tensor")
        return self._cut(nodes, {tensor: dtype}, None)

    def _needed(self, tensors: Sequence[str], given: set[str]) -> list[Node]:
        wanted, needed = {*tensors} - given, []
        for node in reversed(self.nodes):  # they are sorted: a node comes after those that it reads
            if wanted & {*node.outputs}:
                needed.append(node)
                wanted |= {*node.inputs} - given
        return needed[::-1]

    def _cut(self, nodes: Sequence[Node], given: Mapping[str, str], outputs: list[bytes] | None) -> bytes:
        """Return the model with these nodes, given tensors, and these outputs; None leaves those there are."""
        names = {name for node in nodes for name in node.inputs} - {*given}
        graph: list[Field] = [(NODE, BYTES, node.message) for node in nodes]
        for number, wire, value in self._graph:
            is_replaced = number == OUTPUT and outputs is not None
            name_field = {INITIALIZER: 8, INPUT: 1}.get(number)
            is_left_out = name_field is not None and _text(fields_of(value), name_field) not in names
            if number not in (NODE, VALUE_INFO) and not is_replaced and not is_left_out:
                graph.append((number, wire, value))
        graph += [(INPUT, BYTES, _described(*each)) for each in given.items()]
        graph += [(OUTPUT, BYTES, each) for each in outputs or []]
        kept = [field for field in self._model if field[0] != GRAPH]
        return message_of([*kept, (GRAPH, BYTES, message_of(graph))])


def _described(name: str, dtype: str) -> bytes:
    """Return the ValueInfoProto of a tensor of any shape."""
    if not dtype:
        return message_of([(1, BYTES, name.encode())])
    tensor = message_of([(1, VARINT, ELEMENT_TYPES[dtype])])
    return message_of([(1, BYTES, name.encode()), (2, BYTES, message_of([(1, BYTES, tensor)]))])
