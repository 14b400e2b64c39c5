"""Gunicorn's master, as far as its workers have to do with it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import types
from collections.abc import Iterable
from pathlib import Path

from gunicorn import arbiter


def keep_steady_time() -> None:
    """Has the master wait for workers that stop by the monotonic clock.

    `Arbiter.stop` (Gunicorn 27.0.1) reckons `graceful_timeout` by the wall clock: where that steps forward meanwhile,
    it kills what is under way at once. Its module asks the time for nothing else that matters.
    """
    steady = types.ModuleType("time")
    vars(steady).update(vars(time), time=time.monotonic)
    arbiter.time = steady


def holds_any(process_id: int, listeners: Iterable[socket.socket]) -> bool:
    """Whether a process has one of these sockets open; False where that cannot be seen (other than on Linux)."""
    wanted = {f"socket:[{os.fstat(listener.fileno()).st_ino}]" for listener in listeners}
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in wanted:
                    return True
    return False
