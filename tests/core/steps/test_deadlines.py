"""Deadlines of coroutines and their cancellation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from app.core.steps.event_loop import TICK_S, Deadlines

SOON_S = 0.02


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(test)


async def forever() -> None:
    await asyncio.Event().wait()


def deadlines() -> Deadlines:
    return Deadlines(asyncio.get_running_loop())


def test_the_result_is_returned_and_errors_are_raised() -> None:
    async def one() -> str:
        await asyncio.sleep(0)
        return "one"

    async def fails() -> None:
        raise LookupError("nothing")

    async def test() -> None:
        ours = deadlines()
        assert await ours.wait(one(), time.monotonic() + 60.0) == "one"
        with pytest.raises(LookupError, match="nothing"):
            await ours.wait(fails(), time.monotonic() + 60.0)

    run(test())


@pytest.mark.parametrize("in_s", [-1.0, 0.0, SOON_S])
def test_a_coroutine_is_cancelled_at_its_deadline_and_not_before(in_s: float) -> None:
    async def test() -> None:
        until_s = time.monotonic() + in_s
        with pytest.raises(TimeoutError):
            await deadlines().wait(forever(), until_s)
        assert time.monotonic() >= until_s - 0.002  # uvloop and asyncio count milliseconds
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(test())


def test_coroutines_with_deadlines_close_to_each_other_share_a_timer() -> None:
    class CountingLoop:
        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self.loop = loop
            self.times_s: list[float] = []

        def call_at(self, when_s: float, *call: Any) -> Any:
            self.times_s.append(when_s)
            return self.loop.call_at(when_s, *call)

    async def test() -> list[float]:
        loop = CountingLoop(asyncio.get_running_loop())
        ours = Deadlines(loop)  # type: ignore[arg-type]
        until_s = (time.monotonic() + SOON_S) // TICK_S * TICK_S + TICK_S / 4
        waits = [ours.wait(forever(), until_s + number * TICK_S / 400) for number in range(100)]
        ended = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(each) for each in ended} == {TimeoutError}
        return loop.times_s

    assert len(run(test())) == 1


def test_a_cancelled_task_is_cancelled_and_not_late() -> None:
    async def test() -> None:
        task = asyncio.create_task(deadlines().wait(forever(), time.monotonic() + 60.0))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test())


def test_a_task_that_is_cancelled_at_its_deadline_too_is_cancelled() -> None:
    async def test() -> None:
        until_s = time.monotonic() + SOON_S
        task = asyncio.create_task(deadlines().wait(forever(), until_s))
        asyncio.get_running_loop().call_at((until_s // TICK_S + 1) * TICK_S, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test())


def test_the_inner_of_two_deadlines_of_a_task_ends_only_the_inner_coroutine() -> None:
    async def test() -> str:
        ours = deadlines()

        async def outer() -> str:
            with pytest.raises(TimeoutError):
                await ours.wait(forever(), time.monotonic() + SOON_S)
            await asyncio.sleep(0)
            return "goes on"

        return await ours.wait(outer(), time.monotonic() + 60.0)

    assert run(test()) == "goes on"


def test_a_coroutine_that_ended_is_not_cancelled_later() -> None:
    async def test() -> None:
        ours = deadlines()
        await ours.wait(asyncio.sleep(0), time.monotonic() + SOON_S)
        await asyncio.sleep(SOON_S + 3 * TICK_S)

    run(test())


def test_an_error_of_a_coroutine_that_is_cancelled_is_raised() -> None:
    async def test() -> None:
        async def fails() -> None:
            try:
                await forever()
            finally:
                raise LookupError("at the end")

        with pytest.raises(LookupError, match="at the end"):
            await deadlines().wait(fails(), time.monotonic() + SOON_S)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(test())
