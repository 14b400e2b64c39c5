"""The lifetimes of services, and clean-ups that hang."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from app.core.steps import Factory, Step, StepModule, services
from app.core.steps.event_loop import ThreadRunner, completed
from app.core.steps.services import Services
from app.errors import InvalidSettings
from app.settings import Settings


class Ledger:
    """A service per request."""


class Book:
    """A service per request with a blocking clean-up."""

    is_open = True


class Client:
    """A service per process."""


async def hanging_ledger() -> AsyncIterator[Ledger]:
    yield Ledger()
    await asyncio.Event().wait()


async def hanging_client() -> AsyncIterator[Client]:
    yield Client()
    await asyncio.Event().wait()


def closing_book() -> Iterator[Book]:
    book = Book()
    yield book
    book.is_open = False


def log_instances(instances: list[object]) -> None: ...


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(services, "CHECK_TIMEOUT_S", 0.01)
    factories = (
        Factory(Book, closing_book),
        Factory(Ledger, hanging_ledger),
        Factory(Client, hanging_client, "process"),
    )
    found = StepModule({"log": Step("log", log_instances)}, factories)
    one = Services(found, Settings())
    yield one
    one.close()


def test_a_hanging_clean_up_after_a_request_is_abandoned_and_others_are_not(
    made: Services, caplog: pytest.LogCaptureFixture
) -> None:
    container = made.container()
    book = container.get(Book)
    assert isinstance(made.loop.run(container.aget(Ledger)), Ledger)
    completed(made.clean_up(container, ThreadRunner(made.loop)))
    assert not book.is_open
    assert "the clean-up after a request was given up" in caplog.text


def test_a_hanging_clean_up_at_the_end_of_the_process_is_abandoned(
    made: Services, caplog: pytest.LogCaptureFixture
) -> None:
    made.loop.run(made.container().aget(Client))
    made.close()
    assert "the clean-up at the end was given up" in caplog.text
    assert not made.loop.runs


def test_an_async_service_per_process_is_made_once_on_the_event_loop(made: Services) -> None:
    async def many() -> list[Client]:
        return await asyncio.gather(*[made.container().aget(Client) for _ in range(20)])

    assert len({id(client) for client in made.loop.run(many())}) == 1
    assert made.awaited(Client)


class Shelf:
    """A service per process that is made of other services."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings, self.client = settings, client


def test_a_factory_per_process_may_ask_for_the_settings_and_common_services() -> None:
    asked = {"settings": Settings, "client": Client}
    found = StepModule({"log": Step("log", log_instances)}, (Factory(Shelf, Shelf, "process", services=asked),))
    settings, client = Settings(), Client()
    one = Services(found, settings)
    try:
        one.complete({Client: client}, {})
        shelf = one.container().get(Shelf)
        assert (shelf.settings, shelf.client) == (settings, client)
        assert shelf is one.container().get(Shelf)
    finally:
        one.close()


def test_a_factory_that_asks_for_an_unknown_service_is_refused() -> None:
    found = StepModule({}, (Factory(Shelf, Shelf, "process", services={"client": Client}),))
    one = Services(found, Settings())
    with pytest.raises(
        InvalidSettings,
        match=r"the factory of .*Shelf asks for .*Client, but no factory with per='process' provides it",
    ):
        one.complete({}, {})
    one.close()
