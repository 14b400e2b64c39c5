"""The error function, the normal distribution function and its inverse in float64.

ONNX Runtime has no Erf for float64. SciPy computes with the rational approximations of the Cephes library (ndtr.c,
ndtri.c), and so do these graphs. Coefficients are listed with the highest power first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, Tensor

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
FAR = 8.0
"""Beyond this distance from 0 the error function is 1 or -1 in float64."""

# The inverse: near the median by the squared distance from 1/2; in the tails by the reciprocal of sqrt(-2 log(y)).
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
TAIL = math.exp(-2)
"""Probabilities up to this one belong to a tail."""


def erf(g: Graph, values: Tensor) -> Tensor:
    """`scipy.special.erf`, same shape."""
    width = values.width or 1

    def node(operator: str, *inputs: Tensor) -> Tensor:
        return g.node(operator, inputs, "float64", width)

    def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
        """By Horner's rule."""
        total = node("Mul", x, g.constant(coefficients[0]))
        for coefficient in coefficients[1:-1]:
            total = node("Mul", node("Add", total, g.constant(coefficient)), x)
        return node("Add", total, g.constant(coefficients[-1]))

    distance = node("Abs", node("Clip", values, g.constant(-FAR), g.constant(FAR)))
    square = node("Mul", values, values)
    ratio = node("Div", polynomial(square, ERF_NUMERATOR), polynomial(square, ERF_DENOMINATOR))
    near = node("Mul", values, ratio)
    bell = node("Exp", node("Neg", node("Mul", distance, distance)))
    tail = node("Div", polynomial(distance, ERFC_NUMERATOR), polynomial(distance, ERFC_DENOMINATOR))
    far = node("Mul", node("Sign", values), node("Sub", g.constant(1.0), node("Mul", bell, tail)))
    small = g.node("LessOrEqual", [distance, g.constant(1.0)], "bool", width)
    return node("Where", small, near, far)


def normal_cdf(g: Graph, column: Tensor) -> Tensor:
    """`scipy.stats.norm.cdf`, (rows, 1) in and out, to 1e-15 absolute."""
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


def normal_ppf(g: Graph, y: Tensor, least: float) -> Tensor:
    """`scipy.stats.norm.ppf`, same shape, for probabilities from `least` to `1 - least`; others are clipped."""
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
    middle = g.node("Greater", [tail, g.constant(TAIL)], "bool", width)
    return g.node("Where", [middle, near, far], "float64", width)


def _coefficients(highest_first: tuple[float, ...], step: int, terms: int) -> NDArray[np.float64]:
    """The coefficients of the powers 0, 1, … of the argument, for a polynomial in its `step`-th power."""
    placed = np.zeros(terms)
    placed[: step * len(highest_first) : step] = highest_first[::-1]
    return placed


def _ratio(g: Graph, x: Tensor, numerator: tuple[float, ...], denominator: tuple[float, ...]) -> Tensor:
    """The quotient of two polynomials in x, same shape as x."""
    powers = len(denominator)
    coefficients = np.column_stack([_coefficients(each, 1, powers) for each in (numerator, denominator)])
    deep = g.node("Unsqueeze", [x, g.constant([2], "int64")], "float64", 1)
    terms = g.node("Pow", [deep, g.constant(np.arange(float(powers)))], "float64", powers)
    both = g.node("MatMul", [terms, g.constant(coefficients)], "float64", 2)
    above, below = (g.node("Gather", [both, g.constant(part, "int64")], "float64", x.width, axis=2) for part in (0, 1))
    return g.node("Div", [above, below], "float64", x.width)
