"""The states that the operator wants models to be in, shared by all worker processes.

The memory is mapped before the fork, so every worker sees it. Its first eight bytes count the changes, so that a worker
notices a change with one read of memory. Changes are rare, and take a lock.

Two buffers hold the states after even and after odd changes. A change writes the buffer that nobody reads, and takes
effect when the number of changes grows. So a worker that is killed while it writes has changed nothing.
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

BUFFER_BYTES = 1 << 20
HEAD_BYTES = 24
"""The number of changes and the length of each buffer's content, as unsigned 64-bit integers."""


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The state that a model should be in, and the number of the change that requested it; 0 if none did.

    `quarantined` maps each quarantined version to the number of the change that quarantined it.
    """

    served: bool
    change: int
    quarantined: dict[int, int] = field(default_factory=dict)


class DesiredStates:
    """Desired states by model, shared with processes that are forked later. Safe to call from many threads."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, HEAD_BYTES + 2 * BUFFER_BYTES)  # limits of file sizes would apply to a file
        self._numbers = memoryview(self._memory)[:HEAD_BYTES].cast("Q")
        self._lock = threading.Lock()
        self._locked_file = _empty_file()
        weakref.finalize(self, os.close, self._locked_file)

    @property
    def changes(self) -> memoryview[int]:
        """A view whose first number is the count of changes. Reading it takes no lock."""
        return self._numbers

    def set_served(self, model: str, served: bool) -> int:
        """Request that a model be served or not, and end its quarantines. Return the number of this change.

        Raises:
            InvalidRepository: the memory is full.
        """
        with self._locked():
            return self._write(model, DesiredState(served, self._numbers[0] + 1))

    def quarantine(self, model: str, version: int) -> int:
        """Quarantine a version until its model is loaded again. Return the number of this change.

        Raises:
            InvalidRepository: the memory is full.
        """
        with self._locked():
            before = self._states().get(model, DesiredState(True, 0))
            return self._write(
                model, replace(before, quarantined={**before.quarantined, version: self._numbers[0] + 1})
            )

    def read(self) -> tuple[int, dict[str, DesiredState]]:
        """Return the number of changes, and the states after the last of them."""
        with self._locked():
            return self._numbers[0], self._states()

    def _write(self, model: str, state: DesiredState) -> int:
        change = self._numbers[0] + 1
        content = msgspec.json.encode({**self._states(), model: state})
        if len(content) > BUFFER_BYTES:
            raise InvalidRepository("too many models were loaded and unloaded by hand; restart the server")
        begins, length = self._buffer(change)
        self._memory[begins : begins + len(content)] = content
        self._numbers[length] = len(content)
        self._numbers[0] = change  # written last and at once: a reader that sees it finds the content
        return change

    def _states(self) -> dict[str, DesiredState]:
        begins, length = self._buffer(self._numbers[0])
        return msgspec.json.decode(
            self._memory[begins : begins + self._numbers[length]] or b"{}", type=dict[str, DesiredState]
        )

    @staticmethod
    def _buffer(change: int) -> tuple[int, int]:
        """Return the position of a change's buffer in the memory, and the index of the number that is its length."""
        buffer = change % 2
        return HEAD_BYTES + buffer * BUFFER_BYTES, 1 + buffer

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other threads and processes. The system frees the lock of a process that dies."""
        with self._lock:
            fcntl.lockf(self._locked_file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._locked_file, fcntl.LOCK_UN)


def _empty_file() -> int:
    """Return the descriptor of an unnamed file, in memory if the system supports that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("retort-desired-states")
    descriptor, path = tempfile.mkstemp(prefix="retort-desired-states-")
    os.unlink(path)  # noqa: PTH108 - only the descriptor is needed
    return descriptor
