"""The memory of this process: measure it from Linux's `/proc`, and return freed blocks to the system or keep them."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

ROLLUP = Path("/proc/self/smaps_rollup")
SUMS = {
    "shared": ("Shared_Clean", "Shared_Dirty"),
    "private": ("Private_Clean", "Private_Dirty"),
    "proportional": ("Pss",),
}
"""The fields of proc_pid_smaps(5) that make up each figure."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""
LARGE_BLOCK_BYTES = 2**20
KEPT_BLOCK_BYTES, KEPT_BYTES = 2**25, 2**28


def give_large_blocks_back() -> None:
    """Return blocks of a mebibyte or more to the system when they are freed, in all threads.

    By default glibc keeps freed blocks of up to 32 MiB for each thread (mallopt(3)), so that a few large bodies or
    images take a gigabyte permanently. With another malloc this does nothing.
    """
    _mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def keep_freed_blocks() -> None:
    """Keep freed blocks for the next ones, in all threads, in a process that takes the same megabytes again and again.

    By default glibc returns them to the system, and each page of the next block is a fault of a microsecond.
    """
    _mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
    _mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _mallopt(parameter: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(parameter, value)


def memory_bytes(rollup: Path = ROLLUP) -> dict[str, int]:
    """Return the shared, the private and the proportional (PSS) bytes of this process.

    The kernel walks the page tables, which takes milliseconds per gigabyte and lets other threads run: do not call it
    on an event loop. Empty if the system has no such file.
    """
    try:
        lines = rollup.read_text("ascii").splitlines()[1:]
    except OSError:
        return {}
    found_kb = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return {name: 1024 * sum(found_kb.get(field, 0) for field in fields) for name, fields in SUMS.items()}


def watch(look: Callable[[], None], every_s: float, stop: threading.Event) -> threading.Thread:
    """Call a function repeatedly in a daemon thread until `stop` is set."""

    def go_on() -> None:
        while not stop.wait(every_s):
            try:
                look()
            except Exception:
                log.exception("the metrics of this process could not be updated")

    thread = threading.Thread(target=go_on, name="retort-metrics", daemon=True)
    thread.start()
    return thread
