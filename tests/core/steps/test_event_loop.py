"""The event loop of the process: start, context, threads and end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from app.core.steps.event_loop import EventLoop, LoopRunner, ThreadRunner, completed
from app.telemetry import RequestScope, current_request, request_id


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    made = EventLoop()
    yield made
    made.close()


async def named() -> tuple[str, str]:
    await asyncio.sleep(0)
    return threading.current_thread().name, request_id()


def test_the_loop_starts_with_the_first_coroutine(loop: EventLoop) -> None:
    assert not loop.runs
    token = current_request.set(RequestScope("abc"))
    try:
        assert loop.run(named()) == ("retort-event-loop", "abc")
    finally:
        current_request.reset(token)
    assert loop.runs


def test_exceptions_of_a_coroutine_are_raised_in_the_caller(loop: EventLoop) -> None:
    async def fails() -> None:
        raise LookupError("no such customer")

    with pytest.raises(LookupError, match="no such customer"):
        loop.run(fails())


def test_a_coroutine_that_takes_too_long_is_cancelled(loop: EventLoop) -> None:
    cancelled = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(TimeoutError):
        loop.run(waits(), 0.01)
    assert cancelled.wait(2.0)


def test_the_loop_cannot_wait_for_itself(loop: EventLoop) -> None:
    async def asks_itself() -> None:
        loop.run(named())

    with pytest.raises(RuntimeError, match="await it instead"):
        loop.run(asks_itself())


def test_callers_that_wait_while_the_loop_ends_get_an_error(loop: EventLoop) -> None:
    begun = threading.Event()
    told: list[BaseException] = []

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    def ask() -> None:
        try:
            loop.run(waits())
        except RuntimeError as error:
            told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(2.0)
    loop.close()
    thread.join(2.0)
    assert "event loop has ended" in str(told[0])
    assert not loop.runs


MARK: ContextVar[str] = ContextVar("MARK", default="none")


def mark(value: str) -> tuple[str, str]:
    before = MARK.get()
    MARK.set(value)
    return before, threading.current_thread().name


def test_computing_in_a_thread_shares_the_context_of_the_caller(loop: EventLoop) -> None:
    async def caller() -> tuple[str, str, str]:
        MARK.set("caller")
        seen, thread = await loop.compute(mark, "computed")
        return seen, thread, MARK.get()

    seen, thread, left = loop.run(caller())
    assert (seen, left) == ("caller", "computed")
    assert thread.startswith("retort-computing")
    assert MARK.get() == "none"


def test_a_cancelled_caller_waits_for_its_computation(loop: EventLoop) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def compute() -> None:
        begun.set()
        may_end.wait(5.0)
        ended.set()

    async def cancel() -> bool:
        task = asyncio.create_task(loop.compute(compute))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        waited = not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return waited and ended.is_set()

    assert loop.run(cancel())


def test_thousands_of_coroutines_wait_on_one_thread(loop: EventLoop) -> None:
    async def many() -> int:
        opened, threads = asyncio.Event(), threading.active_count()
        tasks = [asyncio.create_task(opened.wait()) for _ in range(5_000)]
        await asyncio.sleep(0)
        more = threading.active_count() - threads
        opened.set()
        await asyncio.gather(*tasks)
        return more

    assert loop.run(many()) == 0


def test_a_request_in_a_thread_and_one_on_the_loop_run_the_same_coroutine(loop: EventLoop) -> None:
    async def predicts(runner: ThreadRunner | LoopRunner) -> list[str]:
        waited, _ = await runner.wait(named(), time.monotonic() + 5.0)
        _, computed = await runner.compute(mark, "computed")
        return [waited, computed]

    here = threading.current_thread().name
    on_loop = "retort-event-loop"
    assert completed(predicts(ThreadRunner(loop))) == [on_loop, here]
    assert loop.run(predicts(LoopRunner(loop, is_quick=True))) == [on_loop, on_loop]
    assert loop.run(predicts(LoopRunner(loop, is_quick=False)))[1].startswith("retort-computing")
