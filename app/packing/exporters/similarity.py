"""Distances and kernels between rows and the points of a fitted model.

Minkowski metrics are summed column by column like `sklearn.metrics.DistanceMetric`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.formulas import reduced
from app.packing.exporters.graph import Graph, NotExportable, Tensor

Points = NDArray[Any]
"""The points that rows are compared with, shape (points, columns)."""

MAX_DIFFERENCES = 1 << 14
"""The most numbers in the points whose differences are computed one by one: for 1,000 rows they take 128 MiB."""


def squared_distances(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Return squared Euclidean distances, shape (rows, points); for many points, expanded around their mean."""
    if points.size <= MAX_DIFFERENCES:
        differences = x.unsqueeze(2) - points.T
        return g.node("ReduceSumSquare", [differences, g.constant([1], "int64")], "float64", len(points), keepdims=0)
    middle = points.mean(axis=0)
    return expanded_squares(g, x - middle, points - middle)


def expanded_squares(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Return squared distances as `-2 x·y + |x|² + |y|²`, at least 0, like `euclidean_distances`."""
    return (x @ (-2.0 * points.T) + reduced(g, "ReduceSumSquare", x) + squared_norms(points)).maximum(0.0)


def fused_squares(g: Graph, x: Tensor, points: Points, norms: Points | None = None) -> Tensor:
    """Return squared distances as `|x|² - 2 x·y + |y|²`, at least 0, equal to `EuclideanArgKmin` to the last bit.

    BLAS and MatMul add the products of fewer than 16 columns in the same order, with one rounding for each.
    """
    cross = x @ (-2.0 * points.T)
    if norms is None:
        norms = np.array([row @ row for row in points])
    own = g.node("Squeeze", [x.unsqueeze(1) @ x.unsqueeze(2), g.constant([2], "int64")], "float64", 1)
    return (own + cross + norms).maximum(0.0)


def squared_norms(points: Points) -> Points:
    """`sklearn.utils.extmath.row_norms(points, squared=True)`: shape (points,)."""
    norms: Points = np.einsum("ij,ij->i", points, points)
    return norms


def _manhattan_distances(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Return sums of absolute differences, shape (rows, points)."""
    if points.size > 8 * MAX_DIFFERENCES:
        raise NotExportable("it has too many points to subtract each from each row")
    return summed(g, x.unsqueeze(1) - points, 1.0, len(points))


def pairwise_kernel(g: Graph, kernel: Any, x: Tensor, points: Points, **parameters: float) -> Tensor:
    """Return the kernel of this name in `sklearn.metrics.pairwise`: shape (rows, points)."""
    if callable(kernel):
        raise NotExportable("its kernel is a function")
    if kernel == "linear":
        return x @ points.T
    if kernel == "cosine":
        return _cosine(g, x, points)
    if kernel == "rbf":
        return (squared_distances(g, x, points) * -float(parameters["gamma"])).exp()
    if kernel == "laplacian":
        return (_manhattan_distances(g, x, points) * -float(parameters["gamma"])).exp()
    if kernel in ("poly", "polynomial"):
        return shifted(x, points, parameters) ** float(parameters["degree"])
    if kernel == "sigmoid":
        return shifted(x, points, parameters).tanh()
    raise NotExportable(f"its kernel is {kernel}")


def shifted(x: Tensor, points: Points, parameters: Mapping[str, float]) -> Tensor:
    """`gamma x·y + coef0`."""
    return x @ points.T * float(parameters["gamma"]) + float(parameters["coef0"])


def _cosine(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Return products of normalized rows and points; vectors shorter than 10 epsilon are not normalized."""
    shortest = 10 * np.finfo(np.float64).eps
    norms = np.sqrt(squared_norms(points))
    unit = points / np.where(norms < shortest, 1.0, norms)[:, None]
    length = reduced(g, "ReduceSumSquare", x).sqrt()
    return x / g.where(length < shortest, 1.0, length) @ unit.T


SEQUENTIAL = {1.0: "ReduceL1", 2.0: "ReduceSumSquare", np.inf: "ReduceMax"}
"""The operators that add the columns one after the other, by the power; `ReduceSum` does not."""


def power_of(est: Any) -> float:
    """Return p of the Minkowski metric of an estimator: 1 for manhattan, 2 for euclidean, infinity for chebyshev."""
    metric, parameters = est.effective_metric_, est.effective_metric_params_ or {}
    powers = {"euclidean": 2.0, "l1": 1.0, "l2": 2.0, "manhattan": 1.0, "cityblock": 1.0, "chebyshev": np.inf}
    if metric in powers:
        return powers[metric]
    if metric == "minkowski" and parameters.get("w") is None:
        return float(parameters.get("p", 2.0))
    raise NotExportable(f"its metric is {metric if isinstance(metric, str) else 'a function'}")


def minkowski(g: Graph, x: Tensor, points: NDArray[Any], power: float) -> Tensor:
    """Sum the powers of absolute differences column by column; for infinity, take the maximum: (rows, points)."""
    count, width = points.shape
    block = width if points.size <= MAX_DIFFERENCES else 1 if width <= 15 else max(1, MAX_DIFFERENCES // count)
    total: Tensor | None = None
    for start in range(0, width, block):
        part = points[:, start : start + block]
        columns = x if block == width else g.matrix(g.select((x,), range(start, start + part.shape[1])))
        term = summed(g, columns.unsqueeze(1) - part, power, count)
        operator = "Max" if power == np.inf else "Add"
        total = term if total is None else g.node(operator, [total, term], "float64", count)
    if total is None:
        raise NotExportable("it takes no columns")
    return total


def summed(g: Graph, difference: Tensor, power: float, count: int) -> Tensor:
    """Sum powers of absolute differences over the columns: (rows, points, columns) in, (rows, points) out."""
    if power not in {1.0, 2.0}:
        difference = abs(difference)
    if power not in SEQUENTIAL:
        # One exponent for each column, because ONNX Runtime computes a single exponent by products.
        difference = difference ** np.full(difference.width or 1, power)
    axis = g.constant([2], "int64")
    return g.node(SEQUENTIAL.get(power, "ReduceL1"), [difference, axis], "float64", count, keepdims=0)


def distances_of(g: Graph, reduced: Tensor, power: float) -> Tensor:
    """Return the distances from reduced distances, which are sums of powers of differences."""
    if power == 2.0:
        return reduced.sqrt()
    if power in {1.0, np.inf}:
        return reduced
    return reduced ** (1.0 / power)
