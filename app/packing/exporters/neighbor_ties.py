"""Break ties between equally near rows as scikit-learn's search does.

The search keeps the k nearest rows so far in a heap with the farthest at its root (`sklearn.utils._heap.heap_push`). A
nearer row replaces the root, an equally near one does not. Which of several equal rows is at the root depends on the
order of the search: by index, or, in a tree, by its leaves, the nearer child first. So the whole search is repeated for
the rows of a batch that have a tie.

Among more than 256 rows, the order of a brute-force search depends on the batch size and the number of processors, so
there is no defined answer; the graph takes rows by their index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, NotExportable, Tensor
from app.packing.exporters.metrics import distances_of, minkowski, power_of, summed

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

    def again(inner: Graph) -> list[Tensor]:
        found = inner.node("NonZero", [matters], "int64", None)
        rows = inner.node("Squeeze", [found, inner.constant([0], "int64")], "int64", None)
        some = [inner.node("Gather", [tensor, rows], "float64", tensor.width, axis=0) for tensor in (x, reduced)]
        indices = _searched(inner, est, some[0], some[1], first.width or 0)
        places = inner.node("Unsqueeze", [rows, inner.constant([1], "int64")], "int64", 1)
        return [inner.node("ScatterND", [first, places, indices], "int64", first.width)]

    return g.branch(_any(g, matters), again, lambda inner: [first])[0]


def _mixed(g: Graph, reduced: Tensor, tied: Tensor, last: Tensor, targets: NDArray[Any]) -> Tensor:
    """Whether the fitted rows at the distance of the last neighbour differ in their targets, shape (rows,)."""
    codes = g.constant(np.unique(targets, axis=0, return_inverse=True)[1].ravel(), "int64")
    width = reduced.width or 0

    def compared(inner: Graph) -> list[Tensor]:
        group = inner.node("Equal", [reduced, inner.column(last)], "bool", width)
        ends = []
        for operator, other in (("ReduceMax", -1), ("ReduceMin", width)):
            masked = inner.node("Where", [group, codes, inner.constant(other, "int64")], "int64", width)
            ends.append(inner.node(operator, [masked, inner.constant([1], "int64")], "int64", None, keepdims=0))
        differ = inner.node("Less", ends[::-1], "bool", None)
        return [inner.node("And", [differ, tied], "bool", None)]

    return g.branch(_any(g, tied), compared, lambda inner: [tied])[0]


def _any(g: Graph, values: Tensor) -> Tensor:
    """Whether any value is true: a scalar."""
    return g.cast(g.node("ReduceMax", [g.cast(values, "int64")], "int64", None, keepdims=0), "bool")


def _searched(g: Graph, est: Any, x: Tensor, reduced: Tensor, count: int) -> Tensor:
    """Return the indices of the nearest rows in the order of the heap, shape (rows, count)."""
    if est._tree is None:
        return _pushed(g, reduced, count)
    turns = _positions(g, est, x)
    blank = g.node("Mul", [turns, g.constant(0, "int64")], "int64", reduced.width)
    everyone = g.node("Add", [blank, g.constant(np.arange(reduced.width or 0), "int64")], "int64", reduced.width)
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
    nothing = g.node("Mul", [_column(g, met, 0), g.constant(0.0)], "float64", 1)
    zeros = g.node("Where", [g.node("IsNaN", [nothing], "bool", 1), g.constant(0.0), nothing], "float64", 1)
    heap = g.node("Add", [zeros, g.constant(empty)], "float64", room)
    indices = g.cast(g.node("Add", [zeros, g.constant(np.zeros(room))], "float64", room), "int64")
    cursor = g.cast(g.node("Sub", [zeros, g.constant(1.0)], "float64", 1), "int64")

    def push(inner: Graph, state: list[Tensor]) -> list[Tensor]:
        cursor, heap, indices = state
        root = _column(inner, heap, 0)
        below = inner.node("Less", [met, root], "bool", total)
        ahead = inner.node("Greater", [inner.constant(np.arange(total), "int64"), cursor], "bool", total)
        offered = inner.cast(inner.node("And", [below, ahead], "bool", total), "int64")
        position = inner.node("ArgMax", [offered], "int64", 1, axis=1, keepdims=1)
        found = inner.cast(inner.node("ReduceMax", [offered, inner.constant([1], "int64")], "int64", 1), "bool")
        # A row with nothing left to push puts its root back where it is.
        value = inner.node("Where", [found, _at(inner, met, position), root], "float64", 1)
        index = inner.node("Where", [found, position, _column(inner, indices, 0)], "int64", 1)
        heap, indices = _sunk(inner, heap, indices, value, index, count)
        cursor = inner.node("Where", [found, position, inner.constant(total, "int64")], "int64", 1)
        return [_any(inner, found), cursor, heap, indices]

    indices = g.loop(total + 1, [cursor, heap, indices], push)[2]
    return g.node("Gather", [indices, g.constant(range(count), "int64")], "int64", count, axis=1)


def _sunk(g: Graph, heap: Tensor, indices: Tensor, value: Tensor, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Replace the root of the heap, and move up the greater child as long as it is greater."""
    current = g.node("Mul", [index, g.constant(0, "int64")], "int64", 1)
    for _ in range(count.bit_length() - 1):
        doubled = g.node("Add", [current, current], "int64", 1)
        left, right = (g.node("Add", [doubled, g.constant(step, "int64")], "int64", 1) for step in (1, 2))
        values = [_at(g, heap, left), _at(g, heap, right)]
        to_right = g.node("Less", values, "bool", 1)
        child = g.node("Where", [to_right, right, left], "int64", 1)
        greater = g.node("Max", values, "float64", 1)
        # The last place is written again below, so this value stays only where the value sinks further.
        heap = _placed(g, heap, current, greater)
        indices = _placed(g, indices, current, _at(g, indices, child))
        swapped = g.node("Less", [value, greater], "bool", 1)
        current = g.node("Where", [swapped, child, current], "int64", 1)
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
        row[_within(leaf_starts, starts[left], ends[left])] = ends[right] - starts[right]
        row[_within(leaf_starts, starts[right], ends[right])] = starts[left] - ends[left]
    leaf_of = np.searchsorted(leaf_starts, np.arange(len(members)), side="right") - 1
    own, leaf = np.empty(len(members), dtype=int), np.empty(len(members), dtype=int)
    own[members], leaf[members] = np.arange(len(members)), leaf_of
    nearness = _lower_bounds(g, est, x, nodes, bounds)
    children = forks if len(forks) else np.zeros(1, dtype=int)
    sides = [g.constant(np.minimum(2 * children + side, len(nodes) - 1), "int64") for side in (1, 2)]
    left_bound, right_bound = (g.node("Gather", [nearness, side], "float64", len(moves), axis=1) for side in sides)
    turned = g.cast(g.node("Less", [right_bound, left_bound], "bool", len(moves)), "float64")
    shifts = g.cast(g.node("MatMul", [turned, g.constant(moves)], "float64", len(leaf_starts)), "int64")
    by_row = g.node("Gather", [shifts, g.constant(leaf, "int64")], "int64", len(members), axis=1)
    return g.node("Add", [by_row, g.constant(own, "int64")], "int64", len(members))


