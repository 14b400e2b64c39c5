"""Numbers that the processes of one server share: each worker writes a sheet of its own, and any of them reads all.

The memory is one anonymous mapping, made by the master before the fork: no file, nothing to clean up, and what a killed
worker has counted is still there. A sheet outlives its worker: the next worker that gets its number goes on from the
counts that it finds, so that counters never go backwards and nobody has to add up the dead.
"""

from __future__ import annotations

import logging
import mmap
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

log = logging.getLogger(__name__)

SHEET_BYTES = 2**20
"""Address space and no more, until it is written: a page at a time."""
CELL_BYTES = 8
USED, PID, REPORTED = 0, 1, 2
"""The first cells of a sheet: bytes used by entries, the process that writes (0: none), when it last reported."""
HEADER_BYTES = 4 * CELL_BYTES
ENTRY = struct.Struct("=II")
"""Length of the key in bytes, and the number of cells that follow it; then the key, padded to whole cells."""
MOST_CELLS = 64
SCRATCH_BYTES = MOST_CELLS * CELL_BYTES


@dataclass(frozen=True, slots=True)
class Reading:
    """One sheet at one moment. `pid` is 0 where no process writes it now; `reported_s` is monotonic, 0.0 for never."""

    number: int
    pid: int
    reported_s: float
    values: dict[str, tuple[float, ...]]


class Sheet:
    """Named blocks of cells, each a double, in the shared memory. One process writes; every process may read.

    A cell is aligned, so that it is read and written whole; entries are added at the end and counted in `USED` last, so
    that a writer killed halfway has added none. Threads may do `cells[place] += x` without a lock: between its read and
    its write there is neither a call nor a jump, which is where an interpreter with a GIL lets others run.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self.cells = memory.cast("d")
        self._counts = memory.cast("q")
        self._end_bytes = len(memory) - SCRATCH_BYTES
        self._lock = threading.Lock()
        self._places = {key: place for key, place, _ in self._entries()}
        self._is_full = False

    def begin(self, pid: int) -> None:
        """Says that this process writes from now on."""
        self.cells[REPORTED] = 0.0
        self._counts[PID] = pid

    def end(self) -> None:
        """Says that nobody writes."""
        self._counts[PID] = 0

    def place(self, key: str, cells: int = 1) -> int:
        """Where the block of this name begins in `cells`; a new one holds zeros. Any thread of the writer may ask.

        Where the sheet is full it is a block that nobody reads: what is counted there is lost, and the log says so.
        """
        found = self._places.get(key)
        return self._add(key, cells) if found is None else found

    def names(self) -> list[str]:
        """The names of the blocks that this process knows of."""
        return list(self._places)

    def read(self, number: int) -> Reading:
        """All of it, as it is now."""
        values = {key: tuple(self.cells[place : place + cells]) for key, place, cells in self._entries()}
        return Reading(number, self._counts[PID], self.cells[REPORTED], values)

    def _add(self, key: str, cells: int) -> int:
        with self._lock:
            if key in self._places:
                return self._places[key]
            name = key.encode()
            begins = HEADER_BYTES + self._counts[USED]
            values = begins + ENTRY.size + _padded(len(name))
            ends = values + cells * CELL_BYTES
            if ends > self._end_bytes:
                if not self._is_full:
                    log.error("no room for the metric %r: it and every further one is not counted", key)
                self._is_full = True
                return self._end_bytes // CELL_BYTES
            ENTRY.pack_into(self._memory, begins, len(name), cells)
            self._memory[begins + ENTRY.size : begins + ENTRY.size + len(name)] = name
            self._memory[values:ends] = bytes(ends - values)
            self._counts[USED] = ends - HEADER_BYTES
            place = values // CELL_BYTES
            self._places[key] = place
            return place

    def _entries(self) -> Iterator[tuple[str, int, int]]:
        at, end = HEADER_BYTES, HEADER_BYTES + self._counts[USED]
        while at < end:
            length, cells = ENTRY.unpack_from(self._memory, at)
            at += ENTRY.size
            key = str(self._memory[at : at + length], "utf-8")
            at += _padded(length)
            yield key, at // CELL_BYTES, cells
            at += cells * CELL_BYTES


class Board:
    """The sheets of one server. Made before the fork; `take` and `release` belong to the process that forks.

    Where it is not `shared`, each process that is forked has a copy of its own.
    """

    def __init__(self, sheets: int, sheet_bytes: int = SHEET_BYTES, shared: bool = True) -> None:
        self._sheet_bytes = sheet_bytes
        flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)
        self._memory = memoryview(mmap.mmap(-1, sheets * sheet_bytes, flags=flags))
        self._free = list(range(sheets))

    def take(self) -> int | None:
        """The lowest number that no process has; None where there is none left."""
        return self._free.pop(0) if self._free else None

    def release(self, number: int) -> None:
        """The process that had this number is gone; its counts stay."""
        self.sheet(number).end()
        self._free = sorted([*self._free, number])

    def sheet(self, number: int | None) -> Sheet:
        """A view on the sheet of this number; without one, on memory that nobody else sees."""
        if number is None:
            return Sheet(memoryview(bytearray(self._sheet_bytes)))
        begins = number * self._sheet_bytes
        return Sheet(self._memory[begins : begins + self._sheet_bytes])

    def read(self) -> list[Reading]:
        """Every sheet that was ever written, by number."""
        readings = (self.sheet(at).read(at) for at in range(len(self._memory) // self._sheet_bytes))
        return [reading for reading in readings if reading.pid or reading.values]


def _padded(length_bytes: int) -> int:
    return -length_bytes % CELL_BYTES + length_bytes
