"""Services and their end: clean-ups that hang hold nobody up for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from app.core import services
from app.core.services import Services
from app.core.steps import Factory, Found, Step
from app.settings import Settings


class Ledger:
    """What each request has one of."""


class Book:
    """Another, that is closed without waiting."""

    is_open = True


class HangingClient:
    """A client that never ends."""

    async def aclose(self) -> None:
        await asyncio.Event().wait()


async def hanging_ledger() -> AsyncIterator[Ledger]:
    yield Ledger()
    await asyncio.Event().wait()


def closing_book() -> Iterator[Book]:
    book = Book()
    yield book
    book.is_open = False


def log_instances(instances: list[object]) -> None: ...


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(services, "CHECK_TIMEOUT_S", 0.01)
    factories = (Factory(Book, closing_book), Factory(Ledger, hanging_ledger))
    found = Found({"log": Step("log", log_instances)}, factories)
    one = Services(found, Settings())
    yield one
    one.close()


def test_a_clean_up_after_a_request_that_hangs_is_given_up_and_the_others_are_not(
    made: Services, caplog: pytest.LogCaptureFixture
) -> None:
    container = made.container()
    book = container.get(Book)
    assert isinstance(made.loop.run(container.aget(Ledger)), Ledger)
    made.leave(container)
    assert not book.is_open
    assert "the clean-up after a request was given up" in caplog.text


def test_so_is_that_of_the_client_at_the_end(
    made: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert made._client is not None
    made.loop.run(made._client.aclose())
    monkeypatch.setattr(made, "_client", HangingClient())
    made.close()
    assert "the clean-up of the HTTP client was given up" in caplog.text
    assert not made.loop.runs
