"""The kernels of Gaussian processes (`sklearn.gaussian_process.kernels`), their diagonals, and the error function."""

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

# The Cephes library's rational functions (ndtr.c), highest power first; SciPy computes with the same.
ERF_ABOVE = [
    9.60497373987051638749e0,
    9.00260197203842689217e1,
    2.23200534594684319226e3,
    7.00332514112805075473e3,
    5.55923013010394962768e4,
]
ERF_BELOW = [
    1.0,
    3.35617141647503099647e1,
    5.21357949780152679795e2,
    4.59432382970980127987e3,
    2.26290000613890934246e4,
    4.92673942608635921086e4,
]
ERFC_ABOVE = [
    2.46196981473530512524e-10,
    5.64189564831068821977e-1,
    7.46321056442269912687e0,
    4.86371970985681366614e1,
    1.96520832956077098242e2,
    5.26445194995477358631e2,
    9.34528527171957607540e2,
    1.02755188689515710272e3,
    5.57535335369399327526e2,
]
ERFC_BELOW = [
    1.0,
    1.32281951154744992508e1,
    8.67072140885989742329e1,
    3.54937778887819891062e2,
    9.75708501743205489753e2,
    1.82390916687909736289e3,
    2.24633760818710981792e3,
    1.65666309194161350182e3,
    5.57535340817727675546e2,
]


def erf(g: Graph, values: Tensor) -> Tensor:
    """The error function in float64, for which ONNX Runtime has no kernel."""
    width = values.width or 1
    size = g.node("Clip", [values, g.constant(-8.0), g.constant(8.0)], "float64", width)
    size = _node(g, "Abs", width, size)
    square = _node(g, "Mul", width, values, values)
    near = _node(g, "Mul", width, values, _rational(g, square, ERF_ABOVE, ERF_BELOW))
    bell = _exp(g, _node(g, "Neg", width, _node(g, "Mul", width, size, size)))
    tail = _node(g, "Mul", width, bell, _rational(g, size, ERFC_ABOVE, ERFC_BELOW))
    far = _node(g, "Mul", width, _node(g, "Sign", width, values), _node(g, "Sub", width, g.constant(1.0), tail))
    small = g.node("LessOrEqual", [size, g.constant(1.0)], "bool", width)
    return g.node("Where", [small, near, far], "float64", width)


def _rational(g: Graph, values: Tensor, above: list[float], below: list[float]) -> Tensor:
    return _node(g, "Div", values.width or 1, _polynomial(g, values, above), _polynomial(g, values, below))


def _polynomial(g: Graph, values: Tensor, coefficients: list[float]) -> Tensor:
    """By Horner's rule; the highest power first."""
    width = values.width or 1
    total = _node(g, "Mul", width, values, g.constant(coefficients[0]))
    for coefficient in coefficients[1:-1]:
        total = _node(g, "Mul", width, _node(g, "Add", width, total, g.constant(coefficient)), values)
    return _node(g, "Add", width, total, g.constant(coefficients[-1]))


def _node(g: Graph, operator: str, width: int | None, *inputs: Tensor) -> Tensor:
    return g.node(operator, inputs, "float64", width)


def _scaled(g: Graph, values: Tensor, factor: float) -> Tensor:
    return _node(g, "Mul", values.width, values, g.constant(factor))


def _exp(g: Graph, values: Tensor) -> Tensor:
    return _node(g, "Exp", values.width, values)
