"""The event loop of this process, on its own thread. It runs async steps, and requests that only wait for them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

log = logging.getLogger(__name__)

COMPUTING_THREADS, WAITING_THREADS = 8, 512
TICK_S = 0.01
"""Deadlines within an interval of this length share a timer."""
ABSENT = object()

ResultT = TypeVar("ResultT")
ArgumentTs = TypeVarTuple("ArgumentTs")


class Deadlines:
    """The deadlines of coroutines, which are cancelled up to `TICK_S` late. Used on the thread of an event loop only.

    `asyncio.timeout_at` makes a timer for each coroutine. With uvloop that takes as long as a small prediction.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waits_by_tick: dict[int, set[_Wait]] = {}

    async def wait(self, coroutine: Coroutine[Any, Any, ResultT], until_s: float) -> ResultT:
        """Await a coroutine in the current task, and return its result.

        Args:
            until_s: the deadline, on the clock of the loop (`time.monotonic`).

        Raises:
            TimeoutError: the deadline has passed.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be cancelled at a deadline")
        wait, waits = _Wait(task, task.cancelling()), self._waits_at(math.ceil(until_s / TICK_S))
        waits.add(wait)
        try:
            return await coroutine
        except asyncio.CancelledError as error:
            if wait.is_over and task.cancelling() == wait.requests_before + 1:  # nobody else cancels the task
                raise TimeoutError from error
            raise
        finally:
            waits.discard(wait)
            if wait.is_over:
                task.uncancel()

    def _waits_at(self, tick: int) -> set[_Wait]:
        waits = self._waits_by_tick.get(tick)
        if waits is None:
            waits = self._waits_by_tick[tick] = set()
            self._loop.call_at(tick * TICK_S, self._end, tick)
        return waits

    def _end(self, tick: int) -> None:
        for wait in self._waits_by_tick.pop(tick):
            wait.is_over = True
            wait.task.cancel()


@dataclass(slots=True, eq=False)
class _Wait:
    """One coroutine that has a deadline. `requests_before` is `Task.cancelling()` at its beginning."""

    task: asyncio.Task[Any]
    requests_before: int
    is_over: bool = False


class EventLoop:
    """An event loop on its own thread. Lives as long as the process; safe to call from many threads.

    The first coroutine starts the thread, so the thread starts after the fork. A child process starts its own.
    `computing_threads` limits concurrent calls of `compute`; `waiting_threads` limits concurrent calls of `block` and
    `asyncio.to_thread`. Coroutines on the loop use `deadlines`.
    """

    deadlines: Deadlines

    def __init__(self, computing_threads: int = COMPUTING_THREADS, waiting_threads: int = WAITING_THREADS) -> None:
        self._computing_threads = computing_threads
        self._waiting_threads = waiting_threads
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._executor: ThreadPoolExecutor | None = None

    def run(self, coroutine: Coroutine[Any, Any, ResultT], timeout_s: float | None = None) -> ResultT:
        """Run a coroutine in the caller's context, wait for it in the calling thread, and return its result.

        Raises:
            TimeoutError: the coroutine took longer than `timeout_s` and was cancelled.
            RuntimeError: the caller runs on the event loop and would wait for itself.
        """
        if self.is_here:
            coroutine.close()
            raise RuntimeError("an async step cannot wait for the event loop that it runs on: await it instead")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise
        except concurrent.futures.CancelledError:
            raise RuntimeError("the event loop has ended") from None

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call a function on the thread of the event loop. The function must not block."""
        self._started().call_soon_threadsafe(call)

    async def compute(self, function: Callable[[*ArgumentTs], ResultT], *arguments: *ArgumentTs) -> ResultT:
        """Call a function that computes and does not wait, in a thread and in the caller's context.

        A running function cannot be interrupted, so a cancelled caller waits for its end.
        """
        return await self._in_thread(self._executor, function, *arguments)

    async def block(self, function: Callable[[*ArgumentTs], ResultT], *arguments: *ArgumentTs) -> ResultT:
        """Call a function that may wait. Otherwise like `compute`."""
        return await self._in_thread(None, function, *arguments)

    async def _in_thread(
        self, executor: ThreadPoolExecutor | None, function: Callable[[*ArgumentTs], ResultT], *arguments: *ArgumentTs
    ) -> ResultT:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(executor, context.run, function, *arguments)
        try:
            result: ResultT = await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
        for variable, value in context.items():
            if variable.get(ABSENT) is not value:
                variable.set(value)
        return result

    @property
    def runs(self) -> bool:
        """Whether the loop has been started in this process."""
        return self._loop is not None and self._pid == os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on the event loop."""
        return threading.current_thread() is self._thread

    def close(self, timeout_s: float = 2.0) -> None:
        """Cancel running tasks and end the thread."""
        with self._lock:
            loop, thread = (self._loop, self._thread) if self._pid == os.getpid() else (None, None)
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout_s)
            if self._executor is not None:
                self._executor.shutdown(wait=False)

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None or self._pid != os.getpid():
            with self._lock:
                if self._loop is None or self._pid != os.getpid():
                    self._loop, self._pid = _new_loop(), os.getpid()
                    self.deadlines = Deadlines(self._loop)
                    self._loop.set_default_executor(ThreadPoolExecutor(self._waiting_threads, "retort-waiting"))
                    self._executor = ThreadPoolExecutor(self._computing_threads, "retort-computing")
                    self._thread = threading.Thread(
                        target=_run, args=(self._loop,), name="retort-event-loop", daemon=True
                    )
                    self._thread.start()
                loop = self._loop
        return loop


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop of uvloop if it is installed, because it is faster."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped, then cancel and close the remaining tasks."""
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


# --- running the steps of a request


class ThreadRunner:
    """A runner of steps in the thread of their request. The thread blocks for each coroutine: see `completed`."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    async def wait(self, coroutine: Coroutine[Any, Any, ResultT], until_s: float) -> ResultT:
        """Block the thread until the coroutine is done."""
        return self._loop.run(coroutine, until_s - time.monotonic())

    async def compute(self, function: Callable[[*ArgumentTs], ResultT], *arguments: *ArgumentTs) -> ResultT:
        """Call the function in this thread."""
        return function(*arguments)


class LoopRunner:
    """A runner of steps on the event loop. Slow computation runs in a thread instead."""

    def __init__(self, loop: EventLoop, is_quick: bool) -> None:
        self._loop = loop
        self._is_quick = is_quick

    def wait(self, coroutine: Coroutine[Any, Any, ResultT], until_s: float) -> Coroutine[Any, Any, ResultT]:
        """Await the coroutine."""
        return self._loop.deadlines.wait(coroutine, until_s)

    async def compute(self, function: Callable[[*ArgumentTs], ResultT], *arguments: *ArgumentTs) -> ResultT:
        """Call the function on the loop if it is quick, else in a thread."""
        return function(*arguments) if self._is_quick else await self._loop.compute(function, *arguments)


StepRunner = ThreadRunner | LoopRunner
"""Runs the steps of a request: `wait` awaits a coroutine until a monotonic time, `compute` calls a function."""


def completed(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine that never suspends (as with `ThreadRunner`) and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: ResultT = end.value
        return result
    coroutine.close()
    raise AssertionError("a coroutine that runs in a thread was suspended")
