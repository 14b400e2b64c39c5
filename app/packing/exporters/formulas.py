"""Formulas that several exporters need: from scores to probabilities and labels; the responses of inner estimators."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor
from app.runtime.servable import METHOD_OF_OUTPUT

Floats = NDArray[np.float64]


def affine(g: Graph, features: Features, weights: ArrayLike, intercept: ArrayLike) -> Tensor:
    """`x @ weights.T + intercept` for weights of shape (outputs, columns): shape (rows, outputs)."""
    rows = np.asarray(weights, dtype=float)
    if any(g.sparse(block) for block in features):
        shifts = g.constant(np.broadcast_to(np.asarray(intercept, dtype=float), len(rows)))
        return _products(g, features, rows) + shifts
    constants = [g.constant(rows.T), g.constant(np.broadcast_to(np.asarray(intercept, dtype=float), len(rows)))]
    return g.node("Gemm", [g.matrix(features), *constants], "float64", len(rows))


def _products(g: Graph, features: Features, weights: NDArray[np.float64]) -> Tensor:
    """`x @ weights.T`, block by block; for a sparse block only its stored values are used."""
    ends = np.cumsum([block.width or 0 for block in features])
    products = []
    for block, part in zip(features, np.split(weights.T, ends[:-1]), strict=True):
        sparse = g.sparse(block)
        if sparse is None:
            products.append(g.matrix((block,)) @ part)
            continue
        columns, values = sparse
        table = g.constant(np.vstack([part, np.zeros(len(weights))]))
        rows = g.node("Gather", [table, columns], "float64", len(weights), axis=0)
        product = values.unsqueeze(1) @ rows
        products.append(g.node("Squeeze", [product, g.constant([1], "int64")], "float64", len(weights)))
    return functools.reduce(lambda a, b: a + b, products)


def reduced(g: Graph, operator: str, matrix: Tensor, width: int | None = 1) -> Tensor:
    """Reduce over the columns, for example by `ReduceSum`: shape (rows, 1), or (rows,) if `width` is None."""
    axis = g.constant([1], "int64")
    return g.node(operator, [matrix, axis], matrix.type, width, keepdims=0 if width is None else 1)


def norms(g: Graph, x: Tensor, name: str) -> Tensor:
    """Return the `max`, `l1` or `l2` norm of each row, shape (rows, 1)."""
    if name == "max":
        return reduced(g, "ReduceMax", abs(x))
    return reduced(g, "ReduceL1", x) if name == "l1" else reduced(g, "ReduceSumSquare", x).sqrt()


def interpolated(g: Graph, x: Tensor, starts: Floats, slopes: Floats, origins: Floats, offsets: Floats) -> Tensor:
    """`(x - origin) * slope + offset` of the segment of each value: shape (rows, columns) in and out.

    Each column has a row in the tables. A value belongs to the segment of the last start that is at most the value, and
    to segment 0 below the first start.
    """
    reached = g.cast(x.unsqueeze(2) >= starts, "int64")
    segment = g.node("ReduceSum", [reached, g.constant([2], "int64")], "int64", x.width, keepdims=0)
    place = segment + np.arange(len(slopes)) * slopes.shape[1]
    slope, origin, offset = (g.take(table.ravel(), place) for table in (slopes, origins, offsets))
    return (x - origin) * slope + offset


def repeated(g: Graph, features: Features, row: Tensor, width: int | None) -> Tensor:
    """Repeat one row (1, width) or one value (1,) for each row of the batch."""
    if not features:
        raise NotExportable("it takes no columns")
    first = g.select(features, [0])[0]
    shape = g.node("Shape", [first], "int64", None, end=1 if width is None else 2)
    return g.node("Expand", [row, shape], row.type, width)


def expit(g: Graph, scores: Tensor) -> Tensor:
    """`scipy.special.expit`, accurate for scores far below 0, unlike the operator Sigmoid."""
    return ((-scores).exp() + 1.0).reciprocal()


def softmax(g: Graph, scores: Tensor) -> Tensor:
    """`sklearn.utils.extmath.softmax` over the columns."""
    return g.node("Softmax", [scores], "float64", scores.width, axis=1)


def exp_normalized(g: Graph, log_likelihoods: Tensor) -> Tensor:
    """`exp(x - logsumexp(x))` over the columns, which rounds as in scikit-learn."""
    return (log_likelihoods - reduced(g, "ReduceLogSumExp", log_likelihoods)).exp()


def normalized(g: Graph, values: Tensor, fill: float | None = None) -> Tensor:
    """Divide each row by its sum; rows of zeros become `fill`, or by default uniform, as in `SGDClassifier`."""
    total = reduced(g, "ReduceSum", values)
    return g.where(total.equal(0.0), 1.0 / (values.width or 1) if fill is None else fill, values / total)


def fail_where(g: Graph, refused: Tensor, values: Tensor) -> Tensor:
    """Return the values (float64), but fail the run if any element of `refused` is true, like a ValueError.

    An index out of range is the only way to make a graph fail.
    """
    any_refused = g.node("ReduceMax", [g.cast(refused, "int64")], "int64", None, keepdims=0)
    # There is no element 1: the index is out of range.
    one = g.node("Gather", [g.constant([1.0]), any_refused], "float64", None)
    return values * one


def mirrored(weights: ArrayLike) -> ArrayLike:
    """Turn the weights (or the intercept) of one score into weights of two: the negative score, and the score.

    The argmax of both scores is then the class that `score > 0` gives, and their sigmoids are the two columns of
    probabilities.
    """
    single = np.asarray(weights, dtype=float)
    return np.concatenate([-single, single])


def classified(g: Graph, classes: ArrayLike, scores: Tensor) -> Outputs:
    """Return the prediction and the decision scores; for two classes, `scores` come from `mirrored` weights."""
    binary = len(np.asarray(classes)) == 2
    return {
        "prediction": g.labels(classes, g.argmax(scores)),
        "decision_scores": g.pick(scores, 1) if binary else scores,
    }


def most_probable(g: Graph, classes: ArrayLike, probabilities: Tensor) -> Outputs:
    """Return the most probable class of each row as the prediction, and the probabilities."""
    return {"prediction": g.labels(classes, g.argmax(probabilities)), "probabilities": probabilities}


def signs(g: Graph, inlier: Tensor) -> Outputs:
    """Return the prediction of an outlier detector, 1 for inliers and -1 for outliers, shape (rows,)."""
    return {"prediction": g.where(inlier, g.constant(1, "int64"), -1)}


def targets(g: Graph, values: Tensor, flat: bool) -> Outputs:
    """Return the prediction of a regressor: shape (rows, targets), or (rows,) if `flat`."""
    return {"prediction": g.pick(values, 0) if flat else values}


OUTPUT_OF_METHOD = {method: output for output, method in METHOD_OF_OUTPUT.items()}


def response_of_method(g: Graph, estimator: Any, outputs: Outputs, method: str, positive: Any = None) -> Tensor:
    """Select the response of one method from all outputs, like `_get_response_values` of scikit-learn.

    For `predict` it is the prediction. Otherwise, for two classes, it is the probability or the score of the positive
    class (by default the second), shape (rows,); for more classes it has shape (rows, classes).
    """
    output = OUTPUT_OF_METHOD[method]
    tensor = outputs[output]
    if output == "prediction" or len(estimator.classes_) > 2:
        return tensor
    position = 1 if positive is None else np.asarray(estimator.classes_).tolist().index(positive)
    if output == "probabilities":
        return g.pick(tensor, position)
    return -tensor if position == 0 else tensor


def method_of(estimator: Any, methods: Sequence[str]) -> str:
    """Return the first of these methods that the estimator has, like `_check_response_method` of scikit-learn."""
    return next(method for method in methods if hasattr(estimator, method))


def supported(estimator: Any, outputs: Outputs) -> Outputs:
    """Return the outputs for which this estimator has a method, out of the outputs of an inner estimator."""
    return {
        name: tensor
        for name, tensor in outputs.items()
        if hasattr(estimator, METHOD_OF_OUTPUT[name.rstrip("_0123456789")])
    }


def total(g: Graph, tensors: Sequence[Tensor]) -> Tensor:
    """Sum tensors of one shape, one after the other, as NumPy does along a leading axis."""
    return tensors[0] if len(tensors) == 1 else g.node("Sum", tensors, tensors[0].type, tensors[0].width)


def mean(g: Graph, total: Tensor, count: int) -> Tensor:
    """Divide a sum by the number of its terms."""
    return total if count == 1 else total / float(count)


def row_sums(g: Graph, block: Tensor) -> Tensor:
    """Sum each row, (rows, columns) in, (rows, 1) out; in the order of NumPy for up to seven columns."""
    return block @ np.ones((block.width or 0, 1))
