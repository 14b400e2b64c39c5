"""NumPy's functions as nodes, as accurate as NumPy's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from app.packing.exporters.graph import Graph, Tensor

Function = Callable[[Graph, Tensor], Tensor]
SMALLEST = float(np.finfo(np.float64).tiny)


def log1p(g: Graph, x: Tensor) -> Tensor:
    """`np.log1p`, same shape: log(u) for u = 1 + x, corrected by the rounding error of u (Higham 2002, 1.14.1)."""
    u = _node(g, "Add", x, 1.0)
    lost = g.node("Sub", [x, _node(g, "Sub", u, 1.0)], "float64", x.width)
    # At x = -1 there is no rounding error and u is 0; at x = inf the correction must not be NaN.
    relative = g.node("Div", [lost, _node(g, "Max", u, SMALLEST)], "float64", x.width)
    return g.node("Add", [g.node("Log", [u], "float64", x.width), relative], "float64", x.width)


def expm1(g: Graph, x: Tensor) -> Tensor:
    """`np.expm1`, same shape, as tanh(x / 2) (exp(x) + 1), in which nothing cancels."""
    half = g.node("Tanh", [_node(g, "Mul", x, 0.5)], "float64", x.width)
    return g.node("Mul", [half, _node(g, "Add", g.node("Exp", [x], "float64", x.width), 1.0)], "float64", x.width)


def _node(g: Graph, operator: str, x: Tensor, constant: float) -> Tensor:
    return g.node(operator, [x, g.constant(constant)], "float64", x.width)


def _operator(name: str) -> Function:
    return lambda g, x: g.node(name, [x], "float64", x.width)


def _with(name: str, constant: float) -> Function:
    return lambda g, x: _node(g, name, x, constant)


def _square(g: Graph, x: Tensor) -> Tensor:
    return g.node("Mul", [x, x], "float64", x.width)


def _exp2(g: Graph, x: Tensor) -> Tensor:
    return g.node("Pow", [g.constant(2.0), x], "float64", x.width)


def _cbrt(g: Graph, x: Tensor) -> Tensor:
    root = _node(g, "Pow", _operator("Abs")(g, x), 1.0 / 3.0)
    return g.node("Mul", [_operator("Sign")(g, x), root], "float64", x.width)


def _isnan(g: Graph, x: Tensor) -> Tensor:
    return g.node("IsNaN", [x], "bool", x.width)


FUNCTIONS: dict[Any, Function] = {
    np.abs: _operator("Abs"),
    np.cbrt: _cbrt,
    np.ceil: _operator("Ceil"),
    np.cos: _operator("Cos"),
    np.deg2rad: _with("Mul", np.pi / 180.0),
    np.exp2: _exp2,
    np.exp: _operator("Exp"),
    np.expm1: expm1,
    np.fabs: _operator("Abs"),
    np.floor: _operator("Floor"),
    np.isnan: _isnan,
    np.log10: lambda g, x: _node(g, "Div", _operator("Log")(g, x), float(np.log(10.0))),
    np.log1p: log1p,
    np.log2: lambda g, x: _node(g, "Div", _operator("Log")(g, x), float(np.log(2.0))),
    np.log: _operator("Log"),
    np.negative: _operator("Neg"),
    np.positive: lambda g, x: x,
    np.rad2deg: _with("Mul", 180.0 / np.pi),
    np.radians: _with("Mul", np.pi / 180.0),
    np.reciprocal: _operator("Reciprocal"),
    np.rint: _operator("Round"),
    np.sign: _operator("Sign"),
    np.sin: _operator("Sin"),
    np.sqrt: _operator("Sqrt"),
    np.square: _square,
    np.tanh: _operator("Tanh"),
}
"""The functions that a `FunctionTransformer` may apply: same shape, float64 in and out."""
