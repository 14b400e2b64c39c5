"""The memory of this process: how much it has and shares, as Linux says in `/proc`; what becomes of freed blocks."""

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
"""The fields of proc_pid_smaps(5) that make each figure."""


M_MMAP_THRESHOLD = -3
"""Of glibc's malloc.h."""
LARGE_BLOCK_BYTES = 2**20


def give_large_blocks_back() -> None:
    """From now on a block of a mebibyte or more goes back to the system when it is freed, whichever thread had it.

    By itself glibc keeps blocks of up to 32 MiB, for each thread its own (mallopt(3)): a few large bodies or images and
    a process has a gigabyte for ever. Where there is another malloc this does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def memory_bytes(rollup: Path = ROLLUP) -> dict[str, int]:
    """Bytes that are shared with other processes, that are private, and that are this one's part (PSS).

    The kernel walks the page tables for it, which takes milliseconds for each GB and lets other threads run: not for
    a loop that must not wait. Empty where the system has no such file.
    """
    try:
        lines = rollup.read_text("ascii").splitlines()[1:]
    except OSError:
        return {}
    found_kb = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return {name: 1024 * sum(found_kb.get(field, 0) for field in fields) for name, fields in SUMS.items()}


def watch(look: Callable[[], None], every_s: float, stop: threading.Event) -> threading.Thread:
    """Looks again and again until told to stop, in a thread that keeps no process from ending."""

    def go_on() -> None:
        while not stop.wait(every_s):
            try:
                look()
            except Exception:
                log.exception("the metrics of this process could not be looked at")

    thread = threading.Thread(target=go_on, name="retort-metrics", daemon=True)
    thread.start()
    return thread
