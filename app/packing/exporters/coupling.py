"""Couple the probabilities of pairs of classes to probabilities of classes, like libsvm.

Source: multiclass_probability in libsvm's svm.cpp, the second method of Wu, Lin and Weng, "Probability estimates for
multi-class classification by pairwise coupling", JMLR 5 (2004).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from app.packing.exporters.graph import Graph, Tensor
from app.packing.exporters.links import expit, reduced

SMALLEST = 1e-7
MAX_SWEEPS = 100


def coupled(g: Graph, scores: Tensor, slope: ArrayLike, shift: ArrayLike, pairs: list[tuple[int, int]]) -> Tensor:
    """Return `predict_proba` from the scores of the pairs: shape (rows, pairs) in, (rows, classes) out.

    The probability of the first class of a pair is the sigmoid of `-(slope * score + shift)`.
    """
    width = len(pairs)
    count = 1 + max(second for _, second in pairs)
    scaled = g.node("Mul", [scores, g.constant(-np.asarray(slope))], "float64", width)
    sigmoid = expit(g, g.node("Sub", [scaled, g.constant(shift)], "float64", width))
    limits = [g.constant(SMALLEST), g.constant(1 - SMALLEST)]
    first = g.node("Clip", [sigmoid, *limits], "float64", width)
    second = g.node("Sub", [g.constant(1.0), first], "float64", width)
    matrix, diagonal = _equations(g, first, second, pairs, count)
    start = g.node("Mul", [diagonal, g.constant(0.0)], "float64", count)
    start = g.node("Add", [start, g.constant(1.0 / count)], "float64", count)

    def sweep(inner: Graph, state: list[Tensor]) -> list[Tensor]:
        return _sweep(inner, matrix, diagonal, state[0], count)

    return g.loop(max(MAX_SWEEPS, count), [start], sweep)[0]


def _equations(
    g: Graph, first: Tensor, second: Tensor, pairs: list[tuple[int, int]], count: int
) -> tuple[Tensor, Tensor]:
    """Return the matrix Q whose null vector is sought, (rows, classes, classes), and its diagonal, (rows, classes)."""
    both = g.concat([first, second])
    squares = g.node("Mul", [both, both], "float64", both.width)
    sums = np.zeros((2 * len(pairs), count))
    places = np.zeros((count, count), dtype=int)
    for position, (i, j) in enumerate(pairs):
        sums[position, j] = sums[len(pairs) + position, i] = 1.0
        places[i, j] = places[j, i] = count + position
    np.fill_diagonal(places, range(count))
    diagonal = g.node("MatMul", [squares, g.constant(sums)], "float64", count)
    products = g.node("Mul", [first, second], "float64", first.width)
    entries = g.concat([diagonal, g.node("Neg", [products], "float64", first.width)])
    return g.node("Gather", [entries, g.constant(places, "int64")], "float64", count, axis=1), diagonal


def _sweep(g: Graph, matrix: Tensor, diagonal: Tensor, before: Tensor, count: int) -> list[Tensor]:
    """Iterate once over the classes; return whether any row is unfinished, and the probabilities.

    Rows that are finished keep their probabilities.
    """

    def node(operator: str, *inputs: Tensor, width: int = 1) -> Tensor:
        return g.node(operator, inputs, "float64", width)

    def one(block: Tensor, position: int) -> Tensor:
        return g.node("Gather", [block, g.constant([position], "int64")], "float64", 1, axis=1)

    unity = g.constant(1.0)
    columns = g.node("Unsqueeze", [before, g.constant([2], "int64")], "float64", 1)
    product = g.node("MatMul", [matrix, columns], "float64", 1)
    image = g.node("Squeeze", [product, g.constant([2], "int64")], "float64", count)
    form = reduced(g, "ReduceSum", node("Mul", before, image, width=count))
    error = node("Abs", node("Sub", image, form, width=count), width=count)
    largest = reduced(g, "ReduceMax", error)
    active = g.node("GreaterOrEqual", [largest, g.constant(0.005 / count)], "bool", 1)
    after = before
    for position in range(count):
        entry = one(diagonal, position)
        here = one(image, position)
        step = node("Div", node("Sub", form, here), entry)
        grown = node("Add", step, unity)
        twice = node("Add", node("Mul", step, entry), node("Add", here, here))
        form = node("Div", node("Div", node("Add", form, node("Mul", step, twice)), grown), grown)
        row = g.node("Gather", [matrix, g.constant(position, "int64")], "float64", count, axis=1)
        image = node("Div", node("Add", image, node("Mul", step, row, width=count), width=count), grown, width=count)
        unit = g.constant(np.eye(count)[position])
        moved = node("Add", after, node("Mul", step, unit, width=count), width=count)
        after = node("Div", moved, grown, width=count)
    kept = g.node("Where", [active, after, before], "float64", count)
    numbers = g.node("ReduceMax", [g.cast(active, "int64")], "int64", None, keepdims=0)
    return [g.cast(numbers, "bool"), kept]
