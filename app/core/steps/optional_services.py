"""Services of the optional extras: HTTP clients (`http`) and database sessions (`sql`), if they are installed."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from app.core.steps.definitions import Factory
from app.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import URL

log = logging.getLogger(__name__)


def factories(settings: Settings) -> list[Factory]:
    """Return the factories of the services that are installed and configured.

    While traces are on, HTTP clients send the span of the current request in the header `traceparent`.
    """
    available: list[Factory] = []
    if installed("aiohttp"):
        available += _aiohttp(settings)
    if installed("httpx"):
        available += _httpx(settings)
    if settings.database_url and installed("sqlalchemy"):
        available += _sql(settings.database_url)
    return available


def installed(name: str) -> bool:
    """Return whether a module of this name is installed."""
    return importlib.util.find_spec(name) is not None


def traces(settings: Settings) -> bool:
    """Return whether traces are on, and OpenTelemetry is installed."""
    return settings.traces and installed("opentelemetry")


def timeouts() -> tuple[type[Exception], ...]:
    """Return the exceptions that a client raises when another service does not answer in time."""
    if not installed("httpx"):
        return (TimeoutError,)
    import httpx

    return (TimeoutError, httpx.TimeoutException)


def _httpx(settings: Settings) -> list[Factory]:
    """Return the factories of httpx's clients.

    The blocking client is for blocking steps. The async client is for async steps, but takes several times as long as
    aiohttp's session.
    """
    import httpx

    timeout_s = float(settings.request_timeout_s)
    hooks: list[Callable[..., Any]] = []
    async_hooks: list[Callable[..., Any]] = []
    if traces(settings):
        from opentelemetry import propagate

        async def inject_async(request: httpx.Request) -> None:
            propagate.inject(request.headers)

        hooks.append(lambda request: propagate.inject(request.headers))
        async_hooks.append(inject_async)

    def limits(most: int) -> httpx.Limits:
        return httpx.Limits(max_connections=most, max_keepalive_connections=most)

    def client() -> Iterator[httpx.Client]:
        most = limits(settings.waiting_threads)
        with httpx.Client(limits=most, timeout=timeout_s, event_hooks={"request": hooks}) as http:
            yield http

    async def async_client() -> AsyncIterator[httpx.AsyncClient]:
        most = limits(settings.connections_per_host)
        events = {"request": async_hooks}
        async with httpx.AsyncClient(limits=most, timeout=timeout_s, trust_env=False, event_hooks=events) as http:
            yield http

    return [Factory(httpx.Client, client, "process"), Factory(httpx.AsyncClient, async_client, "process")]


def _aiohttp(settings: Settings) -> list[Factory]:
    """Return the factory of the session that async steps share. It keeps connections, but no cookies.

    Cookies would leak between clients. The session needs no timeout, because a step is cancelled at the deadline of
    its request.
    """
    import aiohttp

    traced: list[aiohttp.TraceConfig] = []
    if traces(settings):
        from opentelemetry import propagate

        async def inject(
            session: aiohttp.ClientSession, context: object, sent: aiohttp.TraceRequestStartParams
        ) -> None:
            propagate.inject(sent.headers)

        traced.append(aiohttp.TraceConfig())
        traced[0].on_request_start.append(inject)

    async def session() -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=settings.connections_per_host)
        no_timeout, jar = aiohttp.ClientTimeout(total=None), aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(
            connector=connector, timeout=no_timeout, cookie_jar=jar, trace_configs=traced
        ) as http:
            yield http

    return [Factory(aiohttp.ClientSession, session, "process")]


def _sql(url: str) -> list[Factory]:
    """Return the factories of the sessions that the driver of a database supports: blocking, async, or both."""
    from sqlalchemy import exc

    from app.storage.database import database_url

    try:
        parsed = database_url(url)
        dialect = parsed.get_dialect()
    except exc.ArgumentError as error:  # no error: a platform may set the variable for another program
        log.warning("steps get no session of a database, since DATABASE_URL cannot be used: %s", error)
        return []
    blocking = [] if dialect.is_async else _blocking_sessions(parsed)
    return blocking + (_async_sessions(parsed) if dialect.get_async_dialect_cls(parsed).is_async else [])


def _blocking_sessions(url: URL) -> list[Factory]:
    """Return the factories of an engine per process, and of a session per request."""
    from sqlalchemy import Engine, create_engine, text
    from sqlalchemy.orm import Session

    def engine() -> Iterator[Engine]:
        new_engine = create_engine(url)
        yield new_engine
        new_engine.dispose()

    def session(engine: Engine) -> Iterator[Session]:
        with Session(engine) as new_session:
            yield new_session

    def ping(engine: Engine) -> None:
        with engine.connect() as connection:
            connection.execute(text("select 1"))

    return [Factory(Engine, engine, "process", ping), Factory(Session, session, "request", None, {"engine": Engine})]


def _async_sessions(url: URL) -> list[Factory]:
    """Like `_blocking_sessions`, for async steps.

    Objects stay loaded after a commit (`expire_on_commit`), because reading an attribute cannot await the database.
    """
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

    async def engine() -> AsyncIterator[AsyncEngine]:
        new_engine = create_async_engine(url)
        yield new_engine
        await new_engine.dispose()

    async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine, expire_on_commit=False) as new_session:
            yield new_session

    async def ping(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))

    return [
        Factory(AsyncEngine, engine, "process", ping),
        Factory(AsyncSession, session, "request", None, {"engine": AsyncEngine}),
    ]
