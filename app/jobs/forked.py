"""Engine that scores in forked copies of this process. They start in milliseconds and read their rows themselves.

Only a process with a single thread can be forked: a lock that another thread holds would stay locked in the copy.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

from app.errors import RetortError, ScoringRefused
from app.jobs.input_parts import InputParts
from app.jobs.interrupts import end_with, interrupting_only_this_thread
from app.jobs.parts import Part
from app.jobs.scoring import OutputForm, ScoredPart, score_rows
from app.jobs.stretches import InputUnseen, Stretch
from app.jobs.versions import VersionFiles
from app.runtime.parent_process import signal_when_parent_ends

MOST_WAITING = 64
"""Scored parts that may wait in memory for an earlier part. At this number, workers get no more work."""
END_S = 5.0
"""Longest wait after SIGTERM before a worker is killed."""


class WorkerLost(Exception):
    """A worker process ended while it scored. Its unfinished parts have to be scored again."""


def can_fork() -> bool:
    """Return whether this process can be forked.

    On macOS, system libraries do not work in a forked copy. obstore, the library for object storage, starts threads
    that Python does not count.
    """
    return sys.platform == "linux" and threading.active_count() == 1 and "obstore" not in sys.modules


class ForkEngine:
    """Engine that scores in forked copies of this process."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def score(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
        """Yield the scored parts in order.

        Raises:
            WorkerLost: A worker process ended.
        """
        number, waiting = parts.done, dict[int, ScoredPart]()
        with (
            closing(parts.stretches(self._processes)) as stretches,  # type: ignore[type-var]
            _workers(self._processes, partial(score_rows, version, form)) as workers,
        ):
            idle, busy = [*workers], workers[:0]
            next_stretch = next(stretches, None)
            while busy or next_stretch is not None or number in waiting:
                while idle and next_stretch is not None and (len(waiting) < MOST_WAITING or not busy):
                    busy.append(idle.pop())
                    with _connection_errors_as_worker_lost():
                        busy[-1].send(next_stretch)
                    next_stretch = next(stretches, None)
                ready = wait(busy, 0.0 if number in waiting else None)
                for worker in [worker for worker in busy if worker in ready]:
                    message = _receive(worker)
                    if isinstance(message, ScoredPart):
                        waiting[message.number] = message
                    else:
                        busy.remove(worker)
                        idle.append(worker)
                while number in waiting:
                    yield waiting.pop(number)
                    number += 1
                    if len(waiting) < MOST_WAITING:  # the caller writes each part, and idle workers should not wait
                        break


def _receive(worker: Connection[Any, Any]) -> ScoredPart | None:
    """Return the next scored part from a worker; None at the end of its stretch.

    Raises:
        Exception: The worker failed to score the stretch. Its exception is raised here.
        WorkerLost: The worker ended.
    """
    with _connection_errors_as_worker_lost():
        message: ScoredPart | Exception | None = worker.recv()
    if isinstance(message, Exception):
        raise message
    return message


@contextmanager
def _connection_errors_as_worker_lost() -> Iterator[None]:
    """Turn connection errors, which mean that the worker process ended, into WorkerLost."""
    try:
        yield
    except (EOFError, OSError):
        raise WorkerLost("a worker process ended") from None


@contextmanager
def _workers(
    count: int, score: Callable[[Part | Stretch], Iterator[ScoredPart]]
) -> Iterator[list[Connection[Any, Any]]]:
    """Start worker processes, and yield a connection to each. Stop the processes at the end."""
    processes: list[ForkProcess] = []
    connections: list[Connection[Any, Any]] = []
    context = multiprocessing.get_context("fork")
    try:
        with interrupting_only_this_thread(), warnings.catch_warnings():
            # Python 3.12 also warns about the threads of BLAS and pyarrow, which start again in a forked copy.
            warnings.simplefilter("ignore", DeprecationWarning)
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, score, os.getpid()), daemon=True)
                process.start()
                theirs.close()  # so that the connection closes when the process ends
                processes.append(process)
                connections.append(ours)
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(END_S)
            process.kill()
            process.join()


def _serve(
    connection: Connection[Any, Any], score: Callable[[Part | Stretch], Iterator[ScoredPart]], parent: int
) -> None:
    """Score the stretches that arrive, in a worker process, until it is stopped. Send None after each stretch."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # At once, because the copies of open files keep the locks of the parent: a resumed run would be refused.
    signal_when_parent_ends(signal.SIGKILL)
    end_with(parent)
    gc.freeze()  # otherwise Python would search the objects of the main process for garbage
    while True:
        part_or_stretch = connection.recv()
        try:
            for part in score(part_or_stretch):
                connection.send(part)
        except InputUnseen as unseen:
            connection.send(ScoringRefused(str(unseen)))
        except RetortError as error:  # some of its subclasses cannot be pickled
            connection.send(ScoringRefused(error.detail))
        except Exception as error:  # noqa: BLE001 - `_receive` raises it in the main process
            connection.send(error)
        else:
            connection.send(None)
