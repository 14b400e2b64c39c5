"""Scalers: shift, divide or map columns, also to uniform or normal quantiles; divide rows by a norm."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from app.packing.exporters.formulas import Floats, fail_where, interpolated, norms
from app.packing.exporters.functions import expm1, log1p, normal_cdf, normal_ppf
from app.packing.exporters.graph import Features, Graph, NotExportable, Tensor, transformer
from app.packing.exporters.tree_ensemble import LEAF, Tree, tree_values
from app.packing.releases import YEO_JOHNSON_BY_POWERS

TINY_SCALE = 10 * float(np.finfo(np.float64).eps)
"""A smaller norm counts as 1 (`sklearn.preprocessing._data._handle_zeros_in_scale`)."""


@transformer("StandardScaler")
def standard(g: Graph, est: Any, features: Features) -> Features:
    """`StandardScaler.transform`: (x - mean_) / scale_, shape (rows, columns)."""
    return _scaled(g, features, est.mean_ if est.with_mean else None, est.scale_ if est.with_std else None)


@transformer("RobustScaler")
def robust(g: Graph, est: Any, features: Features) -> Features:
    """`RobustScaler.transform`: (x - center_) / scale_, shape (rows, columns)."""
    return _scaled(g, features, est.center_ if est.with_centering else None, est.scale_ if est.with_scaling else None)


def _scaled(g: Graph, features: Features, center: Any, scale: Any) -> Features:
    x = g.matrix(features)
    x = x if center is None else x - center
    return (x if scale is None else x / scale,)


@transformer("MinMaxScaler")
def min_max(g: Graph, est: Any, features: Features) -> Features:
    """`MinMaxScaler.transform`: x * scale_ + min_, clipped if `clip`, shape (rows, columns)."""
    x = g.matrix(features) * est.scale_ + est.min_
    return (x.clip(*est.feature_range) if est.clip else x,)


@transformer("MaxAbsScaler")
def max_abs(g: Graph, est: Any, features: Features) -> Features:
    """`MaxAbsScaler.transform`: x / scale_, clipped if `clip`, shape (rows, columns)."""
    x = g.matrix(features) / est.scale_
    return (x.clip(-1.0, 1.0) if getattr(est, "clip", False) else x,)


@transformer("Normalizer")
def normalizer(g: Graph, est: Any, features: Features) -> Features:
    """`sklearn.preprocessing.normalize` of rows: x / norm, or x if the norm is nearly 0."""
    x = g.matrix(features)
    norm = norms(g, x, est.norm)
    return (x / g.where(norm < TINY_SCALE, 1.0, norm),)


@transformer("Binarizer")
def binarizer(g: Graph, est: Any, features: Features) -> Features:
    """`sklearn.preprocessing.binarize`: 1 above the threshold, else 0."""
    x = g.matrix(features)
    return (g.cast(x > est.threshold, "float64"),)


@transformer("PowerTransformer")
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
    return _divided(g, expm1(g, log * lambdas), g.constant(lambdas), log, lambdas, 1e-19)


def _yeo_johnson(g: Graph, x: Tensor, lambdas: Any) -> Tensor:
    """Box-Cox of 1 + x for x >= 0; for x < 0, the negative of Box-Cox of 1 - x with 2 - lambda."""
    size = abs(x)
    log = log1p(g, size)
    negative = x < 0.0
    exponent = g.where(negative, 2 - lambdas, lambdas)
    powers = (size + 1.0) ** exponent - 1.0 if YEO_JOHNSON_BY_POWERS else expm1(g, exponent * log)
    eps = float(np.finfo(np.float64).eps)
    values = _divided(g, powers, exponent, log, np.concatenate([lambdas, 2 - lambdas]), eps)
    return g.where(negative, -values, values)


def _divided(g: Graph, powers: Tensor, exponent: Tensor, log: Tensor, lambdas: Any, zero: float) -> Tensor:
    """Return `powers / exponent`, or the logarithm if the exponent is at most `zero`."""
    quotient = powers / exponent
    return quotient if (np.abs(lambdas) > zero).all() else g.where(abs(exponent) <= zero, log, quotient)


BOUNDS_THRESHOLD = 1e-7
"""A number nearer to 0 or 1 stands for the lowest or the highest quantile, as in `sklearn.preprocessing._data`."""


@transformer("QuantileTransformer")
def quantile_transformer(g: Graph, est: Any, features: Features) -> Features:
    """`QuantileTransformer.transform`: the mean of two interpolations, upwards and downwards, (rows, columns)."""
    x = g.matrix(features)
    references = np.asarray(est.references_, dtype=np.float64)
    columns = [np.asarray(quantiles, dtype=np.float64) for quantiles in est.quantiles_.T]
    y = _interpolated(g, x, columns, references)
    if est.output_distribution == "uniform":
        return (y,)
    least = BOUNDS_THRESHOLD - np.spacing(1)
    lowest, highest = (g.constant(float(norm.ppf(bound))) for bound in (least, 1 - least))
    deviate = normal_ppf(g, y, least).clip(lowest, highest)
    above = x + BOUNDS_THRESHOLD > [column[-1] for column in columns]
    below = x - BOUNDS_THRESHOLD < [column[0] for column in columns]
    return (g.where(below, lowest, g.where(above, highest, deviate)),)


def _interpolated(g: Graph, x: Tensor, columns: list[Floats], references: Floats) -> Tensor:
    """`(np.interp(x, q, r) - np.interp(-x, -q[::-1], -r[::-1])) / 2`; beyond the quantiles, the outer references.

    A tree for each column and direction finds the segment; a table has the slope and one point of each segment.
    """
    trees: list[Tree] = []
    pieces: list[Floats] = [np.empty((0, 3))]
    for upwards in (True, False):
        for column, quantiles in enumerate(columns):
            bounds, table = _pieces(quantiles, references, upwards)
            trees.append(_search_tree(column, bounds, sum(map(len, pieces))))
            pieces.append(table)
    found = g.cast(tree_values(g, x, trees), "int64")
    count = len(columns)
    table = np.concatenate(pieces)
    slope, start, value = (g.take(part, found) for part in table.T)
    y = slope * (g.concat([x, x]) - start) + value
    up, down = (g.matrix(g.select((y,), range(first, first + count))) for first in (0, count))
    return (up + down) * 0.5


def _pieces(quantiles: Floats, references: Floats, upwards: bool) -> tuple[Floats, Floats]:
    """Return the upper bounds of the segments of one column, and a table with the slope, start and value of each.

    Among equal quantiles, the upwards interpolation starts at the last one, the downwards one at the first.
    """
    distinct, first = np.unique(quantiles, return_index=True)
    left = np.append(first[1:], len(quantiles))[:-1] - 1
    right = first[1:]
    slope = (references[right] - references[left]) / (quantiles[right] - quantiles[left])
    point = left if upwards else right
    middle = np.column_stack([slope, quantiles[point], references[point]])
    table = np.concatenate([[[0.0, 0.0, 0.0]], middle, [[0.0, 0.0, references[-1]]]])
    last_before = np.nextafter(distinct[1:], -np.inf)
    bounds = last_before if upwards else np.append(distinct[1:-1], last_before[-1:])
    return np.append(distinct[:1], bounds), table


def _search_tree(column: int, bounds: Floats, first: int) -> Tree:
    """Return a balanced tree that gives `first` plus the number of bounds below the value."""
    left: list[int] = []
    right: list[int] = []
    threshold: list[float] = []
    value: list[float] = []

    def grow(low: int, high: int) -> int:
        node, middle = len(left), (low + high) // 2
        leaf = low == high
        left.append(LEAF)
        right.append(LEAF)
        threshold.append(0.0 if leaf else bounds[middle])
        value.append(float(first + low))
        if not leaf:
            left[node] = grow(low, middle)
            right[node] = grow(middle + 1, high)
        return node

    grow(0, len(bounds))
    size = len(left)
    missing = np.zeros(size, dtype=bool)
    return Tree(np.array(left), np.array(right), np.full(size, column), np.array(threshold), missing, np.array(value))


def inverse_quantiles(g: Graph, column: Tensor, references: Any, quantiles: Any, normal: bool) -> Tensor:
    """`QuantileTransformer._transform_col` with `inverse`: (rows, 1) in and out."""
    column = normal_cdf(g, column) if normal else column
    knots, values = np.asarray(references, dtype=float), np.asarray(quantiles, dtype=float)
    if len(knots) == 1:
        raise NotExportable("it has a single quantile")
    x = column.clip(0.0, 1.0)
    slopes = np.diff(values) / np.diff(knots)
    found = interpolated(g, x, *(table[None, :] for table in (knots[1:-1], slopes, knots[:-1], values[:-1])))
    if not normal:
        return found
    found = g.where(column + BOUNDS_THRESHOLD > 1.0, values[-1], found)
    return g.where(column - BOUNDS_THRESHOLD < 0.0, values[0], found)
