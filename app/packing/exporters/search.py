"""Find the nearest training rows, with distances and an order that equal those of scikit-learn to the last bit.

Rows at equal distance are common (integers, one-hot columns, duplicates). Ties are broken as in scikit-learn: its
search keeps the k nearest rows so far in a heap with the farthest row at the root (`sklearn.utils._heap.heap_push`). A
nearer row replaces the root, an equally near row does not. Which of several equal rows is at the root depends on the
order of the search: by index, or, in a tree, by leaf, the nearer child first. So the graph repeats the whole search for
the rows of a batch that have a tie.

Among more than 256 rows, the order of a brute-force search depends on the batch size and the number of processors, so
there is no defined order; the graph visits rows by their index.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import formulas
from app.packing.exporters.graph import Graph, NotExportable, Tensor
from app.packing.exporters.similarity import distances_of, fused_squares, minkowski, power_of, summed

MAX_ROWS = 1 << 14
"""The most training rows that a graph searches: the distances from 1,000 rows take 128 MiB."""

MAX_NUMBERS = 1 << 17
"""The most numbers that a graph subtracts one by one: with more, it is slower than the trees of scikit-learn."""


def reduced_distances(g: Graph, est: Any, x: Tensor) -> Tensor:
    """Return sums of powers of differences (reduced distances), shape (rows, training rows).

    Like scikit-learn, subtract coordinates, except in a brute-force search with the Euclidean metric.
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
    """Return the indices of the nearest training rows and their distances, both of shape (rows, count).

    `targets` are the targets of the training rows, if ties between rows with equal targets do not matter.
    """
    reduced = reduced_distances(g, est, x)
    total = reduced.width or 0
    size = g.constant([min(count + 1, total)], "int64")
    values, indices = g.node_outputs(
        "TopK", [reduced, size], [("float64", None), ("int64", None)], axis=1, largest=0, sorted=1
    )
    if count < total:
        first = g.take(indices, range(count), axis=1)
        last, beyond = g.pick(values, count - 1), g.pick(values, count)
        indices = break_ties(g, est, x, reduced, last.equal(beyond), last, first, targets)
    nearest = g.node("GatherElements", [reduced, indices], "float64", count, axis=1)
    return replace(indices, width=count), distances_of(g, nearest, power_of(est))


MAX_MOVES = 1 << 22
"""The most elements in the table of how each fork of a tree moves its leaves in the order of the search."""


def break_ties(
    g: Graph,
    est: Any,
    x: Tensor,
    reduced: Tensor,
    tied: Tensor,
    last: Tensor,
    first: Tensor,
    targets: NDArray[Any] | None,
) -> Tensor:
    """Return the indices of the nearest rows, corrected for rows with a tie that matters.

    Args:
        g: The graph.
        est: The estimator, with its search.
        x: The batch, shape (rows, columns).
        reduced: The reduced distances to all training rows, shape (rows, training rows).
        tied: Whether the last neighbour and the next row are equally near, shape (rows,).
        last: The reduced distance of the last neighbour, shape (rows,).
        first: The indices of the nearest rows, the lowest in a tie, shape (rows, neighbours).
        targets: The targets of the training rows, if ties between rows with equal targets do not matter.
    """
    matters = tied if targets is None else _targets_differ(g, reduced, tied, last, targets)

    def search_again() -> list[Tensor]:
        found = g.node("NonZero", [matters], "int64", None)
        rows = g.node("Squeeze", [found, g.constant([0], "int64")], "int64", None)
        some = [g.node("Gather", [tensor, rows], "float64", tensor.width, axis=0) for tensor in (x, reduced)]
        indices = _search(g, est, some[0], some[1], first.width or 0)
        return [g.node("ScatterND", [first, rows.unsqueeze(1), indices], "int64", first.width)]

    return g.branch(g.any(matters), search_again, lambda: [first])[0]


def _targets_differ(g: Graph, reduced: Tensor, tied: Tensor, last: Tensor, targets: NDArray[Any]) -> Tensor:
    """Return whether training rows at the distance of the last neighbour have different targets, shape (rows,)."""
    codes = g.constant(np.unique(targets, axis=0, return_inverse=True)[1].ravel(), "int64")

    def compared() -> list[Tensor]:
        group = reduced.equal(last.unsqueeze(1))
        greatest = formulas.reduced(g, "ReduceMax", g.where(group, codes, -1), None)
        least = formulas.reduced(g, "ReduceMin", g.where(group, codes, reduced.width or 0), None)
        return [(least < greatest) & tied]

    return g.branch(g.any(tied), compared, lambda: [tied])[0]


def _search(g: Graph, est: Any, x: Tensor, reduced: Tensor, count: int) -> Tensor:
    """Return the indices of the nearest rows in the order of the heap, shape (rows, count)."""
    if est._tree is None:
        return _heap_search(g, reduced, count)
    positions = _positions(g, est, x)
    zeros = positions * 0
    all_rows = zeros + np.arange(reduced.width or 0)
    visited = g.node("ScatterElements", [zeros, positions, all_rows], "int64", reduced.width, axis=1)
    distances = g.node("GatherElements", [reduced, visited], "float64", reduced.width, axis=1)
    return g.node("GatherElements", [visited, _heap_search(g, distances, count)], "int64", count, axis=1)


