"""Services of the extras, where they are installed: HTTP clients (`http`), and a session of a database (`sql`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.core.steps import Factory
from app.settings import Settings

if TYPE_CHECKING:
    import httpx


def factories(settings: Settings) -> list[Factory]:
    """The factories of what is installed and set up."""
    found = _http(settings) if installed("httpx") else []
    return found + (_sql(settings.database_url) if settings.database_url and installed("sqlalchemy") else [])


def installed(name: str) -> bool:
    """Whether there is such a module."""
    return importlib.util.find_spec(name) is not None


def timeouts() -> tuple[type[Exception], ...]:
    """What is raised where another service did not answer in time."""
    if not installed("httpx"):
        return (TimeoutError,)
    import httpx

    return (TimeoutError, httpx.TimeoutException)


def async_client(settings: Settings) -> httpx.AsyncClient | None:
    """The client that async steps share; it opens no connection before it is used, and then on their event loop."""
    if not installed("httpx"):
        return None
    import httpx

    from app.core.pools import ManyPools

    return httpx.AsyncClient(
        transport=ManyPools(settings.waiting_threads), timeout=float(settings.request_timeout_s), trust_env=False
    )


def _limits(settings: Settings) -> httpx.Limits:
    """As many connections as requests may wait for them."""
    import httpx

    most = settings.waiting_threads
    return httpx.Limits(max_connections=most, max_keepalive_connections=most)


def _http(settings: Settings) -> list[Factory]:
    import httpx

    def client() -> Iterator[httpx.Client]:
        with httpx.Client(limits=_limits(settings), timeout=float(settings.request_timeout_s)) as made:
            yield made

    return [Factory(httpx.Client, client, "process")]


def _sql(url: str) -> list[Factory]:
    import sqlalchemy
    from sqlalchemy.orm import Session

    # What some platforms set is an older name of the same dialect.
    url = "postgresql" + url.removeprefix("postgres") if url.startswith("postgres://") else url

    def engine() -> Iterator[sqlalchemy.Engine]:
        made = sqlalchemy.create_engine(url)
        yield made
        made.dispose()

    def session(engine: sqlalchemy.Engine) -> Iterator[Session]:
        with Session(engine) as made:
            yield made

    def answers(engine: sqlalchemy.Engine) -> None:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("select 1"))

    return [
        Factory(sqlalchemy.Engine, engine, "process", answers),
        Factory(Session, session, "request", None, {"engine": sqlalchemy.Engine}),
    ]
