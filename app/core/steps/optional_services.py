"""Services of the optional extras: HTTP clients (`http`) and a database session (`sql`), if they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator

from app.core.steps.definitions import Factory
from app.settings import Settings


def factories(settings: Settings) -> list[Factory]:
    """Return the factories of the services that are installed and configured."""
    found: list[Factory] = []
    if installed("aiohttp"):
        found += _aiohttp(settings)
    if installed("httpx"):
        found += _httpx(settings)
    if settings.database_url and installed("sqlalchemy"):
        found += _sql(settings.database_url)
    return found


def installed(name: str) -> bool:
    """Return whether a module of this name is installed."""
    return importlib.util.find_spec(name) is not None


def timeouts() -> tuple[type[Exception], ...]:
    """Return the exceptions that a client raises when another service does not answer in time."""
    if not installed("httpx"):
        return (TimeoutError,)
    import httpx

    return (TimeoutError, httpx.TimeoutException)


def _httpx(settings: Settings) -> list[Factory]:
    """Return the factories of httpx's clients.

    The blocking client is for blocking steps. The async one works in async steps, but costs several times as much as
    aiohttp's.
    """
    import httpx

    timeout_s = float(settings.request_timeout_s)

    def limits(most: int) -> httpx.Limits:
        return httpx.Limits(max_connections=most, max_keepalive_connections=most)

    def client() -> Iterator[httpx.Client]:
        with httpx.Client(limits=limits(settings.waiting_threads), timeout=timeout_s) as made:
            yield made

    async def async_client() -> AsyncIterator[httpx.AsyncClient]:
        most = limits(settings.connections_per_host)
        async with httpx.AsyncClient(limits=most, timeout=timeout_s, trust_env=False) as made:
            yield made

    return [Factory(httpx.Client, client, "process"), Factory(httpx.AsyncClient, async_client, "process")]


def _aiohttp(settings: Settings) -> list[Factory]:
    """Return the factory of the session that async steps share. It keeps connections, but no cookies.

    Cookies would leak between clients. The session needs no timeout, because a step is cancelled at its request's
    deadline.
    """
    import aiohttp

    async def session() -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=settings.connections_per_host)
        no_timeout, jar = aiohttp.ClientTimeout(total=None), aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, timeout=no_timeout, cookie_jar=jar) as made:
            yield made

    return [Factory(aiohttp.ClientSession, session, "process")]


def _sql(url: str) -> list[Factory]:
    import sqlalchemy
    from sqlalchemy.orm import Session

    # Some platforms set an older name of the same dialect.
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
