"""The last resort: what has no exporter here goes through skl2onnx.

It is not exact in general, though it computes in float64 where it can. Whether its graph is used is decided by the
proof, as for every graph.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx import helper

from app.packing.exporters.graph import ELEMENT_TYPES, ML, OPSET, Features, Graph, NotExportable, Outputs, Tensor

TARGET_OPSET = {"": OPSET, ML: 3}
"""Of ai.onnx.ml the last version that skl2onnx writes; what is not a tree is the same in ours."""

MAX_SAID = 200
# What converters raise where they meet an option, or a version of scikit-learn, that they do not know.
FAILURES = (AttributeError, IndexError, KeyError, NameError, NotImplementedError, RuntimeError, TypeError, ValueError)


def transform(g: Graph, est: Any, features: Features) -> Features:
    """The columns that skl2onnx's graph of a transformer makes, float64.

    Raises:
        NotExportable: skl2onnx has no graph for it, or none that fits into ours.
    """
    block = _numbers(g, est, features)
    answer = _answer(est, "transform", block.width or 0)
    return (_typed(g, _adopted(g, est, block)[0], "float64", answer.shape[1]),)


def predict(g: Graph, est: Any, features: Features) -> Outputs:
    """The prediction, in the type and shape that `predict` gives, and the probabilities, float64, if there are any.

    Raises:
        NotExportable: skl2onnx has no graph for it, or none that fits into ours.
    """
    block = _numbers(g, est, features)
    answer = _answer(est, "predict", block.width or 0)
    first, *others = _adopted(g, est, block)
    types = {"i": "int64", "u": "int64", "b": "bool", "f": "float64", "U": "string", "O": "string"}
    outputs = {"prediction": _typed(g, first, types[answer.dtype.kind], answer.shape[1] if answer.ndim == 2 else None)}
    if hasattr(est, "predict_proba") and others and not isinstance(est.classes_, list):
        outputs["probabilities"] = _typed(g, others[0], "float64", len(est.classes_))
    return outputs


def _numbers(g: Graph, est: Any, features: Features) -> Tensor:
    if any(tensor.type == "string" for tensor in features):
        raise NotExportable(f"there is no exporter for {type(est).__name__}")
    return g.matrix(features)


def _answer(est: Any, method: str, width: int) -> Any:
    """What the method gives for a row of zeros: the one sure way to learn the type and the shape of its answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(getattr(est, method)(np.zeros((1, width))))


def _typed(g: Graph, name: str, type_: str, width: int | None) -> Tensor:
    """An output of skl2onnx's graph in our type and shape; it gives one value for each row as a column, or as none."""
    shape = g.constant([-1] if width is None else [-1, width], "int64")
    # What type it has is not known for sure; to its own, a cast is free.
    return g.node(
        "Cast",
        [g.node("Reshape", [Tensor(name, type_, width), shape], type_, width)],
        type_,
        width,
        to=ELEMENT_TYPES[type_],
    )


def _adopted(g: Graph, est: Any, block: Tensor) -> list[str]:
    """The names of the outputs of skl2onnx's graph, once it is part of ours."""
    written = _converted(est, block.width or 0)
    for node in written.node:
        if node.op_type.startswith("TreeEnsemble"):
            raise NotExportable("skl2onnx's graph of it has trees in float32")
        if node.domain not in ("", ML):
            raise NotExportable(f"skl2onnx's graph of it has operators of {node.domain}")
    # At the end it makes a dict of each row of probabilities, which are wanted as they are.
    before = {node.output[0]: node.input[0] for node in written.node if node.op_type == "ZipMap"}
    kept = [node for node in written.node if node.op_type != "ZipMap"]
    outputs = [onnx.ValueInfoProto(name=before.get(output.name, output.name)) for output in written.output]
    constants = list(written.initializer)
    names = g.adopt(helper.make_graph(kept, written.name, list(written.input), outputs, constants), [block])
    return [names[output.name] for output in outputs]


def _converted(est: Any, width: int) -> onnx.GraphProto:
    """What skl2onnx makes of an estimator that takes so many columns of numbers."""
    name = type(est).__name__
    try:
        import skl2onnx  # it takes a second, and few models need it
        from skl2onnx.common.data_types import DoubleTensorType
        from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
    except ImportError:
        raise NotExportable(f"there is no exporter for {name}") from None
    columns = [("columns", DoubleTensorType([None, width]))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = skl2onnx.convert_sklearn(est, initial_types=columns, target_opset=TARGET_OPSET)
    except (MissingConverter, MissingShapeCalculator) as error:
        raise NotExportable(f"there is no exporter for {name}") from error
    except FAILURES as error:
        said = " ".join(str(error).split())[:MAX_SAID]
        raise NotExportable(f"skl2onnx cannot convert {name} ({type(error).__name__}: {said})") from error
    graph: onnx.GraphProto = model.graph
    return graph
