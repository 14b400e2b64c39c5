"""Gunicorn's master, as far as its workers have to do with it."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gunicorn import arbiter
from gunicorn.errors import HaltServer
from gunicorn.workers import base
from gunicorn.workers.workertmp import WorkerTmp


def keep_steady_time() -> None:
    """Has the master wait for workers that stop by the monotonic clock.

    `Arbiter.stop` (Gunicorn 27.0.1) reckons `graceful_timeout` by the wall clock: where that steps forward meanwhile,
    it kills what is under way at once. Its module asks the time for nothing else that matters.
    """
    steady = types.ModuleType("time")
    vars(steady).update(vars(time), time=time.monotonic)
    arbiter.time = steady


class MemoryHeartbeat(WorkerTmp):  # type: ignore[misc]  # Gunicorn ships no types
    """The file by whose time the master sees that a worker lives, in memory: no disk is needed, nor waited for."""

    def __init__(self, cfg: Any) -> None:
        self._tmp = os.fdopen(os.memfd_create("retort-heartbeat"), "w+b", 0)


def keep_heartbeats_in_memory() -> None:
    """Have Gunicorn make no temporary file for each worker, where the system has files in memory."""
    if hasattr(os, "memfd_create"):
        base.WorkerTmp = MemoryHeartbeat


class BootFlag:
    """Tell the master that a worker has booted. Made before the fork; the memory is shared with the worker."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Call in the worker, once it serves."""
        self._memory[0] = 1

    def is_set(self) -> bool:
        """Return whether the worker has booted."""
        return self._memory[0] == 1


def outlive_booted_workers(server: Any, has_booted: Callable[[Any], bool]) -> None:
    """Keep the master running whatever the exit status of a worker that has booted.

    `Arbiter.reap_workers` (Gunicorn 27.0.1) stops the server for two exit statuses, which say that a worker cannot
    boot. A model that calls `os._exit` may choose the same ones.

    Args:
        server: Gunicorn's arbiter.
        has_booted: Says of a worker whether it has booted.
    """
    reap = server.reap_workers

    def reap_workers() -> None:
        while True:
            before = list(server.WORKERS.values())
            try:
                reap()
            except HaltServer:
                # Gunicorn closes this file of each worker that it has dealt with.
                (ended,) = [each for each in before if each not in server.WORKERS.values() and not _is_closed(each.tmp)]
                if not has_booted(ended):
                    raise
                ended.tmp.close()
                server.cfg.child_exit(server, ended)
            else:
                return

    server.reap_workers = reap_workers


def _is_closed(stream: Any) -> bool:
    try:
        stream.fileno()
    except ValueError:
        return True
    return False


def holds_any(process_id: int, listeners: Iterable[socket.socket]) -> bool:
    """Whether a process has one of these sockets open; False where that cannot be seen (other than on Linux)."""
    wanted = {f"socket:[{os.fstat(listener.fileno()).st_ino}]" for listener in listeners}
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in wanted:
                    return True
    return False
