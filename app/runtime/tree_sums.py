"""Add the values of the leaves of each row, in the order of the graph, so that sums are equal to the last bit.

Often many rows reach the same leaves in all trees. Their sum is computed once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.runtime.bit_trees import MOST_PLANES, ROWS, BitTrees, Columns, Ensemble, NotEvaluable, trees_of_leaves
from app.signature.arrow_values import numbers_of
from app.signature.batch import Coded

MOST_VOTES = 255
FAST_ROW_BYTES = 32
ROWS_OF_A_SUM = 2
"""Equal sums are computed once if each occurs in at least this number of rows on average."""
Sums = Callable[[Columns], NDArray[Any] | Coded]


def evaluator_of(ensemble: Ensemble, table: NDArray[Any] | None) -> Sums:
    """Return a function from columns, each of shape (rows,), to the sums of the trees, shape (rows, targets).

    The function returns `Coded` sums if many rows have the same sum.

    Args:
        ensemble: The trees.
        table: If not None, the weight of a leaf is the index of a row in this table, and these rows are added.

    Raises:
        NotEvaluable: This module cannot evaluate the ensemble.
    """
    if table is None and (ensemble.leaf_weight == 1).all() and ensemble.targets > 1:
        return _vote_counter(ensemble)
    return _tree_sums(ensemble, table)


def _vote_counter(ensemble: Ensemble) -> Sums:
    """Return a function that counts the trees' votes for each target. The last target gets the remaining votes."""
    targets, trees = ensemble.targets, len(ensemble.roots)
    if targets - 1 > MOST_PLANES or trees > MOST_VOTES:
        raise NotEvaluable
    last = targets - 1
    number = np.where(ensemble.leaf_target == last, 0, 1 << np.minimum(ensemble.leaf_target, last))
    bits = BitTrees(ensemble, number, last)

    def evaluate(columns: Columns) -> NDArray[Any]:
        sums = np.empty((len(columns[0]), targets), ensemble.leaf_weight.dtype)
        for part, planes in bits.numbers(columns):
            counts = [np.add.reduce(plane, axis=0, dtype=np.uint8) for plane in planes]
            rest = np.full(len(counts[0]), trees, np.uint8)
            for target, count in enumerate(counts):
                sums[part, target] = count
                rest -= count
            sums[part, last] = rest
        return sums

    return evaluate


def _tree_sums(ensemble: Ensemble, table: NDArray[Any] | None) -> Sums:
    """Return a function that adds the leaf weights of each tree to its target, or the table's rows, tree by tree."""
    tree_of_leaf = trees_of_leaves(ensemble)
    table_width = 0 if table is None else table.shape[1]
    table = None if table is None else _pad(table)
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
    width = ensemble.targets if table is None else table_width
    return _TreeSums(BitTrees(ensemble, number, planes), values, None if table is not None else target_of_tree, width)


class _TreeSums:
    """Sums of the leaf values of each row. `values` contains them by tree and leaf number.

    `target_of_tree` is the column of the sums for each tree; None if a value is a row with all columns.
    """

    def __init__(
        self, bits: BitTrees, values: Sequence[NDArray[Any]], target_of_tree: Sequence[int] | None, width: int
    ) -> None:
        self._bits = bits
        self._values = values
        self._targets = target_of_tree
        self._width = width
        self._bounds = np.cumsum([0, *map(len, bits.used)])
        """The index of the first bit of each plane in a signature, and the end of the last plane."""

    def __call__(self, columns: Columns) -> NDArray[Any] | Coded:
        """Return the sums of each row."""
        sums = np.empty((len(columns[0]), self._width), self._values[0].dtype)
        signatures: list[NDArray[np.uint8]] = []
        is_coded = "pyarrow" in sys.modules  # pyarrow is not imported for this alone
        for part, planes in self._bits.numbers(columns):
            if is_coded:
                signatures.append(self._signatures(planes))
                is_coded = bool(part.start) or ROWS_OF_A_SUM * len(_deduplicate(signatures[0]).values) <= len(
                    signatures[0]
                )
            if not is_coded:
                sums[part] = self._sums_of_block(planes)
        if not is_coded:
            return sums
        distinct = _deduplicate(np.concatenate(signatures))
        blocks = [distinct.values[begin : begin + ROWS] for begin in range(0, len(distinct.values), ROWS)]
        return Coded(np.concatenate([self._sums_of_block(self._planes(block)) for block in blocks]), distinct.places)

    def _sums_of_block(self, planes: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        number = np.zeros((len(self._values), planes[0].shape[1]), np.uint8)
        for plane, (used, bits) in enumerate(zip(self._bits.used, planes, strict=True)):
            number[used] |= bits << np.uint8(plane)
        return add_values(self._values, self._targets, self._width, number)

    def _signatures(self, planes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the signature of each row, which is all its bits, shape (rows, bytes)."""
        size_bytes = max(1, -(-self._bounds[-1] // 8))
        bits = np.zeros((8, size_bytes, planes[0].shape[1]), np.uint8)
        np.concatenate(planes, out=bits.reshape(8 * size_bytes, -1)[: self._bounds[-1]])
        packed = bits[7]
        for eighth in bits[6::-1]:
            packed += packed
            packed |= eighth
        return np.ascontiguousarray(packed.T)

    def _planes(self, signatures: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Convert signatures back to the bits of each plane."""
        bits = np.unpackbits(signatures, axis=1, bitorder="little").reshape(*signatures.shape, 8)
        rows = bits.transpose(2, 1, 0).reshape(-1, len(signatures))
        return [rows[begin:end] for begin, end in pairwise(self._bounds)]


def add_values(
    values: Sequence[NDArray[Any]], targets: Sequence[int] | None, width: int, number: NDArray[np.uint8]
) -> NDArray[Any]:
    """Return the sums, shape (rows, width), for the leaf numbers in `number`, shape (trees, rows)."""
    values_of_tree = np.empty((number.shape[1], *values[0].shape[1:]), values[0].dtype)
    sums = np.zeros((len(values_of_tree), width) if targets else values_of_tree.shape, values_of_tree.dtype)
    for tree, numbers in enumerate(number):
        values[tree].take(numbers, axis=0, out=values_of_tree, mode="clip")
        if targets:
            sums[:, targets[tree]] += values_of_tree
        else:
            sums += values_of_tree
    return sums[:, :width]


def _deduplicate(signatures: NDArray[np.uint8]) -> Coded:
    """Return the distinct signatures, and for each row the index of its signature."""
    import pyarrow as pa

    rows, size_bytes = signatures.shape
    array = pa.Array.from_buffers(pa.binary(size_bytes), rows, [None, pa.py_buffer(signatures)]).dictionary_encode()
    distinct = np.frombuffer(array.dictionary.buffers()[1], np.uint8, len(array.dictionary) * size_bytes)
    return Coded(distinct.reshape(-1, size_bytes), numbers_of(array.indices)[0].astype(np.intp))


def _pad(table: NDArray[Any]) -> NDArray[Any]:
    """Add columns of zeros, so that a row has 1, 2, 4, 8, 16 or 32 bytes: NumPy's `take` is faster for these sizes."""
    row_bytes = table.shape[1] * table.itemsize
    columns = (1 << (row_bytes - 1).bit_length()) // table.itemsize if row_bytes <= FAST_ROW_BYTES else table.shape[1]
    return np.pad(table, ((0, 0), (0, columns - table.shape[1])))
