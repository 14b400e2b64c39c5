"""Functions of NumPy and SciPy as nodes, with the same accuracy.

ONNX Runtime has no Erf for float64. SciPy computes the error function and the normal distribution with the rational
approximations of the Cephes library (ndtr.c, ndtri.c), and so do these graphs. Coefficients are listed with the highest
power first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, Tensor

Function = Callable[[Graph, Tensor], Tensor]
SMALLEST = float(np.finfo(np.float64).tiny)


def log1p(g: Graph, x: Tensor) -> Tensor:
    """`np.log1p`, same shape: log(u) for u = 1 + x, corrected by the rounding error of u (Higham 2002, 1.14.1)."""
    u = x + 1.0
    error = x - (u - 1.0)
    # At x = -1 there is no rounding error and u is 0; at x = inf the correction must not be NaN.
    return u.log() + error / u.maximum(SMALLEST)


def expm1(g: Graph, x: Tensor) -> Tensor:
    """`np.expm1`, same shape, as tanh(x / 2) (exp(x) + 1), which avoids cancellation."""
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


ERF_NUMERATOR = (
    9.60497373987051638749, 9.00260197203842689217e1, 2.23200534594684319226e3, 7.00332514112805075473e3,
    5.55923013010394962768e4,
)  # fmt: skip
ERF_DENOMINATOR = (
    1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3, 2.26290000613890934246e4,
    4.92673942608635921086e4,
)  # fmt: skip
ERFC_NUMERATOR = (
    2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687, 4.86371970985681366614e1,
    1.96520832956077098242e2, 5.26445194995477358631e2, 9.34528527171957607540e2, 1.02755188689515710272e3,
    5.57535335369399327526e2,
)  # fmt: skip
ERFC_DENOMINATOR = (
    1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2, 9.75708501743205489753e2,
    1.82390916687909736289e3, 2.24633760818710981792e3, 1.65666309194161350182e3, 5.57535340817727675546e2,
)  # fmt: skip
FAR = 8.0
"""Beyond this distance from 0 the error function is 1 or -1 in float64."""

# The inverse of the normal distribution: polynomials in (y - 1/2)^2 near 1/2, in 1 / sqrt(-2 log(y)) in the tails.
MIDDLE_NUMERATOR = (
    -5.99633501014107895267e1, 9.80010754185999661536e1, -5.66762857469070293439e1, 1.39312609387279679503e1,
    -1.23916583867381258016,
)  # fmt: skip
MIDDLE_DENOMINATOR = (
    1.0, 1.95448858338141759834, 4.67627912898881538453, 8.63602421390890590575e1, -2.25462687854119370527e2,
    2.00260212380060660359e2, -8.20372256168333339912e1, 1.59056225126211695515e1, -1.18331621121330003142,
)  # fmt: skip
TAIL_NUMERATOR = (
    4.05544892305962419923, 3.15251094599893866154e1, 5.71628192246421288162e1, 4.40805073893200834700e1,
    1.46849561928858024014e1, 2.18663306850790267539, -1.40256079171354495875e-1, -3.50424626827848203418e-2,
    -8.57456785154685413611e-4,
)  # fmt: skip
TAIL_DENOMINATOR = (
    1.0, 1.57799883256466749731e1, 4.53907635128879210584e1, 4.13172038254672030440e1, 1.50425385692907503408e1,
    2.50464946208309415979, -1.42182922854787788574e-1, -3.80806407691578277194e-2, -9.33259480895457427372e-4,
)  # fmt: skip
TAIL = math.exp(-2)
"""Probabilities up to this one belong to a tail."""


def erf(g: Graph, values: Tensor) -> Tensor:
    """`scipy.special.erf`, same shape."""

    def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
        """Evaluate a polynomial by Horner's rule."""
        total = x * coefficients[0]
        for coefficient in coefficients[1:-1]:
            total = (total + coefficient) * x
        return total + coefficients[-1]

    distance = abs(values.clip(-FAR, FAR))
    square = values * values
    near = values * (polynomial(square, ERF_NUMERATOR) / polynomial(square, ERF_DENOMINATOR))
    gaussian = (-(distance * distance)).exp()
    tail = polynomial(distance, ERFC_NUMERATOR) / polynomial(distance, ERFC_DENOMINATOR)
    return g.where(distance <= 1.0, near, values.sign() * (1.0 - gaussian * tail))


def normal_cdf(g: Graph, column: Tensor) -> Tensor:
    """`scipy.stats.norm.cdf`, (rows, 1) in and out, to 1e-15 absolute."""
    distance = abs(column * math.sqrt(0.5)).minimum(FAR)
    terms = 1 + 2 * (len(ERF_DENOMINATOR) - 1)
    powers = distance ** np.arange(float(terms))
    numerators = [_coefficients(ERFC_NUMERATOR, 1, terms), _coefficients(ERF_NUMERATOR, 2, terms)]
    denominators = [_coefficients(ERFC_DENOMINATOR, 1, terms), _coefficients(ERF_DENOMINATOR, 2, terms)]
    far, near = g.split((powers @ np.column_stack(numerators) / (powers @ np.column_stack(denominators)),))
    tail = (distance * -distance).exp() * far
    lower = g.where(distance < 1.0, 1.0 - distance * near, tail) * 0.5
    return g.where(column > 0.0, 1.0 - lower, lower)


def normal_ppf(g: Graph, y: Tensor, least: float) -> Tensor:
    """`scipy.stats.norm.ppf`, same shape, for probabilities from `least` to `1 - least`; others are clipped."""
    y = y.clip(least, 1 - least)
    tail = y.minimum(1.0 - y)
    root = (tail.log() * -2.0).sqrt()
    z = 1.0 / root
    far = root - root.log() / root - z * _ratio(g, z, TAIL_NUMERATOR, TAIL_DENOMINATOR)
    far = g.where(y > 0.5, far, -far)

    distance = y - 0.5
    squared = distance * distance
    ratio = squared * _ratio(g, squared, MIDDLE_NUMERATOR, MIDDLE_DENOMINATOR)
    return g.where(tail > TAIL, (distance + distance * ratio) * math.sqrt(2 * math.pi), far)


def _coefficients(highest_first: tuple[float, ...], step: int, terms: int) -> NDArray[np.float64]:
    """Return the coefficients of x**0, x**1, … of a polynomial in x**step, padded with zeros: shape (terms,)."""
    placed = np.zeros(terms)
    placed[: step * len(highest_first) : step] = highest_first[::-1]
    return placed


def _ratio(g: Graph, x: Tensor, numerator: tuple[float, ...], denominator: tuple[float, ...]) -> Tensor:
    """Return the quotient of two polynomials in x, same shape as x."""
    powers = len(denominator)
    coefficients = np.column_stack([_coefficients(each, 1, powers) for each in (numerator, denominator)])
    both = x.unsqueeze(2) ** np.arange(float(powers)) @ coefficients
    above, below = (g.node("Gather", [both, g.constant(part, "int64")], "float64", x.width, axis=2) for part in (0, 1))
    return above / below
