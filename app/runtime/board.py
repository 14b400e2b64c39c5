"""Which models are wanted in service, and which versions are not, written on one board for all worker processes.

The board is memory that was mapped before the fork, so that every worker sees it. Its first eight
bytes count the changes: to look whether there was one takes a read of memory. Changes are rare, and take a lock.

It has two sides. What even changes leave is on the one, what odd ones leave on the other; a change is written on the
side that nobody reads, and is one when it is counted. So a worker that is killed while it writes has changed nothing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import msgspec

from app.errors import InvalidRepository

SIDE_BYTES = 1 << 20
HEAD_BYTES = 24
"""The number of changes and the length of what is on each side, all unsigned integers of 64 bits."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was last wanted of a model, and which change of the board that was; 0 where nobody wanted anything.

    `quarantined` are the versions that were quarantined since, each with the change that it was.
    """

    served: bool
    change: int
    quarantined: dict[int, int] = field(default_factory=dict)


class WishBoard:
    """Wishes by model, shared with the processes that are forked after it was made. Safe to call from many threads."""

    def __init__(self) -> None:
        self._file = _shared_memory()
        size_bytes = HEAD_BYTES + 2 * SIDE_BYTES
        os.truncate(self._file, size_bytes)
        self._memory = mmap.mmap(self._file, size_bytes)
        self._numbers = memoryview(self._memory)[:HEAD_BYTES].cast("Q")
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._file)

    @property
    def changes(self) -> memoryview[int]:
        """Its first number is how many changes there were; a view of the memory, which is cheap to look at."""
        return self._numbers

    def wish(self, model: str, served: bool) -> int:
        """Writes down that a model is to be served, or not, with no version in quarantine; the number of this change.

        Raises:
            InvalidRepository: there is no room on the board.
        """
        with self._locked():
            return self._write(model, Wish(served, self._numbers[0] + 1))

    def quarantine(self, model: str, version: int) -> int:
        """Writes down that a version is not to be run until the next wish for its model; the number of this change.

        Raises:
            InvalidRepository: there is no room on the board.
        """
        with self._locked():
            before = self._wishes().get(model, Wish(True, 0))
            return self._write(
                model, replace(before, quarantined={**before.quarantined, version: self._numbers[0] + 1})
            )

    def read(self) -> tuple[int, dict[str, Wish]]:
        """The number of changes, and the wishes as of then."""
        with self._locked():
            return self._numbers[0], self._wishes()

    def _write(self, model: str, wish: Wish) -> int:
        change = self._numbers[0] + 1
        content = msgspec.json.encode({**self._wishes(), model: wish})
        if len(content) > SIDE_BYTES:
            raise InvalidRepository("too many models were loaded and unloaded by hand; restart the server")
        begins, length = self._side(change)
        self._memory[begins : begins + len(content)] = content
        self._numbers[length] = len(content)
        self._numbers[0] = change  # last, and whole or not at all: who sees it finds the rest
        return change

    def _wishes(self) -> dict[str, Wish]:
        begins, length = self._side(self._numbers[0])
        return msgspec.json.decode(self._memory[begins : begins + self._numbers[length]] or b"{}", type=dict[str, Wish])

    @staticmethod
    def _side(change: int) -> tuple[int, int]:
        """Where in the memory a change is written, and which number is its length."""
        side = change % 2
        return HEAD_BYTES + side * SIDE_BYTES, 1 + side

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among threads, and among processes: a lock of the file that goes with its holder."""
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def _shared_memory() -> int:
    """Return the descriptor of a file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        # On a disk that is full, writing to a mapped file would end the process.
        return os.memfd_create("retort-board")
    descriptor, path = tempfile.mkstemp(prefix="retort-board-")
    os.unlink(path)  # noqa: PTH108 - only the descriptor is needed
    return descriptor
