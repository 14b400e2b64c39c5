"""The event loop of this process, on a thread of its own: where coroutines of steps run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


class EventLoop:
    """Runs coroutines for threads that wait for them. Lives as long as the process; safe to call from many threads.

    Its thread is started by the first coroutine, and so after the fork; a child that was forked later has its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def run(self, coroutine: Coroutine[Any, Any, ResultT], timeout_s: float | None = None) -> ResultT:
        """What the coroutine returns, in the context of the caller: request id and all.

        Raises:
            TimeoutError: it was cancelled, since it took longer than `timeout_s`.
            RuntimeError: the caller is the event loop itself, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("an async step cannot wait for the event loop that it runs on: await it instead")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise
        except concurrent.futures.CancelledError:
            raise RuntimeError("the event loop was ended meanwhile") from None

    @property
    def runs(self) -> bool:
        """Whether it has been started in this process."""
        return self._loop is not None and self._pid == os.getpid()

    def close(self, timeout_s: float = 2.0) -> None:
        """Cancels what still runs and ends the thread."""
        with self._lock:
            loop, thread = (self._loop, self._thread) if self._pid == os.getpid() else (None, None)
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout_s)

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None or self._pid != os.getpid():
            with self._lock:
                if self._loop is None or self._pid != os.getpid():
                    self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                    self._thread = threading.Thread(
                        target=_run, args=(self._loop,), name="retort-event-loop", daemon=True
                    )
                    self._thread.start()
                loop = self._loop
        return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """The life of the thread: until the loop is stopped; then what is left is cancelled and closed."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    except Exception:
        log.exception("the event loop did not end cleanly")
    finally:
        loop.close()
