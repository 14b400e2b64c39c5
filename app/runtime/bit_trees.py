"""Evaluate an ensemble of trees for many rows at once, with one bit for each row.

A tree is a multiplexer: at each node, a bit of the left or of the right subtree is taken. 64 rows are computed by one
operation on words, without a branch. The numbers at the leaves of a tree are told by a few such bits, or, where each
leaf is a vote, by one bit for each class.

The comparisons and the order of the sums are those of the operator TreeEnsemble of ai.onnx.ml 5, so that the answers
are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, LEAST_ROWS = 8192, 512
"""Rows of a block, whose bits stay in the cache; fewer for ensembles of many nodes. Multiples of 64."""
SCRATCH_BYTES = 2**25
MOST_NODES = 200_000
MOST_PLANES = 8
UNKNOWN = -1
Columns = Sequence[NDArray[Any]]


class NotEvaluable(Exception):
    """The ensemble is one that cannot be evaluated like this."""


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
    """The nodes at one depth of all trees: their conditions, and the places of their children's bits."""

    condition: NDArray[np.intp]
    true: NDArray[np.intp]
    false: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Plane:
    """The nodes that decide about one bit of the numbers. Others, below which it is always the same, are left out.

    `trees` have numbers with this bit, and `places` are where the bits of these trees are.
    """

    levels: list[_Level]
    trees: NDArray[np.intp]
    places: NDArray[np.intp]


