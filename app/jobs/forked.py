"""Score stretches in copies of this process, made by fork: they start in milliseconds and read their rows themselves.

Only a process without other threads can be copied: a lock that another thread holds would stay locked in the copy.
"""

from __future__ import annotations

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

MOST_WAITING = 64
"""Scored parts that wait in memory for an earlier one, before no worker gets more."""
END_S = 5.0
"""Longest wait for a worker to end by SIGTERM, before it is killed."""


class WorkerLost(Exception):
    """A worker process ended while it scored. Parts that were not finished have to be scored again."""


def can_fork() -> bool:
    """Return whether this process can be copied.

    macOS's own libraries cannot be used in a copy. Python does not know of the threads of obstore, which object storage
    needs.
    """
    return sys.platform == "linux" and threading.active_count() == 1 and "obstore" not in sys.modules


class ForkEngine:
    """Scores in copies of this process."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def scored(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
        """Yield the scored parts in order.

        Raises:
            WorkerLost: A worker process ended.
        """
        number, waiting = parts.done, dict[int, ScoredPart]()
        with (
            closing(parts.named(self._processes)) as stretches,  # type: ignore[type-var]
            _workers(self._processes, partial(score_rows, version, form)) as workers,
        ):
            idle, busy = [*workers], workers[:0]
            following = next(stretches, None)
            while busy or following is not None:
                while idle and following is not None and (len(waiting) < MOST_WAITING or not busy):
                    busy.append(idle.pop())
                    with _noticing_its_end():
                        busy[-1].send(following)
                    following = next(stretches, None)
                ready = wait(busy)
                for worker in [each for each in busy if each in ready]:
                    found = _received(worker)
                    if isinstance(found, ScoredPart):
                        waiting[found.number] = found
                    else:
                        busy.remove(worker)
                        idle.append(worker)
                while number in waiting:
                    yield waiting.pop(number)
                    number += 1


def _received(worker: Connection[Any, Any]) -> ScoredPart | None:
    """Return what a worker sends: a scored part, or None if it has none left.

    Raises:
        Exception: The one that ended the stretch.
        WorkerLost: The worker ended.
    """
    with _noticing_its_end():
        found: ScoredPart | Exception | None = worker.recv()
    if isinstance(found, Exception):
        raise found
    return found


@contextmanager
def _noticing_its_end() -> Iterator[None]:
    """Turn the errors of a connection, whose other end went with its process, into WorkerLost."""
    try:
        yield
    except (EOFError, OSError):
        raise WorkerLost("a worker process ended") from None


@contextmanager
def _workers(
    count: int, score: Callable[[Part | Stretch], Iterator[ScoredPart]]
) -> Iterator[list[Connection[Any, Any]]]:
    """Start processes that score stretches, and yield a connection to each. At the end they are ended."""
    processes: list[ForkProcess] = []
    connections: list[Connection[Any, Any]] = []
    context = multiprocessing.get_context("fork")
    try:
        with interrupting_only_this_thread(), warnings.catch_warnings():
            # Python 3.12 counts the threads of BLAS and of pyarrow too, which are made anew in a copy.
            warnings.simplefilter("ignore", DeprecationWarning)
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, score, os.getpid()), daemon=True)
                process.start()
                theirs.close()  # so that the end of the process is the end of the connection
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
    """Score what comes, in a worker process, until the process is ended. Send None after each stretch."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(parent)
    while True:
        rows = connection.recv()
        try:
            for part in score(rows):
                connection.send(part)
        except InputUnseen as unseen:
            connection.send(ScoringRefused(str(unseen)))
        except RetortError as error:  # others of them cannot be pickled
            connection.send(ScoringRefused(error.detail))
        except Exception as error:  # noqa: BLE001 - raised by the process that began the run
            connection.send(error)
        else:
            connection.send(None)
