"""Find the nearest of the fitted rows, with distances that equal scikit-learn's to the last bit.

Rows at equal distance are common (integers, one-hot columns, duplicates). `neighbor_ties` chooses between them.
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
"""The most fitted rows that a graph searches: the distances of 1,000 rows to them take 128 MiB."""

MAX_NUMBERS = 1 << 17
"""The most numbers that are subtracted one by one: with more, a graph is slower than the trees of scikit-learn."""


def reduced_distances(g: Graph, est: Any, x: Tensor) -> Tensor:
    """Return distances before the last root is taken, shape (rows, fitted rows).

    Trees subtract coordinates, and so does the brute-force search, except for the Euclidean metric.

    Raises:
        NotExportable: There is no graph for the metric, or there are too many fitted rows.
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
    """Return the indices of the nearest fitted rows and their distances, both of shape (rows, count).

    Args:
        g: The graph.
        est: The estimator, with its fitted rows.
        x: The batch, shape (rows, columns).
        count: The number of neighbours.
        targets: The targets of the fitted rows, if it does not matter which of several rows with equal targets are
            taken.
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
