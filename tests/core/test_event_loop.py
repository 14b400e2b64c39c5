"""The event loop of the process: started when it is needed, with the context of who asks, ended cleanly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from app.core.event_loop import EventLoop
from app.telemetry import RequestScope, current_request, request_id


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    made = EventLoop()
    yield made
    made.close()


async def named() -> tuple[str, str]:
    await asyncio.sleep(0)
    return threading.current_thread().name, request_id()


def test_it_starts_with_the_first_coroutine(loop: EventLoop) -> None:
    assert not loop.runs
    token = current_request.set(RequestScope("abc"))
    try:
        assert loop.run(named()) == ("retort-event-loop", "abc")
    finally:
        current_request.reset(token)
    assert loop.runs


def test_what_a_coroutine_raises_is_raised_here(loop: EventLoop) -> None:
    async def fails() -> None:
        raise LookupError("no such customer")

    with pytest.raises(LookupError, match="no such customer"):
        loop.run(fails())


def test_what_takes_too_long_is_cancelled(loop: EventLoop) -> None:
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


def test_it_cannot_wait_for_itself(loop: EventLoop) -> None:
    async def asks_itself() -> None:
        loop.run(named())

    with pytest.raises(RuntimeError, match="await it instead"):
        loop.run(asks_itself())


def test_who_waits_while_it_ends_is_told(loop: EventLoop) -> None:
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
    assert "ended meanwhile" in str(told[0])
    assert not loop.runs
