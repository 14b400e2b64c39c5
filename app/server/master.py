"""Changes to Gunicorn's master for its workers, and a guard against signals that models send.

In all functions, `server` is Gunicorn's arbiter before its first worker, and `has_booted` returns whether a worker has
booted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import signal
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn import arbiter
from gunicorn.errors import HaltServer
from gunicorn.workers import base
from gunicorn.workers.workertmp import WorkerTmp

log = logging.getLogger(__name__)

STOPPED_S = 1.5
"""A worker sends a heartbeat once a second. If none has come for this time, check whether a signal has stopped it."""
ALL_PROCESSES = -1
"""The process id with which kill(2) signals all processes of the user."""
CHECK_EXISTENCE = 0
"""The signal with which kill(2) only checks whether a process exists."""

TIMER_SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
"""Signals of timers, which any thread may set. They end a process that does not handle them."""

Send = Callable[[int, int], None]


def keep_steady_time() -> None:
    """Make the master wait for stopping workers by the monotonic clock.

    `Arbiter.stop` (Gunicorn 27.0.1) measures `graceful_timeout` by the wall clock. If that clock steps forward
    meanwhile, it kills running requests at once. Its module has no other important use of the time.
    """
    steady = types.ModuleType("time")
    vars(steady).update(vars(time), time=time.monotonic)
    arbiter.time = steady


class MemoryHeartbeat(WorkerTmp):  # type: ignore[misc]  # Gunicorn ships no types
    """A heartbeat file in memory, without a disk. Its modification time shows the master that a worker is alive."""

    def __init__(self, cfg: Any) -> None:
        self._tmp = os.fdopen(os.memfd_create("retort-heartbeat"), "w+b", 0)


def keep_heartbeats_in_memory() -> None:
    """Make Gunicorn keep each worker's heartbeat in memory, if the system has files in memory."""
    if hasattr(os, "memfd_create"):
        base.WorkerTmp = MemoryHeartbeat


class SharedFlag:
    """A flag in memory that the master shares with the workers that it forks afterwards."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Set the flag, for all processes that share it."""
        self._memory[0] = 1

    def is_set(self) -> bool:
        """Return whether a process has set the flag."""
        return self._memory[0] == 1


def tell_workers_of_the_end(server: Any) -> Callable[[], bool]:
    """Make a server that stops set a flag for its workers, unless systemd or a new master keeps its listeners.

    Returns:
        The function for `RetortWorker.server_ends`.
    """
    stop, ends = server.stop, SharedFlag()

    def stop_with_flag(graceful: bool = True) -> None:
        # Gunicorn's own conditions for removing the path of a Unix socket: SIGUSR2 has started no new master.
        if server.reexec_pid == server.master_pid == 0 and not server.systemd:
            ends.set()
        stop(graceful)

    server.stop = stop_with_flag
    return ends.is_set


def outlive_booted_workers(server: Any, has_booted: Callable[[Any], bool]) -> None:
    """Keep the master running if a worker that has booted ends with any exit status.

    `Arbiter.reap_workers` (Gunicorn 27.0.1) stops the server at two exit statuses, which mean that a worker cannot
    boot. A model may call `os._exit` with the same statuses.
    """
    reap = server.reap_workers

    def reap_workers() -> None:
        while True:
            before = list(server.WORKERS.values())
            try:
                reap()
            except HaltServer:
                # Gunicorn closes `tmp` of each worker that it has reaped completely: the one left open has caused this.
                (ended,) = [one for one in before if one not in server.WORKERS.values() and not _is_closed(one.tmp)]
                if not has_booted(ended):
                    raise
                ended.tmp.close()
                server.cfg.child_exit(server, ended)
            else:
                return

    server.reap_workers = reap_workers


ENDING_SIGNALS = frozenset({signal.SIGTERM, signal.SIGQUIT, signal.SIGINT})


