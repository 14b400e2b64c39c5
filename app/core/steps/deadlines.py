"""Deadlines of coroutines that wait on the event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

TICK_S = 0.01
"""The deadlines in an interval of this length share a timer."""

ResultT = TypeVar("ResultT")


class Deadlines:
    """Cancels coroutines at their deadlines, up to `TICK_S` late. Belongs to the thread of an event loop.

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
        wait, waits = _Wait(task), self._waits_at(math.ceil(until_s / TICK_S))
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


class _Wait:
    """One coroutine, and the number of requests to cancel its task at the beginning (`Task.cancelling`)."""

    __slots__ = ("is_over", "requests_before", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.requests_before = task.cancelling()
        self.is_over = False
