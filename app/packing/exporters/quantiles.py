"""The way back from quantiles: the normal distribution function, and interpolation between references."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, NotExportable, Tensor

BOUNDS_THRESHOLD = 1e-7
"""As in `sklearn.preprocessing._data`: nearer to 0 or 1 than this is the lowest or the highest quantile."""

# The rational approximations of erf and erfc that SciPy's `ndtr` uses (Cephes, ndtr.c), highest power first.
ERFC_NUMERATOR = (
    2.46196981473530512524e-10,
    5.64189564831068821977e-1,
    7.46321056442269912687,
    4.86371970985681366614e1,
    1.96520832956077098242e2,
    5.26445194995477358631e2,
    9.34528527171957607540e2,
    1.02755188689515710272e3,
    5.57535335369399327526e2,
)
ERFC_DENOMINATOR = (
    1.0,
    1.32281951154744992508e1,
    8.67072140885989742329e1,
    3.54937778887819891062e2,
    9.75708501743205489753e2,
    1.82390916687909736289e3,
    2.24633760818710981792e3,
    1.65666309194161350182e3,
    5.57535340817727675546e2,
)
ERF_NUMERATOR = (
    9.60497373987051638749,
    9.00260197203842689217e1,
    2.23200534594684319226e3,
    7.00332514112805075473e3,
    5.55923013010394962768e4,
)
ERF_DENOMINATOR = (
    1.0,
    3.35617141647503099647e1,
    5.21357949780152679795e2,
    4.59432382970980127987e3,
    2.26290000613890934246e4,
    4.92673942608635921086e4,
)
FAR = 8.0


def normal_cdf(g: Graph, column: Tensor) -> Tensor:
    """`scipy.stats.norm.cdf`, (rows, 1) in and out, to 1e-15 absolute; ONNX Runtime has no Erf for float64."""
    distance = g.node("Abs", [g.node("Mul", [column, g.constant(math.sqrt(0.5))], "float64", 1)], "float64", 1)
    distance = g.node("Min", [distance, g.constant(FAR)], "float64", 1)
    terms = 1 + 2 * (len(ERF_DENOMINATOR) - 1)
    powers = g.node("Pow", [distance, g.constant(np.arange(float(terms)))], "float64", terms)
    above = [_coefficients(ERFC_NUMERATOR, 1, terms), _coefficients(ERF_NUMERATOR, 2, terms)]
    below = [_coefficients(ERFC_DENOMINATOR, 1, terms), _coefficients(ERF_DENOMINATOR, 2, terms)]
    numerators = g.node("MatMul", [powers, g.constant(np.column_stack(above))], "float64", 2)
    denominators = g.node("MatMul", [powers, g.constant(np.column_stack(below))], "float64", 2)
    far, near = g.split((g.node("Div", [numerators, denominators], "float64", 2),))
    squared = g.node("Mul", [distance, g.node("Neg", [distance], "float64", 1)], "float64", 1)
    tail = g.node("Mul", [g.node("Exp", [squared], "float64", 1), far], "float64", 1)
    centre = g.node("Sub", [g.constant(1.0), g.node("Mul", [distance, near], "float64", 1)], "float64", 1)
    close = g.node("Less", [distance, g.constant(1.0)], "bool", 1)
    lower = g.node("Mul", [g.node("Where", [close, centre, tail], "float64", 1), g.constant(0.5)], "float64", 1)
    upper = g.node("Sub", [g.constant(1.0), lower], "float64", 1)
    positive = g.node("Greater", [column, g.constant(0.0)], "bool", 1)
    return g.node("Where", [positive, upper, lower], "float64", 1)


def _coefficients(highest_first: tuple[float, ...], step: int, terms: int) -> NDArray[np.float64]:
    """The coefficients of the powers 0, 1, … of the argument, for a polynomial in its `step`-th power."""
    placed = np.zeros(terms)
    placed[: step * len(highest_first) : step] = highest_first[::-1]
    return placed


def from_uniform(g: Graph, column: Tensor, references: Any, quantiles: Any, normal: bool) -> Tensor:
    """`QuantileTransformer._transform_col` with `inverse`, once the column is uniform: (rows, 1) in and out."""
    knots, values = np.asarray(references, dtype=float), np.asarray(quantiles, dtype=float)
    if len(knots) == 1:
        raise NotExportable("it has a single quantile")
    x = g.node("Clip", [column, g.constant(0.0), g.constant(1.0)], "float64", 1)
    passed = g.cast(g.node("GreaterOrEqual", [x, g.constant(knots[1:-1])], "bool", len(knots) - 2), "int64")
    segment = g.node("ReduceSum", [passed, g.constant([1], "int64")], "int64", 1, keepdims=1)

    def of_segment(table: NDArray[np.float64]) -> Tensor:
        return g.node("Gather", [g.constant(table), segment], "float64", 1, axis=0)

    run = g.node("Sub", [x, of_segment(knots[:-1])], "float64", 1)
    rise = g.node("Mul", [of_segment(np.diff(values) / np.diff(knots)), run], "float64", 1)
    found = g.node("Add", [rise, of_segment(values[:-1])], "float64", 1)
    if not normal:
        return found
    threshold = g.constant(BOUNDS_THRESHOLD)
    raised = g.node("Add", [column, threshold], "float64", 1)
    highest = g.node("Greater", [raised, g.constant(1.0)], "bool", 1)
    found = g.node("Where", [highest, g.constant(values[-1]), found], "float64", 1)
    lowest = g.node("Less", [g.node("Sub", [column, threshold], "float64", 1), g.constant(0.0)], "bool", 1)
    return g.node("Where", [lowest, g.constant(values[0]), found], "float64", 1)
