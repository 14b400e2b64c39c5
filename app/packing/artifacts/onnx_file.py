"""A graph that came as an `.onnx` file: what it takes and gives, and the same graph with the inputs of a signature.

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

from app.errors import PackingRefused
from app.runtime.graph import FEATURES, ROWS_AT_ONCE
from app.signature import Input

PREFIX = "given/"
DTYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "string",
}


@dataclass(frozen=True, slots=True)
class Given:
    """One input of the file: its element type, its shape for one row, and how many rows it takes at once (None: any).

    A size that is not fixed is None in the shape.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    rows: int | None

    @property
    def width(self) -> int:
        """How many values a row has."""
        return math.prod(size or 0 for size in self.shape)


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The model in a file, with its inputs and its outputs by name; `classes` where the graph has them."""

    model: onnx.ModelProto
    inputs: tuple[Given, ...]
    outputs: tuple[str, ...]
    classes: tuple[object, ...] | None

    @property
    def producer(self) -> str:
        """Who wrote it."""
        return " ".join(filter(None, (self.model.producer_name, self.model.producer_version))) or "an unknown program"


def read(path: Path) -> OnnxFile:
    """The model in the file, with weights that lie beside it.

    Raises:
        PackingRefused: it is no model, is cut off, lacks its weights, or an input is of a type that cannot be sent.
    """
    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise PackingRefused(f"{path} has weights in a file beside it, which is not there ({error.filename})") from None
    except Exception as error:  # protobuf and onnx raise errors without a common root
        said = " ".join(str(error).split())[:200]
        raise PackingRefused(f"{path} is no ONNX model that can be read, or is cut off ({said})") from error
    if not model.graph.output:
        raise PackingRefused(f"{path} is no ONNX model that can be read: its graph has no outputs")
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_given(path, value) for value in model.graph.input if value.name not in initialized)
    classes = _without_zip_maps(model)
    return OnnxFile(model, inputs, tuple(value.name for value in model.graph.output), classes)


def _given(path: Path, value: Any) -> Given:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type not in DTYPES:
        raise PackingRefused(f"{path}: its input {value.name!r} is of a type that cannot be sent as JSON")
    dims = [dim.dim_value or None for dim in tensor.shape.dim]
    if tensor.HasField("shape") and not dims:
        raise PackingRefused(f"{path}: its input {value.name!r} is a single value for all rows; make it a constant")
    return Given(value.name, DTYPES[tensor.elem_type], tuple(dims[1:]), dims[0] if dims else None)


def _without_zip_maps(model: onnx.ModelProto) -> tuple[object, ...] | None:
    """Takes out the nodes that make a map of each row's probabilities; the labels in the graph, if it has any."""
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
    fed: Sequence[tuple[Given, Sequence[Input]]],
    outputs: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    flat: Sequence[str] = (),
    one_by_one: bool = False,
) -> onnx.ModelProto:
    """The same graph, which takes what the signature has, and gives outputs by the signature's names.

    Args:
        file: the model as it was given.
        fed: each of its inputs with those of the signature that make it, in order.
        outputs: its outputs by the name that each gets.
        shapes: the shape of a row of each of its inputs.
        flat: the names of outputs that become one value for each row.
        one_by_one: whether it takes one row at once.
    """
    model = compose.add_prefix(file.model, PREFIX)
    specs = [spec for _, some in fed for spec in some]
    texts = any(given.dtype == "string" for given, _ in fed)
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, values: Sequence[int]) -> str:
        constants.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    if texts:
        infos = [helper.make_tensor_value_info(s.name, _element(s), ["rows", s.width]) for s in specs]
    else:
        infos = [helper.make_tensor_value_info(FEATURES, TensorProto.DOUBLE, ["rows", sum(s.width for s in specs)])]
    start = 0
    for place, (given, some) in enumerate(fed):
        width = sum(spec.width for spec in some)
        wide = f"columns_{place}"
        if texts:
            nodes.append(helper.make_node("Concat", [spec.name for spec in some], [wide], axis=1))
        else:
            positions = constant(f"positions_{place}", range(start, start + width))
            nodes.append(helper.make_node("Gather", [FEATURES, positions], [wide], axis=1))
        start += width
        if given.dtype != "string":
            element = next(code for code, name in DTYPES.items() if name == given.dtype)
            nodes.append(helper.make_node("Cast", [wide], [f"cast_{place}"], to=element))
            wide = f"cast_{place}"
        shape = constant(f"shape_{place}", [-1, *shapes[given.name]])
        nodes.append(helper.make_node("Reshape", [wide, shape], [PREFIX + given.name]))
    given_names = {PREFIX + given.name for given, _ in fed}
    kept = [value for value in model.graph.input if value.name not in given_names]
    after = []
    for name, of in outputs.items():
        if name in flat:
            after.append(helper.make_node("Reshape", [PREFIX + of, constant(f"flat_{name}", [-1])], [name]))
        else:
            after.append(helper.make_node("Identity", [PREFIX + of], [name]))
    before = [*nodes, *model.graph.node, *after]
    del model.graph.node[:], model.graph.input[:], model.graph.output[:], model.graph.value_info[:]
    model.graph.node.extend(before)
    model.graph.input.extend([*infos, *kept])
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    model.graph.initializer.extend(constants)
    if one_by_one:
        helper.set_model_props(model, {**{p.key: p.value for p in model.metadata_props}, ROWS_AT_ONCE: "1"})
    return model


def _element(spec: Input) -> int:
    return TensorProto.STRING if spec.kind in ("text", "category") else TensorProto.DOUBLE


def feed_of(given: Given, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The values of one input for the graph as it was given: shape (rows, *shape)."""
    values = rows.astype(object if given.dtype == "string" else given.dtype)
    return values.reshape((len(rows), *shape))
