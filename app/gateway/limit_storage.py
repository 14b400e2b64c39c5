"""Counts of limits in memory that the workers of one server share.

The memory is one anonymous mapping, which the master makes before the fork. It is a hash table in groups of eight rows.
Each key belongs to one group; if no row of it is free, a new key takes the row whose counts expire first. A row has one
cell for each worker. Only this worker writes the cell, and never resets it: the row records the sum of its cells at the
beginning of the window. So no process ever waits for another, and a killed worker leaves no lock.

Windows have a fixed length. The previous window counts in proportion to the part of it that is less than one window ago
(the sliding window counter of the library `limits`). Times are monotonic: a wall clock that jumps changes nothing.

Small errors are possible. Two workers that decide about one client within the same microsecond may both refuse, or both
accept, the last request of a budget. Two new clients that take the same row at once may each count a request of the
other. A client that has lost its row begins a new budget.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections import deque

ROWS = 2**16
"""Limit of the pairs of a client and a limit that are counted. Rows that were never written use no memory."""
WAYS = 8
"""Rows in a group of the hash table."""
SPARE_COLUMNS = 16
CELL_BYTES = 8
HEADER_CELLS = 1
"""The header has one cell: the number of columns in use."""
WINDOW, PREVIOUS, EXPIRY, BASE, REMOTE, FIRST_COLUMN = range(6)
"""The cells of a row: number of the current window; count of the previous window; length of a window in seconds; the
sum of the columns at the beginning of the window, times -1; count of other hosts in this window. Then the columns of
the workers follow."""

Addition = tuple[str, int, int, int]
"""Key, number of the window, length of a window in seconds, amount."""


class SharedStorage:
    """Counts by key. Lives as long as the process; safe to call from many threads and processes.

    A process without a server counts alone. A server calls `share` before the first fork, and each worker calls `begin`
    after it. `additions`, if it is set, collects the counts of this worker, which `RedisSync` sends to other hosts.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self._rows = rows
        self._mask = rows // WAYS - 1
        self._tags = struct.Struct(f"={WAYS}q").unpack_from
        self._head = struct.Struct(f"={FIRST_COLUMN}q")
        self.additions: deque[Addition] | None = None
        self.ahead_s = 0.0
        """Difference of the clock of the windows, which all hosts share, from the monotonic clock of this host."""
        self._allocate(1, shared=False)

    # --- life cycle

    def share(self, workers: int) -> None:
        """Make memory for a server with this many workers, and for old workers that still run after a reload."""
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
        """Read how many columns are in use. If the column of this worker is a later one, raise that number."""
        self._known_columns = max(self._counts[0], self._own - FIRST_COLUMN + 1)
        self._counts[0] = self._known_columns
        self._used = struct.Struct(f"={2 + self._known_columns}q").unpack_from

    # --- counting

    def add(self, key: str, expiry: int, amount: int) -> tuple[int, float]:
        """Add to the count of a key, and return it.

        Args:
            key: the name of a limit and a client.
            expiry: the length of a window in seconds.
            amount: 0 only reads the count; a negative amount undoes an addition.

        Returns:
            The count, including the part of the previous window that still counts; the seconds until the window ends.
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
        """Return the position of the row of a key, after bringing its window up to date."""
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

        Read all cells at once, before writing any. So if another worker does the same meanwhile, both write nearly the
        same values.
        """
        last, _, expiry, base, remote, *cells = struct.unpack_from(
            f"={self._row_cells}q", self._memory, at * CELL_BYTES
        )
        if last == window or last == window + 1:  # another worker has begun it; its clock may be a little ahead
            return
        total = sum(cells)
        previous = max(0, total + base + remote) if last == window - 1 else 0
        self._head.pack_into(self._memory, at * CELL_BYTES, window, previous, expiry, -total, 0)

    def _claim(self, tag: int, first: int, tags: tuple[int, ...], expiry: int, now_s: float) -> int:
        """Return a row for a new key: an empty row, or else the row whose counts expire first."""
        row = first + tags.index(0) if 0 in tags else min(range(first, first + WAYS), key=self._expires_s)
        at = self._rows_at + row * self._row_cells
        cells = struct.unpack_from(f"={self._columns}q", self._memory, (at + FIRST_COLUMN) * CELL_BYTES)
        head = (int(now_s / expiry), 0, expiry, -sum(cells), 0)
        if self._counts[HEADER_CELLS + row] != tag:  # otherwise another worker has just written this row
            self._head.pack_into(self._memory, at * CELL_BYTES, *head)
            self._counts[HEADER_CELLS + row] = tag
        return row

    def _expires_s(self, row: int) -> int:
        """Return when the counts of a row no longer matter: after the window that follows its current one."""
        at = self._rows_at + row * self._row_cells
        return (self._counts[at + WINDOW] + 2) * self._counts[at + EXPIRY]
