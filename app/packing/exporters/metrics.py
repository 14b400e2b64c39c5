"""Minkowski metrics, summed column by column like `sklearn.metrics.DistanceMetric`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, NotExportable, Tensor
from app.packing.exporters.similarity import MAX_DIFFERENCES, differences

SEQUENTIAL = {1.0: "ReduceL1", 2.0: "ReduceSumSquare", np.inf: "ReduceMax"}
"""These operators add the columns one after the other; ReduceSum does not."""


def power_of(est: Any) -> float:
    """Return p of the Minkowski metric of an estimator: 1 manhattan, 2 euclidean, infinity chebyshev.

    Raises:
        NotExportable: It has another metric.
    """
    metric, parameters = est.effective_metric_, est.effective_metric_params_ or {}
    powers = {"euclidean": 2.0, "l1": 1.0, "l2": 2.0, "manhattan": 1.0, "cityblock": 1.0, "chebyshev": np.inf}
    if metric in powers:
        return powers[metric]
    if metric == "minkowski" and parameters.get("w") is None:
        return float(parameters.get("p", 2.0))
    raise NotExportable(f"its metric is {metric if isinstance(metric, str) else 'a function'}")


def minkowski(g: Graph, x: Tensor, points: NDArray[Any], power: float) -> Tensor:
    """Sum the powers of absolute differences column by column; for an infinite power, return their maximum.

    Returns:
        Shape (rows, points).
    """
    count, width = points.shape
    block = width if points.size <= MAX_DIFFERENCES else 1 if width <= 15 else max(1, MAX_DIFFERENCES // count)
    total: Tensor | None = None
    for start in range(0, width, block):
        part = points[:, start : start + block]
        columns = x if block == width else g.matrix(g.select((x,), range(start, start + part.shape[1])))
        term = summed(g, differences(g, columns, part), power, count)
        operator = "Max" if power == np.inf else "Add"
        total = term if total is None else g.node(operator, [total, term], "float64", count)
    if total is None:
        raise NotExportable("it takes no columns")
    return total


def summed(g: Graph, difference: Tensor, power: float, count: int) -> Tensor:
    """Sum powers of absolute differences, shape (rows, points, columns), over the columns: (rows, points)."""
    if power not in {1.0, 2.0}:
        difference = g.node("Abs", [difference], "float64", difference.width)
    if power not in SEQUENTIAL:
        # One exponent for each column: ONNX Runtime would turn a single one into products.
        exponents = g.constant(np.full(difference.width or 1, power))
        difference = g.node("Pow", [difference, exponents], "float64", difference.width)
    axis = g.constant([2], "int64")
    return g.node(SEQUENTIAL.get(power, "ReduceL1"), [difference, axis], "float64", count, keepdims=0)


def distances_of(g: Graph, reduced: Tensor, power: float) -> Tensor:
    """Return the distances from sums of powers of differences."""
    if power == 2.0:
        return g.node("Sqrt", [reduced], "float64", reduced.width)
    if power in {1.0, np.inf}:
        return reduced
    return g.node("Pow", [reduced, g.constant(1.0 / power)], "float64", reduced.width)
