"""Fitted trees as arrays, and the operator `TreeEnsemble` of ai.onnx.ml 5, which evaluates them.

A session of ONNX Runtime with one thread adds the leaves of a target in the order of the trees. So sums are rounded as
in scikit-learn, and equal scores remain equal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import numpy_helper

from app.packing.exporters.builder import ML
from app.packing.exporters.graph import Graph, Tensor

LEAF = -1
_LESS_OR_EQUAL, _SUM = 0, 1


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree as arrays over its nodes. Node 0 is the root. A row goes left if `x[column] <= threshold`.

    Attributes:
        left: The left child of each node; `LEAF` at leaves. Arrays without another shape have shape (nodes,).
        right: The right child of each node.
        column: The column that each node compares.
        threshold: The threshold of each node.
        missing_left: Whether NaN goes left.
        values: The values of the leaves, shape (nodes,) or (nodes, targets); values of inner nodes are not used.
        targets: The target of each leaf, if the leaves of the tree have different targets.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    column: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    values: NDArray[np.float64]
    targets: NDArray[np.int64] | None = None


def constant_tree(value: float) -> Tree:
    """Return a tree with one leaf."""
    leaf = np.array([LEAF])
    return Tree(leaf, leaf, leaf, np.zeros(1), np.zeros(1, dtype=bool), np.array([value]))


def before_rounding(thresholds: ArrayLike) -> NDArray[np.float64]:
    """Return for each threshold the float64 `t` such that `x <= t` if and only if `float32(x) <= threshold`.

    Rounding to float32 is monotonic, so `t` is the middle between the greatest float32 that passes and the next one, or
    the number before it if the middle rounds up. With `t`, the graph needs no casts.
    """
    limits = np.asarray(thresholds, dtype=np.float64)
    with np.errstate(over="ignore"):
        passing = limits.astype(np.float32)
        passing = np.where(passing > limits, np.nextafter(passing, np.float32(-np.inf)), passing)
        following = np.nextafter(passing, np.float32(np.inf))
        middle = _in_float64(passing) / 2 + _in_float64(following) / 2
        rounded = np.where(middle.astype(np.float32) <= passing, middle, np.nextafter(middle, -np.inf))
    return np.where(limits == np.inf, np.inf, rounded)


def _in_float64(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Convert to float64, infinity to 2**128, because numbers nearer to 2**128 than to a float32 round to infinity."""
    exact = values.astype(np.float64)
    return np.where(np.isinf(exact), np.copysign(2.0**128, exact), exact)


def summed(
    g: Graph, matrix: Tensor, trees: Sequence[Tree], targets: Sequence[int] | None = None, start: ArrayLike = ()
) -> Tensor:
    """Sum trees that give one number each, in their order: shape (rows, targets).

    Thresholds and sums have the type of the matrix, float64 or float32. `targets` has the target of each tree, by
    default 0, and `start` the first term of the sum of each target.
    """
    firsts = [constant_tree(value) for value in np.ravel(start).tolist()]
    targets = list(range(len(firsts))) + list(targets if targets is not None else [0] * len(trees))
    return _tree_ensemble(g, matrix, [*firsts, *trees], targets)


def tree_values(g: Graph, matrix: Tensor, trees: Sequence[Tree]) -> Tensor:
    """Return the number that each tree gives, shape (rows, trees)."""
    return _tree_ensemble(g, matrix, trees, range(len(trees)))


def summed_rows(g: Graph, matrix: Tensor, trees: Sequence[Tree]) -> Tensor:
    """Sum trees whose leaves hold several numbers, in their order: shape (rows, targets).

    A leaf of the operator adds to one target only, which is enough if all leaves are pure, as in fully grown trees.
    Other trees give row numbers of a table, and CumSum, whose order is defined, adds these rows. A copy of each tree
    for each target would be slower.
    """
    width = trees[0].values.shape[1]
    if width == 1:
        return summed(g, matrix, trees)
    leaves = [tree.values[tree.left == LEAF] for tree in trees]
    if all((np.count_nonzero(rows, axis=1) == 1).all() for rows in leaves):
        return _tree_ensemble(g, matrix, [_of_one_target(tree) for tree in trees], [width - 1] * len(trees))
    table, numbers = np.unique(np.concatenate(leaves), axis=0, return_inverse=True)
    ends = np.cumsum([len(rows) for rows in leaves])
    numbered = [
        _with_leaves(tree, part) for tree, part in zip(trees, np.split(numbers.ravel(), ends[:-1]), strict=True)
    ]
    found = g.cast(tree_values(g, matrix, numbered), "int64")
    if len(trees) == 1:
        return g.take(table, g.pick(found, 0))
    rows = g.take(table, found)
    return last_of_sums(g, rows, len(trees))


