"""The kernels of Gaussian processes (`sklearn.gaussian_process.kernels`) and their diagonals."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi, sqrt
from typing import Any

import numpy as np

from app.packing.exporters.graph import Graph, NotExportable, Tensor
from app.packing.exporters.links import reduced
from app.packing.exporters.similarity import Points, linear, named, squared_distances

CONSTANT = ("ConstantKernel", "WhiteKernel")
DEFAULTS = {"gamma": 1.0, "coef0": 1.0, "degree": 3.0}
OPERATORS = {"Product": "Mul", "Sum": "Add"}


def between(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    """`kernel(x, points)`: shape (rows, points).

    Raises:
        NotExportable: there is no graph for one of the kernels that it is made of.
    """
    if _is_constant(kernel):
        raise NotExportable("its kernel is constant")
    return _between(g, kernel, x, points)


def diagonal(g: Graph, kernel: Any, x: Tensor) -> Tensor:
    """`kernel.diag(x)`: shape (rows, 1), or one number for all rows."""
    name = type(kernel).__name__
    if name in OPERATORS:
        return _node(g, OPERATORS[name], 1, diagonal(g, kernel.k1, x), diagonal(g, kernel.k2, x))
    if name == "Exponentiation":
        return _node(g, "Pow", 1, diagonal(g, kernel.kernel, x), g.constant(float(kernel.exponent)))
    if name == "ConstantKernel":
        return g.constant([[float(kernel.constant_value)]])
    if name == "WhiteKernel":
        return g.constant([[float(kernel.noise_level)]])
    if name == "DotProduct":
        return _node(g, "Add", 1, reduced(g, "ReduceSumSquare", x), g.constant(float(kernel.sigma_0) ** 2))
    if name == "PairwiseKernel":
        raise NotExportable("its kernel is a PairwiseKernel")
    return g.constant([[1.0]])


def _between(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    name, width = type(kernel).__name__, len(points)
    if name in OPERATORS:
        return _node(g, OPERATORS[name], width, _between(g, kernel.k1, x, points), _between(g, kernel.k2, x, points))
    if name == "Exponentiation":
        return _node(g, "Pow", width, _between(g, kernel.kernel, x, points), g.constant(float(kernel.exponent)))
    if name == "ConstantKernel":
        return g.constant(float(kernel.constant_value))
    if name == "WhiteKernel":
        return g.constant(0.0)
    if name not in KERNELS:
        raise NotExportable(f"its kernel is made of {name}")
    return KERNELS[name](g, kernel, x, points)


def _is_constant(kernel: Any) -> bool:
    parts = [getattr(kernel, name) for name in ("k1", "k2", "kernel") if hasattr(kernel, name)]
    return all(map(_is_constant, parts)) if parts else type(kernel).__name__ in CONSTANT


def _rbf(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    return _exp(g, _scaled(g, _squared(g, kernel, x, points), -0.5))


def _matern(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    squared, width = _squared(g, kernel, x, points), len(points)
    if kernel.nu == inf:
        return _exp(g, _scaled(g, squared, -0.5))
    if kernel.nu not in (0.5, 1.5, 2.5):
        raise NotExportable(f"its kernel is Matern with nu={kernel.nu}")
    distances = _node(g, "Sqrt", width, squared)
    if kernel.nu == 0.5:
        return _exp(g, _node(g, "Neg", width, distances))
    k = _scaled(g, distances, sqrt(2 * kernel.nu))
    factor = _node(g, "Add", width, k, g.constant(1.0))
    if kernel.nu == 2.5:
        third = _node(g, "Div", width, _node(g, "Mul", width, k, k), g.constant(3.0))
        factor = _node(g, "Add", width, factor, third)
    return _node(g, "Mul", width, factor, _exp(g, _node(g, "Neg", width, k)))


def _rational_quadratic(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    divisor = 2 * kernel.alpha * np.ravel(kernel.length_scale)[0] ** 2
    quotient = _node(g, "Div", len(points), squared_distances(g, x, points), g.constant(divisor))
    base = _node(g, "Add", len(points), quotient, g.constant(1.0))
    return _node(g, "Pow", len(points), base, g.constant(-float(kernel.alpha)))


def _exp_sine_squared(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    width = len(points)
    distances = _node(g, "Sqrt", width, squared_distances(g, x, points))
    sine = _node(g, "Sin", width, _scaled(g, distances, pi / kernel.periodicity))
    quotient = _node(g, "Div", width, sine, g.constant(float(kernel.length_scale)))
    return _exp(g, _scaled(g, _node(g, "Mul", width, quotient, quotient), -2.0))


def _dot_product(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    return _node(g, "Add", len(points), linear(g, x, points), g.constant(float(kernel.sigma_0) ** 2))


def _pairwise(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    parameters = DEFAULTS | {"gamma": kernel.gamma} | (kernel.pairwise_kernels_kwargs or {})
    return named(g, kernel.metric, x, points, **parameters)


def _squared(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    scale = np.ravel(np.asarray(kernel.length_scale, dtype=float))
    return squared_distances(g, _node(g, "Div", x.width, x, g.constant(scale)), points / scale)


KERNELS: dict[str, Callable[[Graph, Any, Tensor, Points], Tensor]] = {
    "DotProduct": _dot_product,
    "ExpSineSquared": _exp_sine_squared,
    "Matern": _matern,
    "PairwiseKernel": _pairwise,
    "RBF": _rbf,
    "RationalQuadratic": _rational_quadratic,
}


def _node(g: Graph, operator: str, width: int | None, *inputs: Tensor) -> Tensor:
    return g.node(operator, inputs, "float64", width)


def _scaled(g: Graph, values: Tensor, factor: float) -> Tensor:
    return _node(g, "Mul", values.width, values, g.constant(factor))


def _exp(g: Graph, values: Tensor) -> Tensor:
    return _node(g, "Exp", values.width, values)