class BitTrees:
    """Trees whose leaves hold small numbers. Immutable, safe to share between threads.

    Args:
        ensemble: The trees.
        number: The number of each leaf, below 2**planes.
        planes: The bits of a number.
    """

    def __init__(self, ensemble: Ensemble, number: NDArray[np.int64], planes: int) -> None:
        if len(ensemble.feature) > MOST_NODES:
            raise NotEvaluable
        keys = list(zip(ensemble.feature, ensemble.missing_is_true, ensemble.split, strict=True))
        order = sorted({*keys})
        place = {key: at for at, key in enumerate(order)}
        condition = np.array([place[key] for key in keys], dtype=np.intp)
        self._conditions = len(order)
        narrow, dtype = _in_float32(ensemble.split)
        place_of_split = dict(zip(ensemble.split.tolist(), narrow.tolist(), strict=True))
        self._compared = _by_feature([(*key[:2], place_of_split[float(key[2])]) for key in order], dtype)
        self._dtype = dtype
        self._planes = [_plane(ensemble, condition, number >> plane & 1) for plane in range(planes)]
        self.used = [plane.trees for plane in self._planes]
        """For each plane, the trees that have a number with this bit."""
        self._most_splits = max((len(splits) for *_, splits, _ in self._compared), default=0)
        self._most_nodes = max((len(level.condition) for plane in self._planes for level in plane.levels), default=0)
        words = SCRATCH_BYTES // (8 * (self._conditions + 4 * self._most_nodes))
        self._rows = max(LEAST_ROWS, min(ROWS, 64 * words))

    def numbers(self, columns: Columns) -> Iterator[tuple[slice, list[NDArray[np.uint8]]]]:
        """Yield blocks of rows: for each plane a bit, 0 or 1, for each tree of `used` and row, shape (trees, rows).

        The columns have the shape (rows,).
        """
        rows = len(columns[0])
        blocks = -(-rows // self._rows)
        rows_of_block = 64 * -(-rows // (64 * blocks))
        scratch = _Scratch(rows_of_block, self._conditions, self._most_splits, self._most_nodes)
        for begin in range(0, rows, rows_of_block):
            block = slice(begin, min(begin + rows_of_block, rows))
            count = block.stop - begin
            self._compare(columns, block, scratch)
            values = self._chosen(scratch)
            yield block, [np.unpackbits(each, axis=1, count=count, bitorder="little") for each in values]

    def _compare(self, columns: Columns, block: slice, scratch: _Scratch) -> None:
        """Set the bits of each condition for the rows of a block."""
        column, converted = np.empty(0, self._dtype), -1
        for feature, missing_is_true, splits, begin in self._compared:
            if feature != converted:
                with np.errstate(over="ignore"):
                    column = np.ascontiguousarray(columns[feature][block], dtype=self._dtype)
                converted = feature
            compare = np.greater if missing_is_true else np.less_equal
            holds = scratch.holds[: len(splits), : len(column)]
            packed = np.packbits(compare(column, splits, out=holds), axis=1, bitorder="little")
            bits = scratch.bits[begin : begin + len(splits), : packed.shape[1]]
            (np.invert if missing_is_true else np.positive)(packed, out=bits)

    def _chosen(self, scratch: _Scratch) -> list[NDArray[np.uint8]]:
        """Return the bits of the trees of each plane."""
        bits = scratch.bits.view(np.uint64)
        found = []
        for plane in self._planes:
            below = 0
            for level in reversed(plane.levels):
                nodes = len(level.condition)
                chosen, other = scratch.values[1 - below, 2 : nodes + 2], scratch.other[:nodes]
                condition = np.take(bits, level.condition, axis=0, out=scratch.condition[:nodes], mode="clip")
                np.take(scratch.values[below], level.true, axis=0, out=chosen, mode="clip")
                np.take(scratch.values[below], level.false, axis=0, out=other, mode="clip")
                chosen ^= other
                chosen &= condition
                chosen ^= other
                below = 1 - below
            found.append(scratch.values[below][plane.places].view(np.uint8))
        return found


class _Scratch:
    """Memory for the blocks of one call. To allocate it for each block would take the time of a few trees.

    The bits of rows beyond a block's last one mean nothing.
    """

    def __init__(self, rows: int, conditions: int, most_splits: int, most_nodes: int) -> None:
        words = rows // 64
        self.bits = np.empty((conditions, words * 8), np.uint8)
        self.holds = np.empty((most_splits, rows), np.bool_)
        self.condition = np.empty((most_nodes, words), np.uint64)
        self.other = np.empty((most_nodes, words), np.uint64)
        self.values = np.empty((2, most_nodes + 2, words), np.uint64)
        """The bits of the nodes of a level and of the level below it. The first two rows are constant, for leaves."""
        self.values[:, 0], self.values[:, 1] = 0, ~np.uint64(0)


def _in_float32(splits: NDArray[Any]) -> tuple[NDArray[Any], np.dtype[Any]]:
    """Return splits for numbers that are rounded to float32 first, and this type, if they decide in the same way.

    Those of scikit-learn's trees do, which round so themselves: each split is the last number that is rounded down.
    """
    with np.errstate(over="ignore"):
        narrow = splits.astype(np.float32)
        following = np.nextafter(splits, np.inf).astype(np.float32)
    if splits.dtype == np.float64 and (narrow < following).all():
        return narrow, narrow.dtype
    return splits, splits.dtype


def _by_feature(order: list[tuple[Any, Any, Any]], dtype: np.dtype[Any]) -> list[tuple[int, bool, NDArray[Any], int]]:
    """Return the conditions of each column: the column, where NaN goes, the splits as a column, the first place."""
    found: list[tuple[int, bool, NDArray[Any], int]] = []
    begin = 0
    while begin < len(order):
        feature, missing, _ = order[begin]
        end = begin
        while end < len(order) and order[end][:2] == (feature, missing):
            end += 1
        splits = np.array([split for *_, split in order[begin:end]], dtype=dtype)[:, None]
        found.append((int(feature), bool(missing), splits, begin))
        begin = end
    return found


def _plane(ensemble: Ensemble, condition: NDArray[np.intp], bit: NDArray[np.int64]) -> _Plane:
    """Return the levels from the root on that find one bit, which each leaf has. Places 0 and 1 are constant."""
    constant = _constants(ensemble, bit)

    def placed(
        ids: NDArray[np.int64], is_leaf: NDArray[np.bool_], before: int
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return the places of nodes or leaves, and those that are nodes of the next level."""
        known = np.where(is_leaf, bit[np.where(is_leaf, ids, 0)], constant[np.where(is_leaf, 0, ids)])
        is_inner = known == UNKNOWN
        return np.where(is_inner, np.cumsum(is_inner) + before + 1, known), ids[is_inner]

    places, nodes = placed(ensemble.roots, np.zeros(len(ensemble.roots), np.bool_), 0)
    levels: list[_Level] = []
    while len(nodes):
        true, below = placed(ensemble.true_id[nodes], ensemble.true_is_leaf[nodes], 0)
        false, others = placed(ensemble.false_id[nodes], ensemble.false_is_leaf[nodes], len(below))
        levels.append(_Level(condition[nodes], true, false))
        nodes = np.concatenate([below, others])
    trees = np.flatnonzero(places)
    return _Plane(levels, trees, places[trees])


def _constants(ensemble: Ensemble, bit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each node the bit that all leaves below it have; UNKNOWN if they differ."""
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
    """Return the tree of each leaf; -1 for one that no tree has."""
    trees = np.full(len(ensemble.leaf_weight), -1, dtype=np.intp)
    nodes, owners = ensemble.roots, np.arange(len(ensemble.roots))
    while len(nodes):
        children, of = [], []
        for ids, is_leaf in (
            (ensemble.true_id[nodes], ensemble.true_is_leaf[nodes]),
            (ensemble.false_id[nodes], ensemble.false_is_leaf[nodes]),
        ):
            trees[ids[is_leaf]] = owners[is_leaf]
            children.append(ids[~is_leaf])
            of.append(owners[~is_leaf])
        nodes, owners = np.concatenate(children), np.concatenate(of)
    return trees
