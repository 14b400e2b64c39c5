"""Keep the signals that a model's code sends inside of its own worker."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable

log = logging.getLogger(__name__)

EVERYBODY = -1
"""The process id by which kill(2) signals all processes of the user."""
ONLY_LOOK = 0
"""The signal by which kill(2) only looks whether a process is there."""

TIMER_SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
"""Signals of timers, which any thread may set. They end a process that does not handle them."""

Send = Callable[[int, int], None]


def keep_signals_inside() -> None:
    """Give this worker a process group of its own, refuse its signals to the server, and ignore those of timers.

    A model that ends its group (`os.kill(0, …)`, `os.killpg`), its parent, or every process, ends the server
    otherwise. The group also holds the processes that a model forks. This finds calls from Python only: nothing but
    another user id keeps C code, or another program, from signalling the server.
    """
    server = os.getppid()
    os.setpgid(0, 0)
    for number in TIMER_SIGNALS:
        signal.signal(number, _ignore)
    os.kill = _guarded(os.kill, {server, EVERYBODY, -os.getpgid(server)}, server)
    os.killpg = _guarded(os.killpg, {os.getpgid(server)}, server)


def end_process_group(worker: int) -> None:
    """End the processes that models of an ended worker have forked and left."""
    if worker <= 1 or worker == os.getpgrp():  # no worker's, and to signal them would end far more
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)


def _ignore(signal_number: int, frame: object) -> None:
    """Ignore a signal in this process. Programs that it starts get the usual behaviour, unlike with SIG_IGN."""


def _guarded(send: Send, refused: set[int], server: int) -> Send:
    def guarded(target: int, signal_number: int, /) -> None:
        if target in refused and signal_number != ONLY_LOOK:
            log.error(
                "refused signal %d of a model to process %d; the server is process %d", signal_number, target, server
            )
            raise PermissionError(errno.EPERM, "a worker may not signal its server")
        send(target, signal_number)

    return guarded
