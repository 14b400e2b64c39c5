"""Scalers: each column is shifted, divided or mapped; each row is divided by its norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters.functions import expm1, log1p
from app.packing.exporters.graph import Features, Graph, Tensor, Transform
from app.packing.exporters.links import fail_where
from app.packing.releases import yeo_johnson_by_powers

TINY_SCALE = 10 * float(np.finfo(np.float64).eps)
"""Norms below it count as 1 (`sklearn.preprocessing._data._handle_zeros_in_scale`)."""


def _by(g: Graph, operator: str, x: Tensor, constant: Any) -> Tensor:
    return g.node(operator, [x, g.constant(constant)], "float64", x.width)


def _clipped(g: Graph, x: Tensor, low: float, high: float) -> Tensor:
    return g.node("Clip", [x, g.constant(low), g.constant(high)], "float64", x.width)


def standard(g: Graph, est: Any, features: Features) -> Features:
    """`StandardScaler.transform`: (x - mean_) / scale_, shape (rows, columns)."""
    return _scaled(g, features, est.mean_ if est.with_mean else None, est.scale_ if est.with_std else None)


def robust(g: Graph, est: Any, features: Features) -> Features:
    """`RobustScaler.transform`: (x - center_) / scale_, shape (rows, columns)."""
    return _scaled(g, features, est.center_ if est.with_centering else None, est.scale_ if est.with_scaling else None)


def _scaled(g: Graph, features: Features, center: Any, scale: Any) -> Features:
    x = g.matrix(features)
    x = x if center is None else _by(g, "Sub", x, center)
    return (x if scale is None else _by(g, "Div", x, scale),)


def min_max(g: Graph, est: Any, features: Features) -> Features:
    """`MinMaxScaler.transform`: x scale_ + min_, perhaps clipped, shape (rows, columns)."""
    x = _by(g, "Add", _by(g, "Mul", g.matrix(features), est.scale_), est.min_)
    return (_clipped(g, x, *est.feature_range) if est.clip else x,)


def max_abs(g: Graph, est: Any, features: Features) -> Features:
    """`MaxAbsScaler.transform`: x / scale_, perhaps clipped, shape (rows, columns)."""
    x = _by(g, "Div", g.matrix(features), est.scale_)
    return (_clipped(g, x, -1.0, 1.0) if getattr(est, "clip", False) else x,)


def normalizer(g: Graph, est: Any, features: Features) -> Features:
    """`sklearn.preprocessing.normalize` of rows: x / norm, or x if the norm is nearly 0."""
    x = g.matrix(features)
    axis = g.constant([1], "int64")
    if est.norm == "max":
        norm = g.node("ReduceMax", [g.node("Abs", [x], "float64", x.width), axis], "float64", 1)
    elif est.norm == "l1":
        norm = g.node("ReduceL1", [x, axis], "float64", 1)
    else:
        norm = g.node("Sqrt", [g.node("ReduceSumSquare", [x, axis], "float64", 1)], "float64", 1)
    tiny = g.node("Less", [norm, g.constant(TINY_SCALE)], "bool", 1)
    norm = g.node("Where", [tiny, g.constant(1.0), norm], "float64", 1)
    return (g.node("Div", [x, norm], "float64", x.width),)


def binarizer(g: Graph, est: Any, features: Features) -> Features:
    """`sklearn.preprocessing.binarize`: 1 above the threshold, else 0."""
    x = g.matrix(features)
    return (g.cast(g.node("Greater", [x, g.constant(est.threshold)], "bool", x.width), "float64"),)


def power(g: Graph, est: Any, features: Features) -> Features:
    """`PowerTransformer.transform`: `scipy.stats.yeojohnson` or `scipy.special.boxcox`, then standardized."""
    x = g.matrix(features)
    lambdas = np.asarray(est.lambdas_, dtype=np.float64)
    x = _box_cox(g, x, lambdas) if est.method == "box-cox" else _yeo_johnson(g, x, lambdas)
    return standard(g, est._scaler, (x,)) if est.standardize else (x,)


def _box_cox(g: Graph, x: Tensor, lambdas: Any) -> Tensor:
    """(x^lambda - 1) / lambda, log(x) if lambda is 0; the run fails on values that are not positive."""
    x = fail_where(g, g.node("LessOrEqual", [x, g.constant(0.0)], "bool", x.width), x)
    log = g.node("Log", [x], "float64", x.width)
    return _powered(g, log, _grown(g, log, g.constant(lambdas)), g.constant(lambdas), lambdas, 1e-19)


def _yeo_johnson(g: Graph, x: Tensor, lambdas: Any) -> Tensor:
    """Box-Cox of 1 + x with lambda for x >= 0; below, the mirrored one with 2 - lambda."""
    width = x.width
    size = g.node("Abs", [x], "float64", width)
    log = log1p(g, size)
    negative = g.node("Less", [x, g.constant(0.0)], "bool", width)
    exponent = g.node("Where", [negative, g.constant(2 - lambdas), g.constant(lambdas)], "float64", width)
    if yeo_johnson_by_powers():
        raised = g.node("Pow", [g.node("Add", [size, g.constant(1.0)], "float64", width), exponent], "float64", width)
        grown = g.node("Sub", [raised, g.constant(1.0)], "float64", width)
    else:
        grown = _grown(g, log, exponent)
    eps = float(np.finfo(np.float64).eps)
    bent = _powered(g, log, grown, exponent, np.concatenate([lambdas, 2 - lambdas]), eps)
    return g.node("Where", [negative, g.node("Neg", [bent], "float64", width), bent], "float64", width)


def _grown(g: Graph, log: Tensor, exponent: Tensor) -> Tensor:
    """expm1(exponent log)."""
    return expm1(g, g.node("Mul", [exponent, log], "float64", log.width))


def _powered(g: Graph, log: Tensor, grown: Tensor, exponent: Tensor, lambdas: Any, zero: float) -> Tensor:
    """grown / exponent, or the logarithm if the exponent is (nearly) zero."""
    width = log.width
    power = g.node("Div", [grown, exponent], "float64", width)
    if (np.abs(lambdas) > zero).all():
        return power
    size = g.node("Abs", [exponent], "float64", exponent.width)
    is_zero = g.node("LessOrEqual", [size, g.constant(zero)], "bool", exponent.width)
    return g.node("Where", [is_zero, log, power], "float64", width)


TRANSFORMERS: dict[str, Transform] = {
    "StandardScaler": standard,
    "RobustScaler": robust,
    "MinMaxScaler": min_max,
    "MaxAbsScaler": max_abs,
    "Normalizer": normalizer,
    "Binarizer": binarizer,
    "PowerTransformer": power,
}