def _within(starts: NDArray[Any], low: int, high: int) -> NDArray[Any]:
    inside: NDArray[Any] = (starts >= low) & (starts < high)
    return inside


def _lower_bounds(g: Graph, est: Any, x: Tensor, nodes: NDArray[Any], bounds: NDArray[Any]) -> Tensor:
    """`min_rdist` of the tree: the least reduced distance to any row in each node, shape (rows, nodes)."""
    power = power_of(est)
    if len(bounds) == 1:  # a ball tree: centers and radii
        away = distances_of(g, minkowski(g, x, bounds[0], power), power)
        outside = g.node("Sub", [away, g.constant(nodes["radius"])], "float64", len(nodes))
        bound = g.node("Max", [outside, g.constant(0.0)], "float64", len(nodes))
        if power in (1.0, np.inf):
            return bound
        return g.node("Pow", [bound, g.constant(power)], "float64", len(nodes))
    apart = g.node("Unsqueeze", [x, g.constant([1], "int64")], "float64", x.width)
    below = g.node("Sub", [g.constant(bounds[0]), apart], "float64", x.width)
    above = g.node("Sub", [apart, g.constant(bounds[1])], "float64", x.width)
    outside = g.node("Max", [below, above, g.constant(0.0)], "float64", x.width)
    return summed(g, outside, power, len(nodes))


def _column(g: Graph, matrix: Tensor, position: int) -> Tensor:
    return g.node("Gather", [matrix, g.constant([position], "int64")], matrix.type, 1, axis=1)


def _at(g: Graph, matrix: Tensor, positions: Tensor) -> Tensor:
    return g.node("GatherElements", [matrix, positions], matrix.type, 1, axis=1)


def _placed(g: Graph, matrix: Tensor, positions: Tensor, values: Tensor) -> Tensor:
    return g.node("ScatterElements", [matrix, positions, values], matrix.type, matrix.width, axis=1)
