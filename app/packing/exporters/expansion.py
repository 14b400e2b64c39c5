"""Polynomial features, bins, and B-splines of each column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Features, Graph, NotExportable, Tensor, transformer
from app.packing.releases import splines_are_sparse, splines_of_missing


@transformer("PolynomialFeatures")
def polynomial(g: Graph, est: Any, features: Features) -> Features:
    """`PolynomialFeatures.transform`: products of columns. A product is computed from its last factor to its first.

    A column of ones is prepended, so that every product has the same number of factors.
    """
    x = g.matrix(features)
    terms = list(
        est._combinations(
            n_features=est.n_features_in_,
            min_degree=est._min_degree,
            max_degree=est._max_degree,
            interaction_only=est.interaction_only,
            include_bias=est.include_bias,
        )
    )
    degree = max(map(len, terms), default=0)
    if not terms or (degree == 1 and terms[0]):
        return g.select(features, [term[0] for term in terms])
    # Transposed, because a row is copied at once, while the values of a column are copied one by one.
    transposed = g.node("Transpose", [x], "float64", None, perm=[1, 0])
    pads = g.constant([1, 0, 0, 0], "int64")
    rows = g.node("Pad", [transposed, pads, g.constant(1.0)], "float64", None)
    # Row 0 contains ones: it pads the terms that have fewer factors.
    factors = [(0,) * (degree - len(term)) + tuple(column + 1 for column in term) for term in terms]
    return (g.node("Transpose", [_product(g, rows, factors)], "float64", len(factors), perm=[1, 0]),)


def _product(g: Graph, rows: Tensor, factors: list[tuple[int, ...]]) -> Tensor:
    """Multiply the rows that are the factors of each term: (1 + columns, batch) in, (terms, batch) out."""
    if len(factors[0]) <= 1:
        return g.take(rows, [term[0] if term else 0 for term in factors])
    rest = sorted({term[1:] for term in factors})
    position_of = {term: position for position, term in enumerate(rest)}
    right = g.take(_product(g, rows, rest), [position_of[term[1:]] for term in factors])
    return right * g.take(rows, [term[0] for term in factors])


@transformer("KBinsDiscretizer")
def bins(g: Graph, est: Any, features: Features) -> Features:
    """`KBinsDiscretizer.transform`: the bin (`np.searchsorted`, right), or its indicator; outer bins are unbounded."""
    x = g.matrix(features)
    if est.dtype == np.float32:
        x = g.cast(g.cast(x, "float32"), "float64")
    inner = [np.asarray(edges, dtype=np.float64)[1:-1] for edges in est.bin_edges_]
    if est.encode == "ordinal":
        # Count the inner edges that are at most the value.
        edges = np.full((len(inner), max(1, *map(len, inner))), np.inf)
        for column, values in enumerate(inner):
            edges[column, : len(values)] = values
        reached = g.cast(x.unsqueeze(2) >= edges, "float64")
        return (g.node("ReduceSum", [reached, g.constant([2], "int64")], "float64", x.width, keepdims=0),)
    lower = np.concatenate([np.r_[-np.inf, edges] for edges in inner])
    upper = np.concatenate([np.r_[edges, np.inf] for edges in inner])
    columns = np.repeat(np.arange(len(inner)), [len(edges) + 1 for edges in inner])
    x = g.take(x, columns, axis=1)
    return (g.cast((x >= lower) & (x < upper), "float64"),)


@transformer("SplineTransformer")
def splines(g: Graph, est: Any, features: Features) -> Features:
    """`SplineTransformer.transform`: every basis function at every value, shape (rows, columns x splines)."""
    if est.extrapolation == "error":
        raise NotExportable("it refuses values beyond its knots, which a graph does not")
    if est.degree == 0 and (splines_are_sparse(est) or est.extrapolation == "constant"):
        raise NotExportable("its splines of degree 0 fail beyond their knots in scikit-learn itself")
    knots = np.stack([spline.t for spline in est.bsplines_])
    x = g.matrix(features)
    if est.extrapolation == "periodic":
        basis = _basis(g, _wrapped(g, x, est).unsqueeze(2), knots, est.degree)
        basis = basis @ est.bsplines_[0].c
    else:
        basis = _basis(g, x.unsqueeze(2), knots, est.degree)
    if est.extrapolation in ("constant", "linear"):
        basis = _extrapolated(g, est, basis, x.unsqueeze(2))
    if splines_of_missing(est) == "zeros":
        basis = g.where(x.unsqueeze(2).isnan(), 0.0, basis)
    if not est.include_bias:
        basis = _slice(g, basis, 0, (basis.width or 0) - 1)
    width = len(knots) * (basis.width or 0)
    return (g.node("Reshape", [basis, g.constant([0, width], "int64")], "float64", width),)


def _slice(g: Graph, x: Tensor, start: int, stop: int) -> Tensor:
    """Slice the last of three axes, from `start` up to `stop`."""
    limits = [g.constant([limit], "int64") for limit in (start, stop, 2)]
    return g.node("Slice", [x, *limits], "float64", stop - start)


def _wrapped(g: Graph, x: Tensor, est: Any) -> Tensor:
    """Return `low + (x - low) % period`, where the remainder is never negative, as `np.remainder`."""
    low, high = (np.array([spline.t[i] for spline in est.bsplines_]) for i in (est.degree, -est.degree - 1))
    if not (high > low).all():
        raise NotExportable("a column had only one value in training, so it has no period")
    period = g.constant(high - low)
    rest = g.node("Mod", [x - low, period], "float64", x.width, fmod=1)
    return g.constant(low) + g.where(rest < 0.0, rest + period, rest)


def _basis(g: Graph, x: Tensor, knots: NDArray[np.float64], degree: int) -> Tensor:
    """Return the basis functions by de Boor's recursion, like `scipy.interpolate.BSpline`.

    Values of shape (rows, columns, 1) and knots of shape (columns, knots), whose first and last interval are unbounded,
    give shape (rows, columns, functions).
    """
    count = knots.shape[1]
    first, last = degree, count - degree - 2
    lower, upper = np.full((2, len(knots), count - 1), np.inf)
    lower[:, first : last + 1] = knots[:, first : last + 1]
    upper[:, first:last] = knots[:, first + 1 : last + 1]
    lower[:, first] = -np.inf
    basis = g.cast((x >= lower) & (x < upper), "float64")
    if not degree:
        return basis
    distance = x - knots
    for d in range(1, degree + 1):
        width = count - 1 - d
        span = knots[:, d:] - knots[:, :-d]
        span[span == 0] = np.inf  # a function between equal knots is 0
        weight = basis / span
        rising = _slice(g, weight, 0, width) * _slice(g, distance, 0, width)
        basis = rising - _slice(g, weight, 1, width + 1) * _slice(g, distance, d + 1, count)
    return basis


def _extrapolated(g: Graph, est: Any, basis: Tensor, x: Tensor) -> Tensor:
    """Extrapolate the basis functions beyond the outer knots: constant, or linear with the slopes there.

    `basis` has shape (rows, columns, functions), and `x` has shape (rows, columns, 1).
    """
    count, columns = basis.width or 0, len(est.bsplines_)
    limits = np.zeros((2, columns, 1))
    values, slopes = np.zeros((2, 2, columns, count))
    degree = est.degree
    for column, spline in enumerate(est.bsplines_):
        limits[:, column, 0] = spline.t[degree], spline.t[-degree - 1]
        if est.extrapolation == "linear" and degree <= 1:
            degree += 1  # also for all following columns, as in scikit-learn
        for end, kept in enumerate((slice(0, degree), slice(count - degree, count))):
            values[end, column, kept] = spline(limits[end, column, 0])[kept]
            if est.extrapolation == "linear":
                slopes[end, column, kept] = spline(limits[end, column, 0], nu=1)[kept]
    for end, operator in enumerate(("Less", "Greater")):
        beyond = g.node(operator, [x, g.constant(limits[end])], "bool", 1)
        value = g.constant(values[end])
        if est.extrapolation == "linear":
            value = value + (x - limits[end]) * slopes[end]
        basis = g.where(beyond, value, basis)
    return basis
