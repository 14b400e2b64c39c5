"""Splits of trees by category, as columns with the side on which each category goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Graph, Tensor

GOES_LEFT, GOES_RIGHT, IS_MISSING = 0.0, 1.0, np.nan
THRESHOLD = 0.5
"""Splits a column of sides."""


@dataclass
class Sides:
    """The splits by category of all trees, and the columns that are appended to the matrix for them.

    A tree compares such a column with `THRESHOLD`. The set membership test of ONNX would be a chain of comparisons with
    a copy of the subtree for each. Equal splits share a column. The matrix has `width` columns; `counts` has the number
    of categories of each categorical column, by its position.
    """

    width: int
    counts: dict[int, int]
    _splits: dict[int, dict[bytes, int]] = field(default_factory=dict)

    def column(self, position: int, sides: NDArray[np.float64]) -> tuple[int, int]:
        """Register a split of the column at this position of the matrix, and return its key for `place`.

        `sides` has the side of each category; its last element is for unknown categories.
        """
        splits = self._splits.setdefault(position, {})
        return position, splits.setdefault(sides.tobytes(), len(splits))

    def place(self, split: tuple[int, int]) -> int:
        """Return the column of a split in the extended matrix, after all splits are registered."""
        position, number = split
        return self.width + sorted(self._splits).index(position) * self._most + number

    @property
    def size(self) -> int:
        """The number of elements in the table of `extended`."""
        return sum(self.counts[position] + 1 for position in self._splits) * self._most

    @property
    def _most(self) -> int:
        return max((len(splits) for splits in self._splits.values()), default=0)

    def extended(self, g: Graph, matrix: Tensor) -> Tensor:
        """Return the matrix with the columns of sides appended, shape (rows, more columns).

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
