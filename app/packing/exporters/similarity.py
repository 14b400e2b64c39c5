"""Kernels between rows and the points of a fitted model, and the distances under them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, NotExportable, Tensor
from app.packing.exporters.links import reduced

Points = NDArray[Any]
"""The points that rows are compared with, shape (points, columns)."""

MAX_DIFFERENCES = 1 << 14
"""With up to this many numbers in the points, differences are computed one by one: 1,000 rows take 128 MiB."""


def differences(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Subtract each point from each row, shape (rows, points, columns)."""
    apart = g.node("Unsqueeze", [x, g.constant([1], "int64")], "float64", x.width)
    return g.node("Sub", [apart, g.constant(points)], "float64", x.width)


def squared_distances(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Squared Euclidean distances, shape (rows, points); for many points from norms around their mean."""
    if points.size <= MAX_DIFFERENCES:
        upright = g.node("Unsqueeze", [x, g.constant([2], "int64")], "float64", 1)
        apart = g.node("Sub", [upright, g.constant(points.T)], "float64", len(points))
        return g.node("ReduceSumSquare", [apart, g.constant([1], "int64")], "float64", len(points), keepdims=0)
    middle = points.mean(axis=0)
    x = g.node("Sub", [x, g.constant(middle)], "float64", x.width)
    return expanded_squares(g, x, points - middle)


def expanded_squares(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Squared distances as `-2 x·y + |x|² + |y|²`, at least 0, as `euclidean_distances` computes them."""
    cross = g.node("MatMul", [x, g.constant(-2.0 * points.T)], "float64", len(points))
    raised = g.node("Add", [cross, reduced(g, "ReduceSumSquare", x)], "float64", len(points))
    total = g.node("Add", [raised, g.constant(squared_norms(points))], "float64", len(points))
    return g.node("Max", [total, g.constant(0.0)], "float64", len(points))


def fused_squares(g: Graph, x: Tensor, points: Points, norms: Points | None = None) -> Tensor:
    """Squared distances as `|x|² - 2 x·y + |y|²`, at least 0, equal to `EuclideanArgKmin` to the last bit.

    BLAS and MatMul sum the products of fewer than 16 columns one after the other, with one rounding for each.
    """
    cross = g.node("MatMul", [x, g.constant(-2.0 * points.T)], "float64", len(points))
    if norms is None:
        norms = np.array([row @ row for row in points])
    raised = g.node("Add", [_fused_norms(g, x), cross], "float64", len(points))
    total = g.node("Add", [raised, g.constant(norms)], "float64", len(points))
    return g.node("Max", [total, g.constant(0.0)], "float64", len(points))


def _fused_norms(g: Graph, x: Tensor) -> Tensor:
    """`|x|²` with one rounding for each column, shape (rows, 1)."""
    row = g.node("Unsqueeze", [x, g.constant([1], "int64")], "float64", x.width)
    upright = g.node("Unsqueeze", [x, g.constant([2], "int64")], "float64", 1)
    product = g.node("MatMul", [row, upright], "float64", 1)
    return g.node("Squeeze", [product, g.constant([2], "int64")], "float64", 1)


def squared_norms(points: Points) -> Points:
    """`sklearn.utils.extmath.row_norms(points, squared=True)`: shape (points,)."""
    norms: Points = np.einsum("ij,ij->i", points, points)
    return norms


def manhattan_distances(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Sums of absolute differences, shape (rows, points)."""
    if points.size > 8 * MAX_DIFFERENCES:
        raise NotExportable("it keeps too many points for their differences from each row")
    axis = g.constant([2], "int64")
    return g.node("ReduceL1", [differences(g, x, points), axis], "float64", len(points), keepdims=0)


def linear(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Inner products, shape (rows, points)."""
    return g.node("MatMul", [x, g.constant(points.T)], "float64", len(points))


def rbf(g: Graph, x: Tensor, points: Points, gamma: float) -> Tensor:
    """`exp(-gamma |x - y|²)`."""
    return _exponential(g, squared_distances(g, x, points), gamma)


def laplacian(g: Graph, x: Tensor, points: Points, gamma: float) -> Tensor:
    """`exp(-gamma |x - y|₁)`."""
    return _exponential(g, manhattan_distances(g, x, points), gamma)


def polynomial(g: Graph, x: Tensor, points: Points, gamma: float, coef0: float, degree: float) -> Tensor:
    """`(gamma x·y + coef0) ** degree`."""
    return g.node("Pow", [shifted(g, x, points, gamma, coef0), g.constant(degree)], "float64", len(points))


def sigmoid(g: Graph, x: Tensor, points: Points, gamma: float, coef0: float) -> Tensor:
    """`tanh(gamma x·y + coef0)`."""
    return g.node("Tanh", [shifted(g, x, points, gamma, coef0)], "float64", len(points))


def cosine(g: Graph, x: Tensor, points: Points) -> Tensor:
    """Inner products of normalized rows and points; vectors shorter than 10 epsilon are not normalized."""
    shortest = 10 * np.finfo(np.float64).eps
    norms = np.sqrt(squared_norms(points))
    unit = points / np.where(norms < shortest, 1.0, norms)[:, None]
    length = g.node("Sqrt", [reduced(g, "ReduceSumSquare", x)], "float64", 1)
    short = g.node("Less", [length, g.constant(shortest)], "bool", 1)
    divisor = g.node("Where", [short, g.constant(1.0), length], "float64", 1)
    return linear(g, g.node("Div", [x, divisor], "float64", x.width), unit)


NAMED: dict[str, Callable[..., Tensor]] = {
    "cosine": cosine,
    "laplacian": laplacian,
    "linear": linear,
    "poly": polynomial,
    "polynomial": polynomial,
    "rbf": rbf,
    "sigmoid": sigmoid,
}
PARAMETERS = {
    "laplacian": ("gamma",),
    "poly": ("gamma", "coef0", "degree"),
    "polynomial": ("gamma", "coef0", "degree"),
    "rbf": ("gamma",),
    "sigmoid": ("gamma", "coef0"),
}


def named(g: Graph, kernel: Any, x: Tensor, points: Points, **parameters: float) -> Tensor:
    """Return the kernel of this name, with the parameters that it takes.

    Raises:
        NotExportable: There is no graph for the kernel.
    """
    if callable(kernel):
        raise NotExportable("its kernel is a function")
    if kernel not in NAMED:
        raise NotExportable(f"its kernel is {kernel}")
    wanted = {name: float(parameters[name]) for name in PARAMETERS.get(kernel, ())}
    return NAMED[kernel](g, x, points, **wanted)


def shifted(g: Graph, x: Tensor, points: Points, gamma: float, coef0: float) -> Tensor:
    """`gamma x·y + coef0`."""
    scaled = g.node("Mul", [linear(g, x, points), g.constant(gamma)], "float64", len(points))
    return g.node("Add", [scaled, g.constant(coef0)], "float64", len(points))


def _exponential(g: Graph, distances: Tensor, gamma: float) -> Tensor:
    power = g.node("Mul", [distances, g.constant(-gamma)], "float64", distances.width)
    return g.node("Exp", [power], "float64", distances.width)
