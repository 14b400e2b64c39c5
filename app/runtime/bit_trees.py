"""Evaluate an ensemble of trees for many rows at once, with one bit for each row.

Each node selects a bit of its left or of its right subtree. One operation on 64-bit words evaluates a node for 64 rows,
without a branch. A few such bits encode the number of a leaf in its tree. If each leaf is a vote, it has one bit for
each class.

The comparisons and the order of the sums are those of the operator TreeEnsemble of ai.onnx.ml 5, so that the results
are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, LEAST_ROWS = 8192, 512
"""Most and least rows of a block, multiples of 64. With many nodes, blocks are smaller, so that bits fit the cache."""
SCRATCH_BYTES = 2**25
MOST_NODES = 200_000
MOST_PLANES = 8
UNKNOWN = -1
Columns = Sequence[NDArray[Any]]


class NotEvaluable(Exception):
    """This module cannot evaluate the ensemble."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The attributes of a TreeEnsemble, as arrays over its nodes, leaves and trees."""

    feature: NDArray[np.int64]
    split: NDArray[Any]
    true_id: NDArray[np.int64]
    false_id: NDArray[np.int64]
    true_is_leaf: NDArray[np.bool_]
    false_is_leaf: NDArray[np.bool_]
    missing_is_true: NDArray[np.bool_]
    leaf_weight: NDArray[Any]
    leaf_target: NDArray[np.int64]
    roots: NDArray[np.int64]
    targets: int


@dataclass(frozen=True, slots=True)
class _Level:
    """The nodes at one depth of all trees: the indices of their conditions and of their children's bits."""

    condition: NDArray[np.intp]
    true: NDArray[np.intp]
    false: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Plane:
    """The nodes that decide one bit of the leaf numbers. Nodes whose leaves all have the same bit are left out.

    `trees` are the trees with a leaf that has this bit. `places` are the indices of their bits in the top level.
    """

    levels: list[_Level]
    trees: NDArray[np.intp]
    places: NDArray[np.intp]


