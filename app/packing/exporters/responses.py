"""What a model made of models asks of those inside it: the response of one of their methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor
from app.runtime.servable import METHOD_OF_OUTPUT

OUTPUT_OF_METHOD = {method: output for output, method in METHOD_OF_OUTPUT.items()}


def response(g: Graph, estimator: Any, features: Features, methods: Sequence[str]) -> Tensor:
    """The response of the first of these methods that it has, as `_get_response_values` of scikit-learn gives it.

    Raises:
        NotExportable: there is no graph of it.
    """
    return chosen(g, estimator, g.predict(estimator, features), method_of(estimator, methods))


def chosen(g: Graph, estimator: Any, outputs: Outputs, method: str, positive: Any = None) -> Tensor:
    """One method's response out of all outputs, as `_get_response_values` of scikit-learn gives it.

    Of two classes the probability of the positive one (the second unless told), or the score that grows with it,
    shape (rows,); of more classes (rows, classes); of `predict` what it gives.

    Raises:
        NotExportable: the graph of the estimator does not give it.
    """
    output = OUTPUT_OF_METHOD[method]
    tensor = of(outputs, output, estimator)
    if output == "prediction" or len(estimator.classes_) > 2:
        return tensor
    position = 1 if positive is None else np.asarray(estimator.classes_).tolist().index(positive)
    if output == "probabilities":
        return g.pick(tensor, position)
    return g.node("Neg", [tensor], tensor.type, None) if position == 0 else tensor


def method_of(estimator: Any, methods: Sequence[str]) -> str:
    """The first of these methods that the estimator has, as `_check_response_method` of scikit-learn chooses."""
    return next(method for method in methods if hasattr(estimator, method))


def of(outputs: Outputs, name: str, estimator: Any) -> Tensor:
    """The output of this name.

    Raises:
        NotExportable: the graph of the estimator does not give it.
    """
    if name not in outputs:
        raise NotExportable(f"the graph of the {type(estimator).__name__} in it does not give {name}")
    return outputs[name]


def offered(estimator: Any, outputs: Outputs) -> Outputs:
    """Those outputs for which the estimator around has a method too."""
    return {
        name: tensor
        for name, tensor in outputs.items()
        if hasattr(estimator, METHOD_OF_OUTPUT[name.rstrip("_0123456789")])
    }


def total(g: Graph, tensors: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape, added one after the other as NumPy adds along a leading axis."""
    if len(tensors) == 1:
        return tensors[0]
    return g.node("Sum", tensors, tensors[0].type, tensors[0].width)


def row_sums(g: Graph, block: Tensor) -> Tensor:
    """The sum of each row, (rows, columns) in, (rows, 1) out; in NumPy's order up to seven columns."""
    return g.node("MatMul", [block, g.constant(np.ones((block.width or 0, 1)))], "float64", 1)
