"""Read an `.onnx` file: its inputs and outputs, and the same graph with the inputs of a signature.

Sources: the ONNX intermediate representation (https://onnx.ai/onnx/repo-docs/IR.html); `ZipMap` and the attributes
`classlabels_*` of `ai.onnx.ml`, which skl2onnx and onnxmltools write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from app.errors import PackingRefused, one_line
from app.runtime.graph import FEATURES, ROWS_AT_ONCE
from app.signature import Input

PREFIX = "given/"
DTYPES = {
    helper.np_dtype_to_tensor_dtype(np.dtype(name)): name
    for name in (
        *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "bool"),
    )
} | {TensorProto.STRING: "string"}


@dataclass(frozen=True, slots=True)
class FileInput:
    """One input of the file, with the shape of one row, in which a size that is not fixed is None.

    `rows` is the number of rows that it takes at once; None for any number.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    rows: int | None

    @property
    def width(self) -> int:
        """The number of values of one row."""
        return math.prod(size or 0 for size in self.shape)


Feeds = Sequence[tuple[FileInput, Sequence[Input]]]
"""Each input of a file with the inputs of a signature that fill it, in order."""


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The model in a file, with its inputs, the names of its outputs, and its class labels if it has them."""

    model: onnx.ModelProto
    inputs: tuple[FileInput, ...]
    outputs: tuple[str, ...]
    classes: tuple[object, ...] | None

    @property
    def producer(self) -> str:
        """The program that wrote the file."""
        return " ".join(filter(None, (self.model.producer_name, self.model.producer_version))) or "an unknown program"


def read(path: Path) -> OnnxFile:
    """Read the model in a file, with its weights if they are in files beside it."""
    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise PackingRefused(f"{path} has weights in a file beside it, which is not there ({error.filename})") from None
    except Exception as error:  # protobuf and onnx raise errors without a common base class
        raise PackingRefused(f"{path} is no ONNX model that can be read, or is cut off ({one_line(error)})") from error
    if not model.graph.output:
        raise PackingRefused(f"{path} is no ONNX model that can be read: its graph has no outputs")
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_given(path, value) for value in model.graph.input if value.name not in initialized)
    classes = _without_zip_maps(model)
    return OnnxFile(model, inputs, tuple(value.name for value in model.graph.output), classes)


def _given(path: Path, value: Any) -> FileInput:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type not in DTYPES:
        raise PackingRefused(f"{path}: its input {value.name!r} is of a type that cannot be sent as JSON")
    dims = [dim.dim_value or None for dim in tensor.shape.dim]
    if tensor.HasField("shape") and not dims:
        raise PackingRefused(f"{path}: its input {value.name!r} is a single value for all rows; make it a constant")
    return FileInput(value.name, DTYPES[tensor.elem_type], tuple(dims[1:]), dims[0] if dims else None)


def _without_zip_maps(model: onnx.ModelProto) -> tuple[object, ...] | None:
    """Remove the nodes that turn the probabilities of each row into a map; return the labels in the graph, if any."""
    graph = model.graph
    labels = [
        tuple(attribute.ints) or tuple(text.decode() for text in attribute.strings)
        for node in graph.node
        for attribute in node.attribute
        if attribute.name.startswith("classlabels_") and (attribute.ints or attribute.strings)
    ]
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        graph.node.remove(node)
        for value in graph.output:
            if value.name == node.output[0]:
                value.CopyFrom(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None))
    return labels[-1] if labels else None


def adapted(
    file: OnnxFile,
    feeds: Feeds,
    outputs: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    flat: Sequence[str] = (),
    one_by_one: bool = False,
) -> onnx.ModelProto:
    """Return the same graph with the inputs of a signature, and with outputs by the names of the signature.

    `outputs` has for each output of the signature the output of the file; those in `flat` become one value for each
    row. `shapes` has the shape of one row of each input of the file. `one_by_one` says that the graph takes one row at
    once.
    """
    model = compose.add_prefix(file.model, PREFIX)
    constants: list[Any] = []
    inputs, before = _input_nodes(feeds, shapes, constants)
    after = []
    for name, of in outputs.items():
        shape = [_constant(constants, f"flat_{name}", [-1])] if name in flat else []
        after.append(helper.make_node("Reshape" if shape else "Identity", [PREFIX + of, *shape], [name]))
    given_names = {PREFIX + given.name for given, _ in feeds}
    kept = [value for value in model.graph.input if value.name not in given_names]
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:], model.graph.input[:], model.graph.output[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.input.extend([*inputs, *kept])
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    model.graph.initializer.extend(constants)
    if one_by_one:
        helper.set_model_props(model, {**{p.key: p.value for p in model.metadata_props}, ROWS_AT_ONCE: "1"})
    return model


def _input_nodes(
    feeds: Feeds, shapes: Mapping[str, tuple[int, ...]], constants: list[Any]
) -> tuple[list[Any], list[Any]]:
    """Return the inputs of the adapted graph, and the nodes that make the inputs of the file from them.

    The adapted graph takes one matrix of numbers; with texts, it takes each input of the signature by its name.
    """
    specs = [spec for _, some in feeds for spec in some]
    texts = any(given.dtype == "string" for given, _ in feeds)
    if texts:
        inputs = []
        for spec in specs:
            element = TensorProto.STRING if spec.kind in ("text", "category") else TensorProto.DOUBLE
            inputs.append(helper.make_tensor_value_info(spec.name, element, ["rows", spec.width]))
    else:
        inputs = [helper.make_tensor_value_info(FEATURES, TensorProto.DOUBLE, ["rows", sum(s.width for s in specs)])]
    nodes = []
    start = 0
    for place, (given, some) in enumerate(feeds):
        width = sum(spec.width for spec in some)
        block = f"columns_{place}"
        if texts:
            nodes.append(helper.make_node("Concat", [spec.name for spec in some], [block], axis=1))
        else:
            positions = _constant(constants, f"positions_{place}", range(start, start + width))
            nodes.append(helper.make_node("Gather", [FEATURES, positions], [block], axis=1))
        start += width
        if given.dtype != "string":
            element = helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype))
            nodes.append(helper.make_node("Cast", [block], [f"cast_{place}"], to=element))
            block = f"cast_{place}"
        shape = _constant(constants, f"shape_{place}", [-1, *shapes[given.name]])
        nodes.append(helper.make_node("Reshape", [block, shape], [PREFIX + given.name]))
    return inputs, nodes


def _constant(constants: list[Any], name: str, values: Sequence[int]) -> str:
    constants.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
    return name


def feed_of(given: FileInput, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the values of one input of the file, shape (rows, *shape)."""
    values = rows.astype(object if given.dtype == "string" else given.dtype)
    return values.reshape((len(rows), *shape))
