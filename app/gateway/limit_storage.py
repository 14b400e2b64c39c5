"""Counts of limits in memory that the workers of one server share.

The memory is one anonymous mapping, which the master makes before the fork. It is a hash table: a key has a place in
one group of eight rows, and the row that has been of no use for the longest time makes room for a new key. A row has
one cell for each worker, which only this worker writes and which never decreases at the end of a window: the row
remembers where the window began. So no process ever waits for another, and a worker that is killed leaves no lock.

Windows have a fixed length, and the last one counts in proportion to the part of it that is less than a window ago
(the sliding window counter of the library `limits`). Times are monotonic: a wall clock that jumps changes nothing.

Errors: two workers that decide about one client within the same microsecond may both refuse, or both let pass, the last
request of a budget. Two new clients that take the same row at once may count one request for each other. A client whose
row was given away begins a new budget.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections import deque

ROWS = 2**16
"""Most pairs of a client and a limit that are counted. Memory is used only where it is written."""
WAYS = 8
SPARE_COLUMNS = 16
CELL_BYTES = 8
HEADER_CELLS = 1
"""The only cell of the header: the number of columns that are in use."""
WINDOW, PREVIOUS, EXPIRY, BASE, REMOTE, FIRST_COLUMN = range(6)
"""The cells of a row: number of the current window, count of the last one, length of a window in seconds, minus the sum
of the columns when the window began, count of other hosts in this window. The columns of the workers follow."""

Addition = tuple[str, int, int, int]
"""Key, number of the window, length of a window in seconds, amount."""


class SharedStorage:
    """Counts by key. Lives as long as the process; safe to call from many threads and processes.

    A process without a server counts alone. A server calls `share` before the first fork, and each worker calls `begin`
    after it. `additions` collects what this worker counts if somebody takes it from there, for other hosts.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self._rows = rows
        self._mask = rows // WAYS - 1
        self._tags = struct.Struct(f"={WAYS}q").unpack_from
        self._head = struct.Struct(f"={FIRST_COLUMN}q")
        self.additions: deque[Addition] | None = None
        self.ahead_s = 0.0
        """The lead of the clock of the windows over the monotonic clock of this host."""
        self._allocate(1, shared=False)

    # --- life cycle

    def share(self, workers: int) -> None:
        """Make memory for a server with this many workers. At a reload, old workers run beside new ones."""
        self._allocate(1 + 4 * workers + SPARE_COLUMNS, shared=True)

    def begin(self, number: int | None) -> None:
        """Count in the column of this worker from now on. Workers without a number share the last column."""
        column = self._columns - 1 if number is None else min(number, self._columns - 1)
        self._own = FIRST_COLUMN + column
        self._learn()

    def _allocate(self, columns: int, shared: bool) -> None:
        self._columns = columns
        self._row_cells = FIRST_COLUMN + columns
        self._rows_at = HEADER_CELLS + self._rows
        size_bytes = (self._rows_at + self._rows * self._row_cells) * CELL_BYTES
        flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)
        self._memory = memoryview(mmap.mmap(-1, size_bytes, flags=flags))
        self._counts = self._memory.cast("q")
        self.begin(0)

    def _learn(self) -> None:
        """Learn how many columns are in use, and tell the other workers if this one has a later column."""
        self._known_columns = max(self._counts[0], self._own - FIRST_COLUMN + 1)
        self._counts[0] = self._known_columns
        self._used = struct.Struct(f"={2 + self._known_columns}q").unpack_from

    # --- counting

    def add(self, key: str, expiry: int, amount: int) -> tuple[int, float]:
        """Add to the count of a key, and return it.

        Args:
            key: names a limit and a client.
            expiry: the length of a window in seconds.
            amount: may be 0 to read the count, or negative to take an addition back.

        Returns:
            The count, with the part of the last window that still counts, and the seconds until the window ends.
        """
        now_s = time.monotonic() + self.ahead_s
        at, counts = self._place(key, expiry, now_s), self._counts
        window = counts[at]
        if amount:
            cell = at + self._own
            counts[cell] += amount
            if self.additions is not None:
                self.additions.append((key, window, expiry, amount))
        used = self._sum(at)
        left_s = (window + 1) * expiry - now_s
        if previous := counts[at + PREVIOUS]:
            used += int(previous * left_s / expiry)
        return used, left_s

    def wait_s(self, key: str, limit: int, expiry: int) -> float:
        """Return how long it takes until the count of a key is less than `limit`, if nothing is added."""
        now_s = self.now_s()
        at = self._place(key, expiry, now_s)
        previous, current = self._counts[at + PREVIOUS], self._sum(at)
        left_s = (self._counts[at] + 1) * expiry - now_s
        if current < limit:
            return max(0.0, left_s - expiry * (limit - current) / previous) if previous else 0.0
        return left_s + expiry * (1 - limit / current)

    def set_remote(self, key: str, window: int, expiry: int, count: int) -> None:
        """Record the count of other hosts for a key in this window. It never decreases within a window."""
        at = self._place(key, expiry, self.now_s())
        if self._counts[at] == window and self._counts[at + REMOTE] < count:
            self._counts[at + REMOTE] = count

    def now_s(self) -> float:
        """Return the time by the clock of the windows."""
        return time.monotonic() + self.ahead_s

    def _sum(self, at: int) -> int:
        """Return the count of a row's current window."""
        if self._counts[0] != self._known_columns:
            self._learn()
        return sum(self._used(self._memory, (at + BASE) * CELL_BYTES))

    def _place(self, key: str, expiry: int, now_s: float) -> int:
        """Return the position of the row of a key, with its window up to date."""
        tag = hash(key) | 1
        first = (tag >> 1 & self._mask) * WAYS
        tags = self._tags(self._memory, (HEADER_CELLS + first) * CELL_BYTES)
        row = first + tags.index(tag) if tag in tags else self._claim(tag, first, tags, expiry, now_s)
        at = self._rows_at + row * self._row_cells
        if self._counts[at] != (window := int(now_s / expiry)):
            self._roll(at, window)
        return at

    def _roll(self, at: int, window: int) -> None:
        """Begin a new window in a row.

        Everything is read at once, before anything is written. So if another worker does the same meanwhile, both write
        nearly the same.
        """
        last, _, expiry, base, remote, *cells = struct.unpack_from(
            f"={self._row_cells}q", self._memory, at * CELL_BYTES
        )
        if last == window or last == window + 1:  # another worker's clock of several hosts may be a little ahead
            return
        total = sum(cells)
        previous = max(0, total + base + remote) if last == window - 1 else 0
        self._head.pack_into(self._memory, at * CELL_BYTES, window, previous, expiry, -total, 0)

    def _claim(self, tag: int, first: int, tags: tuple[int, ...], expiry: int, now_s: float) -> int:
        """Return a row for a new key: an empty one, else the one whose counts are the first to be of no use."""
        row = first + tags.index(0) if 0 in tags else min(range(first, first + WAYS), key=self._useful_until)
        at = self._rows_at + row * self._row_cells
        cells = struct.unpack_from(f"={self._columns}q", self._memory, (at + FIRST_COLUMN) * CELL_BYTES)
        head = (int(now_s / expiry), 0, expiry, -sum(cells), 0)
        if self._counts[HEADER_CELLS + row] != tag:  # else another worker had the same request meanwhile
            self._head.pack_into(self._memory, at * CELL_BYTES, *head)
            self._counts[HEADER_CELLS + row] = tag
        return row

    def _useful_until(self, row: int) -> int:
        at = self._rows_at + row * self._row_cells
        return (self._counts[at + WINDOW] + 2) * self._counts[at + EXPIRY]
