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
        self._blocks: dict[str, tuple[int, int]] = {}
        self._known_bytes = 0
        self._is_full = False
        self._learn()

    def begin(self, pid: int) -> None:
        """Says that this process writes from now on."""
        self._learn()
        self.cells[REPORTED] = 0.0
        self._counts[PID] = pid

    def end(self) -> None:
        """Says that nobody writes."""
        self._counts[PID] = 0

    def place(self, key: str, cells: int = 1) -> int:
        """Where the block of this name begins in `cells`; a new one holds zeros. Any thread of the writer may ask.

        Where the sheet is full it is a block that nobody reads: what is counted there is lost, and the log says so.
        """
        found = self._blocks.get(key)
        return self._add(key, cells) if found is None else found[0]

    def has(self, key: str) -> bool:
        """Whether this writer has a block of this name."""
        return key in self._blocks

    def names(self) -> list[str]:
        """The names of all blocks."""
        self._learn()
        return list(self._blocks)

    def read(self, number: int) -> Reading:
        """All of it, as it is now."""
        self._learn()
        blocks = list(self._blocks.items())
        values = {key: tuple(self.cells[place : place + cells]) for key, (place, cells) in blocks}
        return Reading(number, self._counts[PID], self.cells[REPORTED], values)

    def _add(self, key: str, cells: int) -> int:
        with self._lock:
            if key in self._blocks:
                return self._blocks[key][0]
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
            self._known_bytes = self._counts[USED]
            self._blocks[key] = (values // CELL_BYTES, cells)
            return values // CELL_BYTES

    def _learn(self) -> None:
        """Looks at the entries that were added since the last time, by whomever."""
        with self._lock:
            at, end = HEADER_BYTES + self._known_bytes, HEADER_BYTES + self._counts[USED]
            while at < end:
                length, cells = ENTRY.unpack_from(self._memory, at)
                at += ENTRY.size
                key = str(self._memory[at : at + length], "utf-8")
                at += _padded(length)
                self._blocks[key] = (at // CELL_BYTES, cells)
                at += cells * CELL_BYTES
            self._known_bytes = end - HEADER_BYTES


class MetricBoard:
    """The sheets of one server. Made before the fork; `take` and `release` belong to the process that forks.

    Where it is not `shared`, each process that is forked has a copy of its own.
    """

    def __init__(self, sheets: int, sheet_bytes: int = SHEET_BYTES, shared: bool = True) -> None:
        self._sheet_bytes = sheet_bytes
        flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)
        self._memory = memoryview(mmap.mmap(-1, sheets * sheet_bytes, flags=flags))
        self._sheets = [Sheet(self._memory[at : at + sheet_bytes]) for at in range(0, len(self._memory), sheet_bytes)]
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
        return self._sheets[number]

    def read(self) -> list[Reading]:
        """Every sheet that was ever written, by number."""
        readings = (sheet.read(number) for number, sheet in enumerate(self._sheets))
        return [reading for reading in readings if reading.pid or reading.values]


def _padded(length_bytes: int) -> int:
    return -length_bytes % CELL_BYTES + length_bytes
