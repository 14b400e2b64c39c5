"""To quantiles: the rank of a value among those of training, from 0 to 1, or the normal deviate of that rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from app.packing.exporters.graph import Features, Graph, Predict, Tensor, Transform
from app.packing.exporters.quantiles import BOUNDS_THRESHOLD
from app.packing.exporters.tree_ensemble import LEAF, Tree, each

Floats = NDArray[np.float64]

# The rational approximations that SciPy's `ndtri` uses (Cephes, ndtri.c), highest power first: in the middle by the
# squared distance from 1/2; beyond, by the reciprocal of the square root of -2 log(y).
MIDDLE_NUMERATOR = (
    -5.99633501014107895267e1,
    9.80010754185999661536e1,
    -5.66762857469070293439e1,
    1.39312609387279679503e1,
    -1.23916583867381258016,
)
MIDDLE_DENOMINATOR = (
    1.0,
    1.95448858338141759834,
    4.67627912898881538453,
    8.63602421390890590575e1,
    -2.25462687854119370527e2,
    2.00260212380060660359e2,
    -8.20372256168333339912e1,
    1.59056225126211695515e1,
    -1.18331621121330003142,
)
TAIL_NUMERATOR = (
    4.05544892305962419923,
    3.15251094599893866154e1,
    5.71628192246421288162e1,
    4.40805073893200834700e1,
    1.46849561928858024014e1,
    2.18663306850790267539,
    -1.40256079171354495875e-1,
    -3.50424626827848203418e-2,
    -8.57456785154685413611e-4,
)
TAIL_DENOMINATOR = (
    1.0,
    1.57799883256466749731e1,
    4.53907635128879210584e1,
    4.13172038254672030440e1,
    1.50425385692907503408e1,
    2.50464946208309415979,
    -1.42182922854787788574e-1,
    -3.80806407691578277194e-2,
    -9.33259480895457427372e-4,
)
MIDDLE = math.exp(-2)


def quantile_transformer(g: Graph, est: Any, features: Features) -> Features:
    """`QuantileTransformer.transform`: the mean of interpolating upwards and downwards, shape (rows, columns)."""
    x = g.matrix(features)
    references = np.asarray(est.references_, dtype=np.float64)
    columns = [np.asarray(quantiles, dtype=np.float64) for quantiles in est.quantiles_.T]
    y = _interpolated(g, x, columns, references)
    if est.output_distribution == "uniform":
        return (y,)
    least = BOUNDS_THRESHOLD - np.spacing(1)
    lowest, highest = (g.constant(float(norm.ppf(bound))) for bound in (least, 1 - least))
    deviate = g.node("Clip", [_normal_deviate(g, y, least), lowest, highest], "float64", x.width)
    threshold = g.constant(BOUNDS_THRESHOLD)
    raised = g.node("Add", [x, threshold], "float64", x.width)
    above = g.node("Greater", [raised, g.constant([column[-1] for column in columns])], "bool", x.width)
    lowered = g.node("Sub", [x, threshold], "float64", x.width)
    below = g.node("Less", [lowered, g.constant([column[0] for column in columns])], "bool", x.width)
    deviate = g.node("Where", [above, highest, deviate], "float64", x.width)
    return (g.node("Where", [below, lowest, deviate], "float64", x.width),)


def _interpolated(g: Graph, x: Tensor, columns: list[Floats], references: Floats) -> Tensor:
    """`(np.interp(x, q, r) - np.interp(-x, -q[::-1], -r[::-1])) / 2`, the outermost references beyond.

    A tree for each column and direction finds the piece, a table has its slope, and a point that it goes through.
    """
    trees: list[Tree] = []
    pieces: list[Floats] = [np.empty((0, 3))]
    for upwards in (True, False):
        for column, quantiles in enumerate(columns):
            bounds, table = _pieces(quantiles, references, upwards)
            trees.append(_search_tree(column, bounds, sum(map(len, pieces))))
            pieces.append(table)
    found = g.cast(each(g, x, trees), "int64")
    count = len(columns)
    table = np.concatenate(pieces)
    slope, start, value = (
        g.node("Gather", [g.constant(part), found], "float64", 2 * count, axis=0) for part in table.T
    )
    run = g.node("Sub", [g.concat([x, x]), start], "float64", 2 * count)
    y = g.node("Add", [g.node("Mul", [slope, run], "float64", 2 * count), value], "float64", 2 * count)
    up, down = (g.matrix(g.select((y,), range(first, first + count))) for first in (0, count))
    return g.node("Mul", [g.node("Add", [up, down], "float64", count), g.constant(0.5)], "float64", count)


def _pieces(quantiles: Floats, references: Floats, upwards: bool) -> tuple[Floats, Floats]:
    """The bounds of the pieces of one column (a piece ends at its bound), and their slopes, starts and values.

    Where quantiles are equal, the way up leaves them from the last, the way down from the first.
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
    """A balanced tree that says, `first` + how many bounds a value is above."""
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


