"""The nearest of the rows that a model was fitted on: distances to all of them, to the last bit as in scikit-learn.

Rows at equal distance are common (whole numbers, one-hot columns, duplicates), and which of them scikit-learn takes
depends on the order in which it meets them: see `neighbor_ties`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, NotExportable, Tensor
from app.packing.exporters.metrics import distances_of, minkowski, power_of
from app.packing.exporters.neighbor_ties import break_ties
from app.packing.exporters.similarity import fused_squares

MAX_ROWS = 1 << 14
"""Fitted rows that a graph searches: the distances of 1,000 rows to them take 128 MiB."""

MAX_NUMBERS = 1 << 17
"""Numbers that are subtracted one by one: beyond, one row would take a graph longer than scikit-learn's trees."""


def reduced_distances(g: Graph, est: Any, x: Tensor) -> Tensor:
    """Distances before the last root is taken, shape (rows, fitted rows).

    Trees subtract coordinates, and so does the search by brute force except for the Euclidean metric.

    Raises:
        NotExportable: of the metric, or of the size.
    """
    power = power_of(est)
    if not isinstance(est._fit_X, np.ndarray):
        raise NotExportable("it was fitted on a sparse matrix")
    points = np.asarray(est._fit_X, dtype=float)
    multiplied = est._fit_method == "brute" and power == 2.0
    if len(points) > MAX_ROWS or (points.size > MAX_NUMBERS and not multiplied):
        raise NotExportable(f"it compares each row with {len(points)} others, which its own search does faster")
    return fused_squares(g, x, points) if multiplied else minkowski(g, x, points, power)


def kneighbors(g: Graph, est: Any, x: Tensor, count: int, targets: NDArray[Any] | None) -> tuple[Tensor, Tensor]:
    """The indices of the nearest fitted rows, and their distances: both of shape (rows, count).

    Where `targets` are given (one number for each fitted row), it does not matter which of several rows with the same
    target are taken.
    """
    reduced = reduced_distances(g, est, x)
    total = reduced.width or 0
    size = g.constant([min(count + 1, total)], "int64")
    values, indices = g.several(
        "TopK", [reduced, size], [("float64", None), ("int64", None)], axis=1, largest=0, sorted=1
    )
    if count < total:
        first = g.node("Gather", [indices, g.constant(range(count), "int64")], "int64", count, axis=1)
        last, beyond = g.pick(values, count - 1), g.pick(values, count)
        tied = g.node("Equal", [last, beyond], "bool", None)
        indices = break_ties(g, est, x, reduced, tied, last, first, targets)
    nearest = g.node("GatherElements", [reduced, indices], "float64", count, axis=1)
    return Tensor(indices.name, "int64", count), distances_of(g, nearest, power_of(est))
