"""Find the nearest of the fitted rows, with distances and an order that equal scikit-learn's to the last bit.

Rows at equal distance are common (integers, one-hot columns, duplicates). Ties are broken as scikit-learn does:
the search keeps the k nearest rows so far in a heap with the farthest at its root (`sklearn.utils._heap.heap_push`). A
nearer row replaces the root, an equally near one does not. Which of several equal rows is at the root depends on the
order of the search: by index, or, in a tree, by its leaves, the nearer child first. So the whole search is repeated for
the rows of a batch that have a tie.

Among more than 256 rows, the order of a brute-force search depends on the batch size and the number of processors, so
there is no defined answer; the graph takes rows by their index.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, NotExportable, Tensor
from app.packing.exporters.similarity import distances_of, fused_squares, minkowski, power_of, summed

MAX_ROWS = 1 << 14
"""The most fitted rows that a graph searches: the distances of 1,000 rows to them take 128 MiB."""

MAX_NUMBERS = 1 << 17
"""The most numbers that are subtracted one by one: with more, a graph is slower than the trees of scikit-learn."""


def reduced_distances(g: Graph, est: Any, x: Tensor) -> Tensor:
    """Return distances before the last root is taken, shape (rows, fitted rows).

    Trees subtract coordinates, and so does the brute-force search, except for the Euclidean metric.
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

    `targets` are those of the fitted rows, if it does not matter which of several rows with equal targets are taken.
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


MAX_TURNS = 1 << 22
"""The largest table of how the order of the leaves of a tree depends on its forks."""


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
        reduced: The reduced distances to all fitted rows, shape (rows, fitted rows).
        tied: Whether the last neighbour and the next row beyond it are equally near, shape (rows,).
        last: The reduced distance of the last neighbour, shape (rows,).
        first: The indices of the nearest rows, of equal ones the lowest, shape (rows, neighbours).
        targets: The targets of the fitted rows, if a tie between rows with equal targets does not matter.
    """
    matters = tied if targets is None else _mixed(g, reduced, tied, last, targets)

    def again() -> list[Tensor]:
        found = g.node("NonZero", [matters], "int64", None)
        rows = g.node("Squeeze", [found, g.constant([0], "int64")], "int64", None)
        some = [g.node("Gather", [tensor, rows], "float64", tensor.width, axis=0) for tensor in (x, reduced)]
        indices = _searched(g, est, some[0], some[1], first.width or 0)
        return [g.node("ScatterND", [first, rows.unsqueeze(1), indices], "int64", first.width)]

    return g.branch(g.any(matters), again, lambda: [first])[0]


def _mixed(g: Graph, reduced: Tensor, tied: Tensor, last: Tensor, targets: NDArray[Any]) -> Tensor:
    """Whether the fitted rows at the distance of the last neighbour differ in their targets, shape (rows,)."""
    codes = g.constant(np.unique(targets, axis=0, return_inverse=True)[1].ravel(), "int64")
    width = reduced.width or 0

    def compared() -> list[Tensor]:
        group = reduced.equal(last.unsqueeze(1))
        ends = []
        for operator, other in (("ReduceMax", -1), ("ReduceMin", width)):
            masked = g.where(group, codes, other)
            ends.append(g.node(operator, [masked, g.constant([1], "int64")], "int64", None, keepdims=0))
        return [(ends[1] < ends[0]) & tied]

    return g.branch(g.any(tied), compared, lambda: [tied])[0]


def _searched(g: Graph, est: Any, x: Tensor, reduced: Tensor, count: int) -> Tensor:
    """Return the indices of the nearest rows in the order of the heap, shape (rows, count)."""
    if est._tree is None:
        return _pushed(g, reduced, count)
    turns = _positions(g, est, x)
    blank = turns * 0
    everyone = blank + np.arange(reduced.width or 0)
    met = g.node("ScatterElements", [blank, turns, everyone], "int64", reduced.width, axis=1)
    in_turn = g.node("GatherElements", [reduced, met], "float64", reduced.width, axis=1)
    return g.node("GatherElements", [met, _pushed(g, in_turn, count)], "int64", count, axis=1)


def _pushed(g: Graph, met: Tensor, count: int) -> Tensor:
    """Return the positions that are in the heap after all distances, (rows, n), were offered in their order.

    Each turn of the loop finds the next distance of each row that is less than the root, and pushes it. The heap has
    room for the children of each place; those beyond its size are -inf.
    """
    total = met.width or 0
    room = 2 * count + 1
    empty = np.where(np.arange(room) < count, np.inf, -np.inf)
    nothing = _column(g, met, 0) * 0.0
    zeros = g.where(nothing.isnan(), 0.0, nothing)
    heap = zeros + empty
    indices = g.cast(zeros + np.zeros(room), "int64")
    cursor = g.cast(zeros - 1.0, "int64")

    def push(state: list[Tensor]) -> list[Tensor]:
        cursor, heap, indices = state
        root = _column(g, heap, 0)
        offered = g.cast((met < root) & (np.arange(total) > cursor), "int64")
        position = g.node("ArgMax", [offered], "int64", 1, axis=1, keepdims=1)
        found = g.cast(g.node("ReduceMax", [offered, g.constant([1], "int64")], "int64", 1), "bool")
        # A row with nothing left to push puts its root back where it is.
        value = g.where(found, _at(g, met, position), root)
        heap, indices = _sunk(g, heap, indices, value, g.where(found, position, _column(g, indices, 0)), count)
        cursor = g.where(found, position, total)
        return [g.any(found), cursor, heap, indices]

    indices = g.loop(total + 1, [cursor, heap, indices], push)[2]
    return g.take(indices, range(count), axis=1)


def _sunk(g: Graph, heap: Tensor, indices: Tensor, value: Tensor, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Replace the root of the heap, and move up the greater child as long as it is greater."""
    current = index * 0
    for _ in range(count.bit_length() - 1):
        doubled = current + current
        left, right = (doubled + step for step in (1, 2))
        values = [_at(g, heap, left), _at(g, heap, right)]
        to_right = g.node("Less", values, "bool", 1)
        child = g.where(to_right, right, left)
        greater = g.node("Max", values, "float64", 1)
        # The last place is written again below, so this value stays only where the value sinks further.
        heap = _placed(g, heap, current, greater)
        indices = _placed(g, indices, current, _at(g, indices, child))
        current = g.where(value < greater, child, current)
    return _placed(g, heap, current, value), _placed(g, indices, current, index)


