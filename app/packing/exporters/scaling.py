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


def standard(g: Graph, est: Any, features: Features) -> Features:
    """`StandardScaler.transform`: (x - mean_) / scale_, shape (rows, columns)."""
    return _scaled(g, features, est.mean_ if est.with_mean else None, est.scale_ if est.with_std else None)


def robust(g: Graph, est: Any, features: Features) -> Features:
    """`RobustScaler.transform`: (x - center_) / scale_, shape (rows, columns)."""
    return _scaled(g, features, est.center_ if est.with_centering else None, est.scale_ if est.with_scaling else None)


def _scaled(g: Graph, features: Features, center: Any, scale: Any) -> Features:
    x = g.matrix(features)
    x = x if center is None else x - center
    return (x if scale is None else x / scale,)


def min_max(g: Graph, est: Any, features: Features) -> Features:
    """`MinMaxScaler.transform`: x scale_ + min_, perhaps clipped, shape (rows, columns)."""
    x = g.matrix(features) * est.scale_ + est.min_
    return (x.clip(*est.feature_range) if est.clip else x,)


def max_abs(g: Graph, est: Any, features: Features) -> Features:
    """`MaxAbsScaler.transform`: x / scale_, perhaps clipped, shape (rows, columns)."""
    x = g.matrix(features) / est.scale_
    return (x.clip(-1.0, 1.0) if getattr(est, "clip", False) else x,)


def normalizer(g: Graph, est: Any, features: Features) -> Features:
    """`sklearn.preprocessing.normalize` of rows: x / norm, or x if the norm is nearly 0."""
    x = g.matrix(features)
    axis = g.constant([1], "int64")
    if est.norm == "max":
        norm = g.node("ReduceMax", [abs(x), axis], "float64", 1)
    elif est.norm == "l1":
        norm = g.node("ReduceL1", [x, axis], "float64", 1)
    else:
        norm = g.node("ReduceSumSquare", [x, axis], "float64", 1).sqrt()
    norm = g.where(norm < TINY_SCALE, 1.0, norm)
    return (x / norm,)


def binarizer(g: Graph, est: Any, features: Features) -> Features:
    """`sklearn.preprocessing.binarize`: 1 above the threshold, else 0."""
    x = g.matrix(features)
    return (g.cast(x > est.threshold, "float64"),)


def power(g: Graph, est: Any, features: Features) -> Features:
    """`PowerTransformer.transform`: `scipy.stats.yeojohnson` or `scipy.special.boxcox`, then standardized."""
    x = g.matrix(features)
    lambdas = np.asarray(est.lambdas_, dtype=np.float64)
    x = _box_cox(g, x, lambdas) if est.method == "box-cox" else _yeo_johnson(g, x, lambdas)
    return standard(g, est._scaler, (x,)) if est.standardize else (x,)


def _box_cox(g: Graph, x: Tensor, lambdas: Any) -> Tensor:
    """(x^lambda - 1) / lambda, log(x) if lambda is 0; the run fails on values that are not positive."""
    x = fail_where(g, x <= 0.0, x)
    log = x.log()
    return _powered(g, log, _grown(g, log, g.constant(lambdas)), g.constant(lambdas), lambdas, 1e-19)


def _yeo_johnson(g: Graph, x: Tensor, lambdas: Any) -> Tensor:
    """Box-Cox of 1 + x with lambda for x >= 0; below, the mirrored one with 2 - lambda."""
    size = abs(x)
    log = log1p(g, size)
    negative = x < 0.0
    exponent = g.where(negative, 2 - lambdas, lambdas)
    grown = (size + 1.0) ** exponent - 1.0 if yeo_johnson_by_powers() else _grown(g, log, exponent)
    eps = float(np.finfo(np.float64).eps)
    bent = _powered(g, log, grown, exponent, np.concatenate([lambdas, 2 - lambdas]), eps)
    return g.where(negative, -bent, bent)


def _grown(g: Graph, log: Tensor, exponent: Tensor) -> Tensor:
    """expm1(exponent log)."""
    return expm1(g, exponent * log)


def _powered(g: Graph, log: Tensor, grown: Tensor, exponent: Tensor, lambdas: Any, zero: float) -> Tensor:
    """grown / exponent, or the logarithm if the exponent is (nearly) zero."""
    power = grown / exponent
    if (np.abs(lambdas) > zero).all():
        return power
    return g.where(abs(exponent) <= zero, log, power)


TRANSFORMERS: dict[str, Transform] = {
    "StandardScaler": standard,
    "RobustScaler": robust,
    "MinMaxScaler": min_max,
    "MaxAbsScaler": max_abs,
    "Normalizer": normalizer,
    "Binarizer": binarizer,
    "PowerTransformer": power,
}