def _normal_deviate(g: Graph, y: Tensor, least: float) -> Tensor:
    """`scipy.stats.norm.ppf`, same shape, for what lies between `least` and 1 - `least`."""
    width = y.width
    y = g.node("Clip", [y, g.constant(least), g.constant(1 - least)], "float64", width)
    one = g.constant(1.0)
    opposite = g.node("Sub", [one, y], "float64", width)
    tail = g.node("Min", [y, opposite], "float64", width)
    log = g.node("Mul", [g.node("Log", [tail], "float64", width), g.constant(-2.0)], "float64", width)
    root = g.node("Sqrt", [log], "float64", width)
    z = g.node("Div", [one, root], "float64", width)
    bent = g.node("Div", [g.node("Log", [root], "float64", width), root], "float64", width)
    rest = g.node("Mul", [z, _ratio(g, z, TAIL_NUMERATOR, TAIL_DENOMINATOR)], "float64", width)
    far = g.node("Sub", [g.node("Sub", [root, bent], "float64", width), rest], "float64", width)
    upper = g.node("Greater", [y, g.constant(0.5)], "bool", width)
    far = g.node("Where", [upper, far, g.node("Neg", [far], "float64", width)], "float64", width)

    distance = g.node("Sub", [y, g.constant(0.5)], "float64", width)
    squared = g.node("Mul", [distance, distance], "float64", width)
    ratio = g.node("Mul", [squared, _ratio(g, squared, MIDDLE_NUMERATOR, MIDDLE_DENOMINATOR)], "float64", width)
    near = g.node("Add", [distance, g.node("Mul", [distance, ratio], "float64", width)], "float64", width)
    near = g.node("Mul", [near, g.constant(math.sqrt(2 * math.pi))], "float64", width)
    middle = g.node("Greater", [tail, g.constant(MIDDLE)], "bool", width)
    return g.node("Where", [middle, near, far], "float64", width)


def _ratio(g: Graph, x: Tensor, numerator: tuple[float, ...], denominator: tuple[float, ...]) -> Tensor:
    """A polynomial over another, same shape."""
    powers = len(denominator)
    coefficients = np.zeros((powers, 2))
    coefficients[: len(numerator), 0] = numerator[::-1]
    coefficients[:, 1] = denominator[::-1]
    deep = g.node("Unsqueeze", [x, g.constant([2], "int64")], "float64", 1)
    terms = g.node("Pow", [deep, g.constant(np.arange(float(powers)))], "float64", powers)
    both = g.node("MatMul", [terms, g.constant(coefficients)], "float64", 2)
    above, below = (g.node("Gather", [both, g.constant(part, "int64")], "float64", x.width, axis=2) for part in (0, 1))
    return g.node("Div", [above, below], "float64", x.width)


TRANSFORMERS: dict[str, Transform] = {"QuantileTransformer": quantile_transformer}
PREDICTORS: dict[str, Predict] = {}