def _heap_search(g: Graph, distances: Tensor, count: int) -> Tensor:
    """Push the distances of each row to a heap, in their order: (rows, n) in, positions (rows, count) out.

    Each iteration pushes the next distance of each row that is less than the root. The heap has places for all
    children; the places beyond its `count` elements contain -inf.
    """
    total = distances.width or 0
    places = 2 * count + 1
    zeros = _column(g, distances, 0) * 0.0
    zeros = g.where(zeros.isnan(), 0.0, zeros)
    heap = zeros + np.where(np.arange(places) < count, np.inf, -np.inf)
    indices = g.cast(zeros + np.zeros(places), "int64")
    cursor = g.cast(zeros - 1.0, "int64")

    def push(state: list[Tensor]) -> list[Tensor]:
        cursor, heap, indices = state
        root = _column(g, heap, 0)
        nearer = g.cast((distances < root) & (np.arange(total) > cursor), "int64")
        position = g.node("ArgMax", [nearer], "int64", 1, axis=1, keepdims=1)
        found = g.cast(formulas.reduced(g, "ReduceMax", nearer), "bool")
        # A row with no distance to push replaces its root by the same root.
        value = g.where(found, _at(g, distances, position), root)
        heap, indices = _replaced_root(g, heap, indices, value, g.where(found, position, _column(g, indices, 0)), count)
        cursor = g.where(found, position, total)
        return [g.any(found), cursor, heap, indices]

    indices = g.loop(total + 1, [cursor, heap, indices], push)[2]
    return g.take(indices, range(count), axis=1)


def _replaced_root(
    g: Graph, heap: Tensor, indices: Tensor, value: Tensor, index: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Replace the root of the heap, and move it down while a child is greater; return the heap and the indices."""
    current = index * 0
    for _ in range(count.bit_length() - 1):
        doubled = current + current
        left, right = (doubled + step for step in (1, 2))
        left_value, right_value = _at(g, heap, left), _at(g, heap, right)
        child = g.where(left_value < right_value, right, left)
        greater = left_value.maximum(right_value)
        # If the value does not move further down, it overwrites this place below.
        heap = _placed(g, heap, current, greater)
        indices = _placed(g, indices, current, _at(g, indices, child))
        current = g.where(value < greater, child, current)
    return _placed(g, heap, current, value), _placed(g, indices, current, index)


def _positions(g: Graph, est: Any, x: Tensor) -> Tensor:
    """Return the position of each training row in a depth-first search, nearer child first, shape as the distances."""
    _, members, nodes, bounds = (np.asarray(part) for part in est._tree.get_arrays())
    forks = np.flatnonzero(nodes["is_leaf"] == 0)
    starts, ends = nodes["idx_start"], nodes["idx_end"]
    leaf_starts = np.sort(starts[nodes["is_leaf"] == 1])
    if len(forks) * len(leaf_starts) > MAX_MOVES:
        raise NotExportable("its tree has too many leaves for a graph to visit")
    # If the right child is nearer, each child moves past the other, by the number of rows of the other.
    moves = np.zeros((max(1, len(forks)), len(leaf_starts)))
    for row, fork in zip(moves, forks, strict=False):
        left, right = 2 * fork + 1, 2 * fork + 2
        row[(leaf_starts >= starts[left]) & (leaf_starts < ends[left])] = ends[right] - starts[right]
        row[(leaf_starts >= starts[right]) & (leaf_starts < ends[right])] = starts[left] - ends[left]
    leaf_of = np.searchsorted(leaf_starts, np.arange(len(members)), side="right") - 1
    position, leaf = np.empty(len(members), dtype=int), np.empty(len(members), dtype=int)
    position[members], leaf[members] = np.arange(len(members)), leaf_of
    lower_bounds = _lower_bounds(g, est, x, nodes, bounds)
    children = forks if len(forks) else np.zeros(1, dtype=int)
    sides = [g.constant(np.minimum(2 * children + side, len(nodes) - 1), "int64") for side in (1, 2)]
    left_bound, right_bound = (g.node("Gather", [lower_bounds, side], "float64", len(moves), axis=1) for side in sides)
    return g.take(g.cast(g.cast(right_bound < left_bound, "float64") @ moves, "int64"), leaf, axis=1) + position


def _lower_bounds(g: Graph, est: Any, x: Tensor, nodes: NDArray[Any], bounds: NDArray[Any]) -> Tensor:
    """`min_rdist` of the tree: the least reduced distance to any row in each node, shape (rows, nodes)."""
    power = power_of(est)
    if len(bounds) == 1:  # a ball tree: centers and radii
        outside = distances_of(g, minkowski(g, x, bounds[0], power), power) - nodes["radius"]
        return outside.maximum(0.0) if power in (1.0, np.inf) else outside.maximum(0.0) ** power
    row = x.unsqueeze(1)
    outside = g.node("Max", [bounds[0] - row, row - bounds[1], g.constant(0.0)], "float64", x.width)
    return summed(g, outside, power, len(nodes))


def _column(g: Graph, matrix: Tensor, position: int) -> Tensor:
    return g.take(matrix, [position], axis=1)


def _at(g: Graph, matrix: Tensor, positions: Tensor) -> Tensor:
    return g.node("GatherElements", [matrix, positions], matrix.type, 1, axis=1)


def _placed(g: Graph, matrix: Tensor, positions: Tensor, values: Tensor) -> Tensor:
    return g.node("ScatterElements", [matrix, positions, values], matrix.type, matrix.width, axis=1)