class BitTrees:
    """Trees whose leaves hold small numbers. Immutable, safe to share between threads.

    Args:
        ensemble: The trees.
        number: The number of each leaf, below 2**planes.
        planes: The number of bits of a leaf number.
    """

    def __init__(self, ensemble: Ensemble, number: NDArray[np.int64], planes: int) -> None:
        if len(ensemble.feature) > MOST_NODES:
            raise NotEvaluable
        keys = list(zip(ensemble.feature, ensemble.missing_is_true, ensemble.split, strict=True))
        order = sorted({*keys})
        place = {key: at for at, key in enumerate(order)}
        condition = np.array([place[key] for key in keys], dtype=np.intp)
        self._condition_count = len(order)
        narrow, dtype = _narrow_splits(ensemble.split)
        place_of_split = dict(zip(ensemble.split.tolist(), narrow.tolist(), strict=True))
        self._groups = _group_splits([(*key[:2], place_of_split[float(key[2])]) for key in order], dtype)
        self._dtype = dtype
        self._planes = [_plane(ensemble, condition, number >> plane & 1) for plane in range(planes)]
        self.used = [plane.trees for plane in self._planes]
        """For each plane, the trees with a leaf whose number has this bit."""
        self._most_splits = max((len(splits) for *_, splits, _ in self._groups), default=0)
        self._most_nodes = max((len(level.condition) for plane in self._planes for level in plane.levels), default=0)
        words = SCRATCH_BYTES // (8 * (self._condition_count + 4 * self._most_nodes))
        self._rows = max(LEAST_ROWS, min(ROWS, 64 * words))

    def numbers(self, columns: Columns) -> Iterator[tuple[slice, list[NDArray[np.uint8]]]]:
        """Yield blocks of rows, each with the bits of the leaf numbers.

        The bits are one array of 0 and 1 per plane, shape (trees in `used`, rows). Columns have the shape (rows,).
        """
        rows = len(columns[0])
        blocks = -(-rows // self._rows)
        rows_of_block = 64 * -(-rows // (64 * blocks))
        scratch = _Scratch(rows_of_block, self._condition_count, self._most_splits, self._most_nodes)
        for begin in range(0, rows, rows_of_block):
            block = slice(begin, min(begin + rows_of_block, rows))
            count = block.stop - begin
            self._compare(columns, block, scratch)
            values = self._evaluate_planes(scratch)
            yield block, [np.unpackbits(plane, axis=1, count=count, bitorder="little") for plane in values]

    def _compare(self, columns: Columns, block: slice, scratch: _Scratch) -> None:
        """Compute the bits of all conditions for a block of rows."""
        column, converted = np.empty(0, self._dtype), -1
        with np.errstate(over="ignore"):  # a large float64 becomes an infinite float32
            for feature, missing_is_true, splits, begin in self._groups:
                if feature != converted:
                    column, converted = np.ascontiguousarray(columns[feature][block], dtype=self._dtype), feature
                compare = np.greater if missing_is_true else np.less_equal
                holds = scratch.holds[: len(splits), : len(column)]
                packed = np.packbits(compare(column, splits, out=holds), axis=1, bitorder="little")
                bits = scratch.bits[begin : begin + len(splits), : packed.shape[1]]
                (np.invert if missing_is_true else np.positive)(packed, out=bits)

    def _evaluate_planes(self, scratch: _Scratch) -> list[NDArray[np.uint8]]:
        """Return the bits of all trees, for each plane."""
        bits = scratch.bits.view(np.uint64)
        bits_of_planes = []
        for plane in self._planes:
            below = 0
            for level in reversed(plane.levels):
                nodes = len(level.condition)
                chosen, other = scratch.values[1 - below, 2 : nodes + 2], scratch.other[:nodes]
                condition = bits.take(level.condition, axis=0, out=scratch.condition[:nodes], mode="clip")
                scratch.values[below].take(level.true, axis=0, out=chosen, mode="clip")
                scratch.values[below].take(level.false, axis=0, out=other, mode="clip")
                chosen ^= other
                chosen &= condition
                chosen ^= other
                below = 1 - below
            bits_of_planes.append(scratch.values[below][plane.places].view(np.uint8))
        return bits_of_planes


class _Scratch:
    """Memory for all blocks of one call. Allocating it for each block would be slow.

    Bits after the last row of a block are undefined.
    """

    def __init__(self, rows: int, conditions: int, most_splits: int, most_nodes: int) -> None:
        words = rows // 64
        self.bits = np.empty((conditions, words * 8), np.uint8)
        self.holds = np.empty((most_splits, rows), np.bool_)
        self.condition = np.empty((most_nodes, words), np.uint64)
        self.other = np.empty((most_nodes, words), np.uint64)
        self.values = np.empty((2, most_nodes + 2, words), np.uint64)
        """The bits of the nodes of a level, and of the level below. The first two rows are the constants 0 and 1."""
        self.values[:, 0], self.values[:, 1] = 0, ~np.uint64(0)


def _narrow_splits(splits: NDArray[Any]) -> tuple[NDArray[Any], np.dtype[Any]]:
    """Return the splits as float32 if comparisons with inputs rounded to float32 have the same results; and the dtype.

    scikit-learn's trees meet this condition, because they round inputs themselves: each split is the largest number
    that rounds down.
    """
    with np.errstate(over="ignore"):
        narrow = splits.astype(np.float32)
        following = np.nextafter(splits, np.inf).astype(np.float32)
    if splits.dtype == np.float64 and (narrow < following).all():
        return narrow, narrow.dtype
    return splits, splits.dtype


def _group_splits(order: list[tuple[Any, Any, Any]], dtype: np.dtype[Any]) -> list[tuple[int, bool, NDArray[Any], int]]:
    """Group the conditions by feature and treatment of NaN.

    Return for each group: the feature, whether NaN is true, the splits, shape (splits, 1), and the first index.
    """
    groups: list[tuple[int, bool, NDArray[Any], int]] = []
    begin = 0
    while begin < len(order):
        feature, missing, _ = order[begin]
        end = begin
        while end < len(order) and order[end][:2] == (feature, missing):
            end += 1
        splits = np.array([split for *_, split in order[begin:end]], dtype=dtype)[:, None]
        groups.append((int(feature), bool(missing), splits, begin))
        begin = end
    return groups


def _plane(ensemble: Ensemble, condition: NDArray[np.intp], bit: NDArray[np.int64]) -> _Plane:
    """Return the levels, from the roots down, that select the leaf's bit. Indices 0 and 1 are the constant bits."""
    constant = _constants(ensemble, bit)

    def place_children(
        ids: NDArray[np.int64], is_leaf: NDArray[np.bool_], before: int
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return the indices of the children's bits, and the children that are nodes of the next level."""
        bits = np.where(is_leaf, bit[np.where(is_leaf, ids, 0)], constant[np.where(is_leaf, 0, ids)])
        is_inner = bits == UNKNOWN
        return np.where(is_inner, np.cumsum(is_inner) + before + 1, bits), ids[is_inner]

    places, nodes = place_children(ensemble.roots, np.zeros(len(ensemble.roots), np.bool_), 0)
    levels: list[_Level] = []
    while len(nodes):
        true, below = place_children(ensemble.true_id[nodes], ensemble.true_is_leaf[nodes], 0)
        false, others = place_children(ensemble.false_id[nodes], ensemble.false_is_leaf[nodes], len(below))
        levels.append(_Level(condition[nodes], true, false))
        nodes = np.concatenate([below, others])
    trees = np.flatnonzero(places)
    return _Plane(levels, trees, places[trees])


def _constants(ensemble: Ensemble, bit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each node the common bit of all leaves below it; UNKNOWN if they differ."""
    depths, nodes = [], ensemble.roots
    children = [(ensemble.true_id, ensemble.true_is_leaf), (ensemble.false_id, ensemble.false_is_leaf)]
    while len(nodes):
        depths.append(nodes)
        nodes = np.concatenate([ids[nodes][~is_leaf[nodes]] for ids, is_leaf in children])
    constant = np.full(len(ensemble.feature), UNKNOWN)
    for nodes in reversed(depths):
        true, false = (
            np.where(is_leaf[nodes], bit[np.where(is_leaf, ids, 0)[nodes]], constant[np.where(is_leaf, 0, ids)[nodes]])
            for ids, is_leaf in children
        )
        constant[nodes] = np.where(true == false, true, UNKNOWN)
    return constant


def trees_of_leaves(ensemble: Ensemble) -> NDArray[np.intp]:
    """Return the tree of each leaf; -1 for an unreachable leaf."""
    trees = np.full(len(ensemble.leaf_weight), -1, dtype=np.intp)
    nodes, owners = ensemble.roots, np.arange(len(ensemble.roots))
    while len(nodes):
        children, owners_of_children = [], []
        for ids, is_leaf in (
            (ensemble.true_id[nodes], ensemble.true_is_leaf[nodes]),
            (ensemble.false_id[nodes], ensemble.false_is_leaf[nodes]),
        ):
            trees[ids[is_leaf]] = owners[is_leaf]
            children.append(ids[~is_leaf])
            owners_of_children.append(owners[~is_leaf])
        nodes, owners = np.concatenate(children), np.concatenate(owners_of_children)
    return trees