def last_of_sums(g: Graph, terms: Tensor, count: int) -> Tensor:
    """Sum over axis 1, one term after the other: (rows, count, targets) in, (rows, targets) out."""
    sums = g.node("CumSum", [terms, g.constant(1, "int64")], terms.type, terms.width)
    return g.node("Gather", [sums, g.constant(count - 1, "int64")], terms.type, terms.width, axis=1)


def _of_one_target(tree: Tree) -> Tree:
    """Return a tree of one number for each leaf: the only number of the leaf that is not 0, with its target."""
    targets = np.abs(tree.values).argmax(axis=1)
    values = np.take_along_axis(tree.values, targets[:, None], axis=1)[:, 0]
    return replace(tree, values=values, targets=targets)


def _with_leaves(tree: Tree, values: NDArray[Any]) -> Tree:
    """Return the tree with these values at its leaves, in the order of its nodes."""
    by_node = np.zeros(len(tree.left))
    by_node[tree.left == LEAF] = values
    return replace(tree, values=by_node)


def _tree_ensemble(g: Graph, matrix: Tensor, trees: Sequence[Tree], targets: Sequence[int]) -> Tensor:
    parts: dict[str, list[NDArray[Any]]] = defaultdict(list)
    roots, nodes, leaves = [], 0, 0
    for tree, target in zip(trees, targets, strict=True):
        roots.append(nodes)
        columns = _columns(tree if tree.left[0] != LEAF else _with_split(tree), target, nodes, leaves)
        for name, column in columns.items():
            parts[name].append(np.asarray(column))
        nodes, leaves = nodes + len(columns["nodes_splits"]), leaves + len(columns["leaf_weights"])
    joined = {name: np.concatenate(some) for name, some in parts.items()}
    splits, weights = (joined.pop(name).astype(matrix.type) for name in ("nodes_splits", "leaf_weights"))
    if not joined["nodes_missing_value_tracks_true"].any():
        del joined["nodes_missing_value_tracks_true"]
    width = max(targets) + 1
    return g.node(
        "TreeEnsemble",
        [matrix],
        matrix.type,
        width,
        domain=ML,
        aggregate_function=_SUM,
        n_targets=width,
        tree_roots=roots,
        nodes_modes=numpy_helper.from_array(np.full(nodes, _LESS_OR_EQUAL, dtype=np.uint8)),
        nodes_splits=numpy_helper.from_array(splits),
        leaf_weights=numpy_helper.from_array(weights),
        **{name: column.astype(int).tolist() for name, column in joined.items()},
    )


def _with_split(tree: Tree) -> Tree:
    """Return a tree of one leaf with a split, because the operator requires one; both sides give the same number."""
    ends = np.array([1, LEAF, LEAF])
    targets = None if tree.targets is None else tree.targets.repeat(3)
    return Tree(ends, ends * [2, 1, 1], ends * 0, np.zeros(3), np.zeros(3, dtype=bool), tree.values.repeat(3), targets)


