"""Counters in memory that the processes of one server share. Each worker writes its own page and can read all pages.

The memory is one anonymous mapping, which the master makes before the fork. So there is no file to clean up, and the
counts of a killed worker remain. The next worker with the same number continues these counts, so counters never
decrease.
"""

from __future__ import annotations

import logging
import mmap
import struct
import threading
from dataclasses import dataclass

log = logging.getLogger(__name__)

PAGE_BYTES = 2**21
"""Reserved address space of a page. Parts that were never written use no memory."""
CELL_BYTES = 8
USED, PID, REPORTED = 0, 1, 2
"""The first cells of a page: the bytes that entries use, the pid of the writer (0 for none), the time of its last
report."""
HEADER_BYTES = 4 * CELL_BYTES
ENTRY = struct.Struct("=II")
"""The head of an entry: the length of its key in bytes, and the number of its cells. The key, padded to whole cells,
and the cells follow."""
MOST_CELLS = 64
SCRATCH_BYTES = MOST_CELLS * CELL_BYTES


@dataclass(frozen=True, slots=True)
class PageContent:
    """The content of one page at one moment.

    `pid` is 0 if no process writes the page now. `reported_s` is a monotonic time, 0.0 if there was no report.
    """

    number: int
    pid: int
    reported_s: float
    values: dict[str, tuple[float, ...]]


class WorkerPage:
    """Named blocks of cells, each a double, in shared memory. One process writes them; every process may read them.

    Cells are aligned, so the processor reads and writes each as a unit. A writer appends an entry and then counts it in
    `USED`, so a writer that is killed halfway has added nothing. Threads may run `cells[place] += x` without a lock: an
    interpreter with a GIL switches threads only at calls and jumps, and there is none between the read and the write.
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
        """Make this process the writer."""
        self._learn()
        self.cells[REPORTED] = 0.0
        self._counts[PID] = pid

    def end(self) -> None:
        """Mark the page as written by no process."""
        self._counts[PID] = 0

    def place(self, key: str, cells: int = 1) -> int:
        """Return the position of the block of this name in `cells`, after adding it (with zeros) if it is new.

        Any thread of the writer may call it. If the page is full, log an error and return a block that nobody reads, so
        that further counts are lost.
        """
        block = self._blocks.get(key)
        return self._add(key, cells) if block is None else block[0]

    def has(self, key: str) -> bool:
        """Return whether this writer has a block of this name."""
        return key in self._blocks

    def names(self) -> list[str]:
        """Return the names of all blocks."""
        self._learn()
        return list(self._blocks)

    def read(self, number: int) -> PageContent:
        """Return the present content."""
        self._learn()
        blocks = list(self._blocks.items())
        values = {key: tuple(self.cells[place : place + cells]) for key, (place, cells) in blocks}
        return PageContent(number, self._counts[PID], self.cells[REPORTED], values)

    def _add(self, key: str, cells: int) -> int:
        with self._lock:
            if key in self._blocks:
                return self._blocks[key][0]
            name = key.encode()
            begins = HEADER_BYTES + self._counts[USED]
            values = begins + ENTRY.size + _padded_bytes(len(name))
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
        """Read the entries that any process has added since the last call."""
        with self._lock:
            at, end = HEADER_BYTES + self._known_bytes, HEADER_BYTES + self._counts[USED]
            while at < end:
                length, cells = ENTRY.unpack_from(self._memory, at)
                at += ENTRY.size
                key = str(self._memory[at : at + length], "utf-8")
                at += _padded_bytes(length)
                self._blocks[key] = (at // CELL_BYTES, cells)
                at += cells * CELL_BYTES
            self._known_bytes = end - HEADER_BYTES


class SharedCounters:
    """The pages of one server. Made before the fork; only the process that forks calls `take` and `release`.

    If the memory is not `shared`, each forked process has its own copy.
    """

    def __init__(self, pages: int, page_bytes: int = PAGE_BYTES, shared: bool = True) -> None:
        self._page_bytes = page_bytes
        flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)
        self._memory = memoryview(mmap.mmap(-1, pages * page_bytes, flags=flags))
        self._pages = [WorkerPage(self._memory[at : at + page_bytes]) for at in range(0, len(self._memory), page_bytes)]
        self._free = list(range(pages))

    def take(self) -> int | None:
        """Return the lowest free number; None if all are in use."""
        return self._free.pop(0) if self._free else None

    def release(self, number: int) -> None:
        """Free the number of a process that has ended. Its counts remain."""
        self.page(number).end()
        self._free = sorted([*self._free, number])

    def page(self, number: int | None) -> WorkerPage:
        """Return the page of this number; without a number, a page that no other process sees."""
        if number is None:
            return WorkerPage(memoryview(bytearray(self._page_bytes)))
        return self._pages[number]

    def read(self) -> list[PageContent]:
        """Return the content of every page that was ever written, by number."""
        contents = (page.read(number) for number, page in enumerate(self._pages))
        return [content for content in contents if content.pid or content.values]


def _padded_bytes(length_bytes: int) -> int:
    return -length_bytes % CELL_BYTES + length_bytes
