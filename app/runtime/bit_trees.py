"""Evaluate an ensemble of trees for many rows at once, with one bit for each row.

A tree is a multiplexer: at each node, a bit of the left or of the right subtree is taken. 64 rows are computed by one
operation on words, without a branch. The numbers at the leaves of a tree are told by a few such bits, or, where each
leaf is a vote, by one bit for each class.

The comparisons and the order of the sums are those of the operator TreeEnsemble of ai.onnx.ml 5, so that the answers
are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 8192
"""Rows of a block, whose bits stay in the cache. A multiple of 64."""
MOST_NODES = 200_000
MOST_PLANES = 8
MOST_VOTES = 255
Words = NDArray[np.uint64]
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
    """The nodes at one depth of all trees: their conditions, and for each plane where their children's bits are."""

    condition: NDArray[np.intp]
    true: list[NDArray[np.intp]]
    false: list[NDArray[np.intp]]


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
        self._planes = planes
        self._trees = len(ensemble.roots)
        keys = list(zip(ensemble.feature, ensemble.missing_is_true, ensemble.split, strict=True))
        order = sorted({*keys})
        place = {key: at for at, key in enumerate(order)}
        condition = np.array([place[key] for key in keys], dtype=np.intp)
        self._conditions = len(order)
        narrow, dtype = _in_float32(ensemble.split)
        place_of_split = dict(zip(ensemble.split.tolist(), narrow.tolist(), strict=True))
        self._compared = _by_feature([(*key[:2], place_of_split[float(key[2])]) for key in order], dtype)
        self._dtype = dtype
        self._levels = _levels(ensemble, condition, number, planes)

    def numbers(self, columns: Columns, rows: slice) -> list[NDArray[np.uint8]]:
        """Return for each plane a bit, 0 or 1, for each tree and row: shape (trees, rows), for up to `ROWS` rows."""
        count = rows.stop - rows.start
        words = -(-count // 64)
        bits = self._compare(columns, rows, words)
        values: list[Words] = [np.zeros((2, words), np.uint64) for _ in range(self._planes)]
        for each in values:
            each[1] = ~np.uint64(0)
        for level in reversed(self._levels):
            condition = bits[level.condition]
            values = [
                _chosen(value, level.true[plane], level.false[plane], condition) for plane, value in enumerate(values)
            ]
        return [np.unpackbits(value[2:].view(np.uint8), axis=1, count=count, bitorder="little") for value in values]

    def _compare(self, columns: Columns, rows: slice, words: int) -> Words:
        """Return whether each condition holds: bits of shape (conditions, words)."""
        count = rows.stop - rows.start
        bits = np.zeros((self._conditions, words * 8), np.uint8)
        buffer = np.empty((max(len(splits) for *_, splits, _ in self._compared), count), np.bool_)
        for feature, missing_is_true, splits, begin in self._compared:
            holds = buffer[: len(splits)]
            with np.errstate(over="ignore"):
                column = np.ascontiguousarray(columns[feature][rows], dtype=self._dtype)
            if missing_is_true:
                np.logical_not(np.greater(column, splits, out=holds), out=holds)
            else:
                np.less_equal(column, splits, out=holds)
            bits[begin : begin + len(splits), : -(-count // 8)] = np.packbits(holds, axis=1, bitorder="little")
        return bits.view(np.uint64)


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


def _chosen(value: Words, true: NDArray[np.intp], false: NDArray[np.intp], condition: Words) -> Words:
    """Return two constant rows, then for each node the bits of the child that its condition chooses."""
    chosen = np.empty((len(true) + 2, value.shape[1]), np.uint64)
    chosen[:2] = value[:2]
    result, other = chosen[2:], value[false]
    np.take(value, true, axis=0, out=result, mode="clip")
    result ^= other
    result &= condition
    result ^= other
    return chosen


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


def _levels(ensemble: Ensemble, condition: NDArray[np.intp], number: NDArray[np.int64], planes: int) -> list[_Level]:
    """Return the levels of the trees from the root on. Rows 0 and 1 of a level's bits are constant, for leaves."""
    levels: list[_Level] = []
    nodes = ensemble.roots
    while len(nodes):
        children, places = [], []
        count = 0
        for ids, is_leaf in (
            (ensemble.true_id[nodes], ensemble.true_is_leaf[nodes]),
            (ensemble.false_id[nodes], ensemble.false_is_leaf[nodes]),
        ):
            inner = np.cumsum(~is_leaf) - 1 + count + 2
            count += int((~is_leaf).sum())
            leaves = np.where(is_leaf, ids, 0)
            places.append([np.where(is_leaf, number[leaves] >> plane & 1, inner) for plane in range(planes)])
            children.append(ids[~is_leaf])
        levels.append(_Level(condition[nodes], *places))
        nodes = np.concatenate(children)
    return levels


def evaluator_of(ensemble: Ensemble, table: NDArray[Any] | None) -> Callable[[Columns], NDArray[Any]]:
    """Return a function from columns, each of shape (rows,), to the sums of the trees, shape (rows, targets).

    Args:
        ensemble: The trees.
        table: If given, the number at a leaf is a row of this table, and the rows of all trees are added.

    Raises:
        NotEvaluable: The ensemble is of another kind.
    """
    if table is None and (ensemble.leaf_weight == 1).all() and ensemble.targets > 1:
        return _votes(ensemble)
    return _sums(ensemble, table)


def _votes(ensemble: Ensemble) -> Callable[[Columns], NDArray[Any]]:
    """Count the trees whose leaf votes for each target. The last target gets the rest."""
    targets, trees = ensemble.targets, len(ensemble.roots)
    if targets - 1 > MOST_PLANES or trees > MOST_VOTES:
        raise NotEvaluable
    last = targets - 1
    number = np.where(ensemble.leaf_target == last, 0, 1 << np.minimum(ensemble.leaf_target, last))
    bits = BitTrees(ensemble, number, last)

    def evaluate(columns: Columns) -> NDArray[Any]:
        sums = np.empty((len(columns[0]), targets), ensemble.leaf_weight.dtype)
        for part in _blocks(len(columns[0])):
            counts = [np.add.reduce(plane, axis=0, dtype=np.uint8) for plane in bits.numbers(columns, part)]
            rest = np.full(len(counts[0]), trees, np.uint8)
            for target, count in enumerate(counts):
                sums[part, target] = count
                rest -= count
            sums[part, last] = rest
        return sums

    return evaluate


def _sums(ensemble: Ensemble, table: NDArray[Any] | None) -> Callable[[Columns], NDArray[Any]]:
    """Add the number that each tree gives to its target, or the row of the table that it names, tree by tree."""
    tree_of_leaf = _trees_of_leaves(ensemble)
    number = np.zeros(len(ensemble.leaf_weight), np.int64)
    values: list[NDArray[Any]] = []
    target_of_tree: list[int] = []
    for tree in range(len(ensemble.roots)):
        leaves = np.flatnonzero(tree_of_leaf == tree)
        distinct, number[leaves] = np.unique(ensemble.leaf_weight[leaves], return_inverse=True)
        values.append(distinct if table is None else np.ascontiguousarray(table[distinct.astype(np.int64)]))
        targets = np.unique(ensemble.leaf_target[leaves])
        if len(targets) != 1:
            raise NotEvaluable
        target_of_tree.append(int(targets[0]))
    planes = max(1, int(number.max()).bit_length())
    if planes > MOST_PLANES:
        raise NotEvaluable
    bits = BitTrees(ensemble, number, planes)
    width = ensemble.targets if table is None else table.shape[1]
    dtype = ensemble.leaf_weight.dtype if table is None else table.dtype

    def evaluate(columns: Columns) -> NDArray[Any]:
        sums = np.zeros((len(columns[0]), width), dtype)
        for part in _blocks(len(columns[0])):
            named = bits.numbers(columns, part)
            number = named[0]
            for plane, more in enumerate(named[1:], start=1):
                number |= more << np.uint8(plane)
            for tree, numbers in enumerate(number):
                if table is None:
                    sums[part, target_of_tree[tree]] += values[tree].take(numbers)
                else:
                    sums[part] += values[tree].take(numbers, axis=0)
        return sums

    return evaluate


def _blocks(rows: int) -> list[slice]:
    return [slice(begin, min(begin + ROWS, rows)) for begin in range(0, rows, ROWS)]


def _trees_of_leaves(ensemble: Ensemble) -> NDArray[np.intp]:
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