def hold_signals_of_new_workers(server: Any) -> None:
    """Block the signals that end a worker until the new worker has set its own handlers.

    Until then a forked process has the master's handlers, which only put a signal into a queue for the master. A worker
    that got such a signal while it was forked would continue to serve, and be killed after `graceful_timeout`.
    `Arbiter.spawn_worker` (Gunicorn 27.0.1) has no other place for this.
    """
    spawn, worker_class = server.spawn_worker, server.worker_class
    handle_signals = worker_class.init_signals

    def spawn_worker() -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        try:
            return spawn()
        finally:
            if os.getpid() == server.pid:  # a worker also comes here, by an exception, when it ends
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def init_signals(worker: Any) -> None:
        handle_signals(worker)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)

    server.spawn_worker = spawn_worker
    worker_class.init_signals = init_signals


def watch_frozen_workers(server: Any, has_booted: Callable[[Any], bool], frozen_s: float) -> None:
    """Continue workers that a signal has stopped, and end workers that send no heartbeat for too long.

    A model can stop its process by a signal, or keep the interpreter's lock, so that neither the loop nor the heartbeat
    of the worker runs. `Arbiter.murder_workers` (Gunicorn 27.0.1) is called once a second. Its own `timeout` is too
    long for this, because a worker must be able to boot within it.

    Args:
        frozen_s: longest time without a heartbeat, for a worker that has booted.
    """
    murder = server.murder_workers

    def murder_workers() -> None:
        for process_id, worker in list(server.WORKERS.items()):
            silent_s = _silent_s(worker) if has_booted(worker) else 0.0
            if silent_s > STOPPED_S and is_stopped(process_id):
                log.warning("continuing worker %d, which a signal has stopped", process_id)
                server.kill_worker(process_id, signal.SIGCONT)
            elif silent_s > frozen_s:
                log.error("ending worker %d, which has sent no heartbeat for %.0f s", process_id, silent_s)
                server.kill_worker(process_id, signal.SIGKILL if worker.aborted else signal.SIGABRT)
                worker.aborted = True
        murder()

    server.murder_workers = murder_workers


def _silent_s(worker: Any) -> float:
    with contextlib.suppress(OSError, ValueError):
        return time.monotonic() - float(worker.tmp.last_update())
    return 0.0  # the worker has ended


def is_stopped(process_id: int) -> bool:
    """Return whether a signal, not a debugger, has stopped a process; False without /proc."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


def _is_closed(stream: Any) -> bool:
    with contextlib.suppress(ValueError):
        stream.fileno()
        return False
    return True


def keep_signals_inside() -> None:
    """Give this worker a process group of its own, refuse its signals to the server, and ignore signals of timers.

    Otherwise a model that ends its group (`os.kill(0, …)`, `os.killpg`), its parent or every process would end the
    server. The processes that a model forks also belong to the group. Only calls from Python are refused: C code and
    other programs can still signal the server, unless the worker has another user id.
    """
    server = os.getppid()
    os.setpgid(0, 0)
    for number in TIMER_SIGNALS:
        signal.signal(number, _ignore)
    os.kill = _guard(os.kill, {server, ALL_PROCESSES, -os.getpgid(server)}, server)
    os.killpg = _guard(os.killpg, {os.getpgid(server)}, server)


def end_process_group(worker: int) -> None:
    """End the processes that models of an ended worker have forked and left."""
    if worker <= 1 or worker == os.getpgrp():  # no group of a worker: its end would end many other processes
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)


def _ignore(signal_number: int, frame: object) -> None:
    """Ignore a signal in this process. With SIG_IGN, the programs that it starts would ignore the signal too."""


def _guard(send: Send, refused: set[int], server: int) -> Send:
    """Return `send` with a guard that refuses to signal these targets."""

    def guarded(target: int, signal_number: int, /) -> None:
        if target in refused and signal_number != CHECK_EXISTENCE:
            log.error(
                "refused signal %d of a model to process %d; the server is process %d", signal_number, target, server
            )
            raise PermissionError(errno.EPERM, "a worker may not signal its server")
        send(target, signal_number)

    return guarded
