"""Request threads: some stay, and more start when no thread is free and end when idle."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

WorkT = TypeVar("WorkT")


class ElasticPool(Generic[WorkT]):
    """Runs each piece of work at once, in a thread of its own. The caller limits their number; `kept` of them stay.

    All methods belong to the loop's thread. The threads are daemons, so that a hanging thread cannot keep the process
    running.
    """

    def __init__(self, work: Callable[[WorkT], None], kept: int, idle_s: float) -> None:
        self._work = work
        self._kept = kept
        self._idle_s = idle_s
        self._inbox: SimpleQueue[WorkT | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._busy = 0
        """Pieces of work that were submitted and have not ended."""
        self._threads: set[threading.Thread] = set()
        self._numbers = itertools.count(1)
        for _ in range(kept):
            self._start()

    def submit(self, work: WorkT) -> None:
        """Give work to a free thread, or to a new one; if the system gives no more threads, to the next free one."""
        with self._lock:
            self._busy += 1
            needs_thread = self._busy > len(self._threads)
        self._inbox.put(work)
        if needs_thread:
            try:
                self._start()
            except RuntimeError as error:
                log.warning("a request waits for a thread: %s", error)

    def ended(self) -> None:
        """Count a piece of work as ended: its thread is free, or soon will be."""
        with self._lock:
            self._busy -= 1

    def _start(self) -> None:
        thread = threading.Thread(target=self._live, name=f"retort-request-{next(self._numbers)}", daemon=True)
        thread.start()
        self._threads.add(thread)

    def stop_idle(self) -> None:
        """End each thread as soon as it is free."""
        for _ in range(len(self._threads)):
            self._inbox.put(None)

    def close(self, deadline_s: float) -> None:
        """Wait for the threads to end, until the deadline."""
        for thread in list(self._threads):
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _live(self) -> None:
        try:
            while (work := self._next()) is not None:
                self._work(work)
                del work  # else this thread keeps it alive while it waits for the next
        finally:
            self._threads.discard(threading.current_thread())

    def _next(self) -> WorkT | None:
        while True:
            try:
                return self._inbox.get(timeout=self._idle_s)
            except Empty:
                with self._lock:
                    if len(self._threads) > max(self._kept, self._busy):
                        self._threads.discard(threading.current_thread())
                        return None
