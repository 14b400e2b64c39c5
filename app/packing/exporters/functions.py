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
    u = x + 1.0
    lost = x - (u - 1.0)
    # At x = -1 there is no rounding error and u is 0; at x = inf the correction must not be NaN.
    return u.log() + lost / u.maximum(SMALLEST)


def expm1(g: Graph, x: Tensor) -> Tensor:
    """`np.expm1`, same shape, as tanh(x / 2) (exp(x) + 1), in which nothing cancels."""
    return (x * 0.5).tanh() * (x.exp() + 1.0)


FUNCTIONS: dict[Any, Function] = {
    np.abs: lambda g, x: abs(x),
    np.cbrt: lambda g, x: x.sign() * abs(x) ** (1.0 / 3.0),
    np.ceil: lambda g, x: x.ceil(),
    np.cos: lambda g, x: x.cos(),
    np.deg2rad: lambda g, x: x * (np.pi / 180.0),
    np.exp2: lambda g, x: 2.0**x,
    np.exp: lambda g, x: x.exp(),
    np.expm1: expm1,
    np.fabs: lambda g, x: abs(x),
    np.floor: lambda g, x: x.floor(),
    np.isnan: lambda g, x: x.isnan(),
    np.log10: lambda g, x: x.log() / float(np.log(10.0)),
    np.log1p: log1p,
    np.log2: lambda g, x: x.log() / float(np.log(2.0)),
    np.log: lambda g, x: x.log(),
    np.negative: lambda g, x: -x,
    np.positive: lambda g, x: x,
    np.rad2deg: lambda g, x: x * (180.0 / np.pi),
    np.radians: lambda g, x: x * (np.pi / 180.0),
    np.reciprocal: lambda g, x: x.reciprocal(),
    np.rint: lambda g, x: x.round(),
    np.sign: lambda g, x: x.sign(),
    np.sin: lambda g, x: x.sin(),
    np.sqrt: lambda g, x: x.sqrt(),
    np.square: lambda g, x: x * x,
    np.tanh: lambda g, x: x.tanh(),
}
"""The functions that a `FunctionTransformer` may apply: same shape, float64 in and out."""
