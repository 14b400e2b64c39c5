"""Threads that start when work comes and no thread is free, and end when they are idle."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

WorkT = TypeVar("WorkT")


class ElasticPool(Generic[WorkT]):
    """Runs each piece of work at once, in a thread of its own. The caller bounds their number.

    `submit`, `stop_idle` and `close` belong to one thread, the loop's. The threads are daemons, so that one that hangs
    cannot keep the process.
    """

    def __init__(self, work: Callable[[WorkT], None], idle_s: float) -> None:
        self._work = work
        self._idle_s = idle_s
        self._inbox: SimpleQueue[WorkT | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0
        """Threads that wait for work, minus work that waits for a thread."""
        self._threads: set[threading.Thread] = set()
        self._numbers = itertools.count(1)

    @property
    def started(self) -> int:
        """Return how many threads there are."""
        return len(self._threads)

    def submit(self, work: WorkT) -> None:
        """Give work to a free thread, or to a new one.

        Raises:
            RuntimeError: the system gives no more threads.
        """
        with self._lock:
            is_free = self._free > 0
            self._free -= is_free
        if not is_free:
            name = f"retort-waiting-{next(self._numbers)}"
            thread = threading.Thread(target=self._live, name=name, daemon=True)
            thread.start()
            self._threads.add(thread)
        self._inbox.put(work)

    def stop_idle(self) -> None:
        """End each thread as soon as it is free."""
        for _ in range(len(self._threads)):
            self._inbox.put(None)

    def close(self, deadline_s: float, now_s: Callable[[], float]) -> None:
        """Wait for the threads to end, until the deadline."""
        for thread in list(self._threads):
            thread.join(max(0.0, deadline_s - now_s()))

    def _live(self) -> None:
        try:
            while (work := self._next()) is not None:
                self._work(work)
                del work  # else this thread keeps it alive while it waits for the next
                with self._lock:
                    self._free += 1
        finally:
            self._threads.discard(threading.current_thread())

    def _next(self) -> WorkT | None:
        while True:
            try:
                return self._inbox.get(timeout=self._idle_s)
            except Empty:
                with self._lock:
                    if self._free > 0:  # else work is on its way to this thread
                        self._free -= 1
                        return None