def _columns(tree: Tree, target: int, nodes: int, leaves: int) -> dict[str, Sequence[Any] | NDArray[Any]]:
    """Return the attributes of the operator for a tree whose leaves give one number each.

    `nodes` and `leaves` are the numbers of inner nodes and leaves of the trees before it.
    """
    is_leaf = tree.left == LEAF
    inner = ~is_leaf
    values = tree.values.reshape(len(is_leaf))
    targets = np.full(len(is_leaf), target) if tree.targets is None else tree.targets
    position = np.where(is_leaf, np.cumsum(is_leaf) - 1 + leaves, np.cumsum(inner) - 1 + nodes)
    true, false = tree.left[inner], tree.right[inner]
    true_ids, false_ids = position[true], position[false]
    weights, of_targets = values[is_leaf].tolist(), targets[is_leaf].tolist()
    if true_ids[0] == false_ids[0]:
        # ONNX Runtime would take a leaf and an inner node with the same number for one leaf: copy the leaf.
        side, node = (true_ids, true) if is_leaf[true[0]] else (false_ids, false)
        side[0] = leaves + len(weights)
        weights.append(values[node[0]])
        of_targets.append(targets[node[0]])
    return {
        "leaf_weights": weights,
        "leaf_targetids": of_targets,
        "nodes_featureids": tree.column[inner],
        "nodes_splits": tree.threshold[inner],
        "nodes_truenodeids": true_ids,
        "nodes_falsenodeids": false_ids,
        "nodes_trueleafs": is_leaf[true],
        "nodes_falseleafs": is_leaf[false],
        "nodes_missing_value_tracks_true": tree.missing_left[inner],
    }


GOES_LEFT, GOES_RIGHT, IS_MISSING = 0.0, 1.0, np.nan
THRESHOLD = 0.5
"""The threshold of an appended column."""


@dataclass
class CategoricalSplits:
    """The categorical splits of all trees, and the columns that are appended to the matrix for them.

    Such a column has the side of each row, `GOES_LEFT`, `GOES_RIGHT` or `IS_MISSING`, which a tree compares with
    `THRESHOLD`. Equal splits have one column. The set membership of ONNX would need a copy of the subtree for each
    category. The matrix has `width` columns; `counts` has the number of categories of each categorical column.
    """

    width: int
    counts: dict[int, int]
    _splits: dict[int, dict[bytes, int]] = field(default_factory=dict)

    def add(self, position: int, sides: NDArray[np.float64]) -> tuple[int, int]:
        """Add a split of the column at this position of the matrix, and return its key for `column_of`.

        `sides` has the side of each category; the last element is the side of unknown categories.
        """
        splits = self._splits.setdefault(position, {})
        return position, splits.setdefault(sides.tobytes(), len(splits))

    def column_of(self, key: tuple[int, int]) -> int:
        """Return the column of a split in the extended matrix, after all splits are added."""
        position, number = key
        return self.width + sorted(self._splits).index(position) * self._most + number

    @property
    def size(self) -> int:
        """The number of elements in the table of `append_columns`."""
        return sum(self.counts[position] + 1 for position in self._splits) * self._most

    @property
    def _most(self) -> int:
        return max((len(splits) for splits in self._splits.values()), default=0)

    def append_columns(self, g: Graph, matrix: Tensor) -> Tensor:
        """Append the columns of the splits to the matrix.

        A category is the integer part of a number in [0, count); other numbers and NaN are unknown.
        """
        if not self._splits:
            return matrix
        positions = sorted(self._splits)
        counts = [self.counts[position] for position in positions]
        tables = [self._table(position) for position in positions]
        values = g.select((matrix,), positions)[0]
        width = len(positions)
        known = (values > -1.0) & (values < np.array(counts, dtype=float))
        index = g.cast(g.where(known, values, np.array(counts, dtype=float)), "int64")
        if width > 1:
            offsets = np.cumsum([0, *(count + 1 for count in counts[:-1])])
            index = index + offsets
        found = g.take(np.concatenate(tables), index)
        columns = width * self._most
        flat = g.node("Reshape", [found, g.constant([0, columns], "int64")], "float64", columns)
        return g.concat([matrix, flat])

    def _table(self, position: int) -> NDArray[np.float64]:
        """Return the sides by category and split, shape (count + 1, most splits of a column)."""
        splits = [np.frombuffer(sides) for sides in self._splits[position]]
        table = np.zeros((self.counts[position] + 1, self._most))
        table[:, : len(splits)] = np.column_stack(splits)
        return table


def in_bitset(words: Sequence[int] | NDArray[np.uint32], count: int) -> NDArray[np.bool_]:
    """Return which of the numbers below `count` are in a bitset of 32-bit words, shape (count,)."""
    bits = np.unpackbits(np.ascontiguousarray(words, dtype="<u4").view(np.uint8), bitorder="little").astype(bool)
    return np.pad(bits, (0, max(0, count - len(bits))))[:count]