def _positions(g: Graph, est: Any, x: Tensor) -> Tensor:
    """Return the position of each fitted row in a depth-first search, nearer child first: shape (rows, fitted rows)."""
    _, members, nodes, bounds = (np.asarray(part) for part in est._tree.get_arrays())
    forks = np.flatnonzero(nodes["is_leaf"] == 0)
    starts, ends = nodes["idx_start"], nodes["idx_end"]
    leaf_starts = np.sort(starts[nodes["is_leaf"] == 1])
    if len(forks) * len(leaf_starts) > MAX_TURNS:
        raise NotExportable("its tree has too many leaves to be walked by a graph")
    # Taking the right child first moves its leaves ahead of the left child's, by as many rows as that has.
    moves = np.zeros((max(1, len(forks)), len(leaf_starts)))
    for row, fork in zip(moves, forks, strict=False):
        left, right = 2 * fork + 1, 2 * fork + 2
        row[(leaf_starts >= starts[left]) & (leaf_starts < ends[left])] = ends[right] - starts[right]
        row[(leaf_starts >= starts[right]) & (leaf_starts < ends[right])] = starts[left] - ends[left]
    leaf_of = np.searchsorted(leaf_starts, np.arange(len(members)), side="right") - 1
    own, leaf = np.empty(len(members), dtype=int), np.empty(len(members), dtype=int)
    own[members], leaf[members] = np.arange(len(members)), leaf_of
    nearness = _lower_bounds(g, est, x, nodes, bounds)
    children = forks if len(forks) else np.zeros(1, dtype=int)
    sides = [g.constant(np.minimum(2 * children + side, len(nodes) - 1), "int64") for side in (1, 2)]
    left_bound, right_bound = (g.node("Gather", [nearness, side], "float64", len(moves), axis=1) for side in sides)
    return g.take(g.cast(g.cast(right_bound < left_bound, "float64") @ moves, "int64"), leaf, axis=1) + own


def _lower_bounds(g: Graph, est: Any, x: Tensor, nodes: NDArray[Any], bounds: NDArray[Any]) -> Tensor:
    """`min_rdist` of the tree: the least reduced distance to any row in each node, shape (rows, nodes)."""
    power = power_of(est)
    if len(bounds) == 1:  # a ball tree: centers and radii
        away = distances_of(g, minkowski(g, x, bounds[0], power), power)
        outside = away - nodes["radius"]
        return outside.maximum(0.0) if power in (1.0, np.inf) else outside.maximum(0.0) ** power
    apart = x.unsqueeze(1)
    outside = g.node("Max", [bounds[0] - apart, apart - bounds[1], g.constant(0.0)], "float64", x.width)
    return summed(g, outside, power, len(nodes))


def _column(g: Graph, matrix: Tensor, position: int) -> Tensor:
    return g.take(matrix, [position], axis=1)


def _at(g: Graph, matrix: Tensor, positions: Tensor) -> Tensor:
    return g.node("GatherElements", [matrix, positions], matrix.type, 1, axis=1)


def _placed(g: Graph, matrix: Tensor, positions: Tensor, values: Tensor) -> Tensor:
    return g.node("ScatterElements", [matrix, positions, values], matrix.type, matrix.width, axis=1)
