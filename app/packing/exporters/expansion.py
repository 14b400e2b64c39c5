"""Polynomial features and bins."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, Tensor, Transform


def polynomial(g: Graph, est: Any, features: Features) -> Features:
    """`PolynomialFeatures.transform`: products of columns, each the product of its last factors times its first.

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
    # Columns are rows here: a row is copied at once, while the values of a column are copied one by one.
    turned = g.node("Transpose", [x], "float64", None, perm=[1, 0])
    pads = g.constant([1, 0, 0, 0], "int64")
    ones = g.node("Pad", [turned, pads, g.constant(1.0)], "float64", None)
    # Position 0 is the row of ones: a term with fewer factors is padded with it.
    factors = [(0,) * (degree - len(term)) + tuple(column + 1 for column in term) for term in terms]
    return (g.node("Transpose", [_product(g, ones, factors)], "float64", len(factors), perm=[1, 0]),)


def _product(g: Graph, ones: Tensor, factors: list[tuple[int, ...]]) -> Tensor:
    """Multiply these columns for each term: (1 + columns, rows) in, (terms, rows) out."""
    if len(factors[0]) <= 1:
        return _rows(g, ones, [row[0] if row else 0 for row in factors])
    rest = sorted({row[1:] for row in factors})
    place = {row: position for position, row in enumerate(rest)}
    right = _rows(g, _product(g, ones, rest), [place[row[1:]] for row in factors])
    left = _rows(g, ones, [row[0] for row in factors])
    return right * left


def _rows(g: Graph, block: Tensor, positions: list[int]) -> Tensor:
    return g.node("Gather", [block, g.constant(positions, "int64")], "float64", None, axis=0)


def bins(g: Graph, est: Any, features: Features) -> Features:
    """`KBinsDiscretizer.transform`: the bin from an edge up to the next (`np.searchsorted`, right), outer bins open."""
    x = g.matrix(features)
    if est.dtype == np.float32:
        x = g.cast(g.cast(x, "float32"), "float64")
    inner = [np.asarray(edges, dtype=np.float64)[1:-1] for edges in est.bin_edges_]
    if est.encode == "ordinal":
        return (_bin_number(g, x, inner),)
    lower = np.concatenate([np.r_[-np.inf, edges] for edges in inner])
    upper = np.concatenate([np.r_[edges, np.inf] for edges in inner])
    column = np.repeat(np.arange(len(inner)), [len(edges) + 1 for edges in inner])
    x = g.take(x, column, axis=1)
    return (g.cast((x >= lower) & (x < upper), "float64"),)


def _bin_number(g: Graph, x: Tensor, inner: list[Any]) -> Tensor:
    """Return the number of edges that each value has reached, shape (rows, columns)."""
    edges = np.full((len(inner), max(1, *map(len, inner))), np.inf)
    for column, values in enumerate(inner):
        edges[column, : len(values)] = values
    values = x.unsqueeze(2)
    reached = values >= edges
    axis = g.constant([2], "int64")
    return g.node("ReduceSum", [g.cast(reached, "float64"), axis], "float64", x.width, keepdims=0)


TRANSFORMERS: dict[str, Transform] = {"PolynomialFeatures": polynomial, "KBinsDiscretizer": bins}
