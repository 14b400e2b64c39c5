"""The responses of estimators inside a meta-estimator: the output of one of their methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor
from app.runtime.servable import METHOD_OF_OUTPUT

OUTPUT_OF_METHOD = {method: output for output, method in METHOD_OF_OUTPUT.items()}


def response(g: Graph, estimator: Any, features: Features, methods: Sequence[str]) -> Tensor:
    """Return the response of the first of these methods that the estimator has, like `_get_response_values`."""
    return chosen(g, estimator, g.predict(estimator, features), method_of(estimator, methods))


def chosen(g: Graph, estimator: Any, outputs: Outputs, method: str, positive: Any = None) -> Tensor:
    """Return the response of one method out of all outputs, like `_get_response_values` of scikit-learn.

    For two classes it is the probability or the score of the positive class (by default the second one), shape (rows,);
    for more classes it has shape (rows, classes); for `predict` it is the prediction.
    """
    output = OUTPUT_OF_METHOD[method]
    tensor = of(outputs, output, estimator)
    if output == "prediction" or len(estimator.classes_) > 2:
        return tensor
    position = 1 if positive is None else np.asarray(estimator.classes_).tolist().index(positive)
    if output == "probabilities":
        return g.pick(tensor, position)
    return -tensor if position == 0 else tensor


def method_of(estimator: Any, methods: Sequence[str]) -> str:
    """Return the first of these methods that the estimator has, like `_check_response_method` of scikit-learn."""
    return next(method for method in methods if hasattr(estimator, method))


def of(outputs: Outputs, name: str, estimator: Any) -> Tensor:
    """Return the output with this name."""
    if name not in outputs:
        raise NotExportable(f"the graph of the {type(estimator).__name__} in it does not give {name}")
    return outputs[name]


def offered(estimator: Any, outputs: Outputs) -> Outputs:
    """Return the outputs for which the outer estimator has a method too."""
    return {
        name: tensor
        for name, tensor in outputs.items()
        if hasattr(estimator, METHOD_OF_OUTPUT[name.rstrip("_0123456789")])
    }


def total(g: Graph, tensors: Sequence[Tensor]) -> Tensor:
    """Sum tensors of one shape, one after the other, as NumPy does along a leading axis."""
    if len(tensors) == 1:
        return tensors[0]
    return g.node("Sum", tensors, tensors[0].type, tensors[0].width)


def row_sums(g: Graph, block: Tensor) -> Tensor:
    """Sum each row, (rows, columns) in, (rows, 1) out; in the order of NumPy for up to seven columns."""
    return block @ np.ones((block.width or 0, 1))
