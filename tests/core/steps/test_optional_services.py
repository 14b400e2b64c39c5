"""Services that steps may request if an extra is installed."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest
import sqlalchemy
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app.core.steps import Step, StepModule, optional_services
from app.core.steps.event_loop import LoopRunner
from app.core.steps.services import Services
from app.settings import Settings

MOST = 3


def log_instances(instances: list[object]) -> None: ...


@pytest.fixture
def offered() -> Iterator[Services]:
    made = Services(StepModule({"log": Step("log", log_instances)}), Settings(connections_per_host=MOST))
    yield made
    made.close()


class Upstream:
    """Answer each request with its cookies, when `opened` is set, and set a cookie."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.connections = self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await self._head(reader):
            self.asked += 1
            await self.opened.wait()
            body = b"cookies" if b"cookie:" in head.lower() else b"no cookies"
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""


def test_all_requests_share_one_session_with_a_limit_per_host_and_without_cookies(offered: Services) -> None:
    async def asks() -> tuple[list[bytes], int, int]:
        upstream = Upstream()
        async with await asyncio.start_server(upstream.serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

            async def ask() -> bytes:
                session = await offered.container().aget(aiohttp.ClientSession)
                async with session.get(url) as answer:
                    return await answer.read()

            tasks = [asyncio.create_task(ask()) for _ in range(2 * MOST)]
            while upstream.asked < MOST:
                await asyncio.sleep(0)
            at_once = upstream.asked
            upstream.opened.set()
            bodies = await asyncio.gather(*tasks)
            session = await offered.container().aget(aiohttp.ClientSession)
            await session.close()
            return bodies, at_once, upstream.connections

    bodies, at_once, connections = offered.loop.run(asks())
    assert bodies == [b"no cookies"] * (2 * MOST)
    assert (at_once, connections) == (MOST, MOST)


@pytest.mark.parametrize("client", [aiohttp.ClientSession, httpx.AsyncClient])
def test_clients_of_async_steps_are_made_once_and_closed_at_the_end(offered: Services, client: type) -> None:
    async def both() -> list[object]:
        return [await offered.container().aget(client) for _ in range(2)]

    one, same = offered.loop.run(both())
    assert one is same
    assert offered.awaited(client)
    offered.close()
    assert getattr(one, "closed", None) or one.is_closed  # type: ignore[attr-defined]


def test_blocking_steps_have_a_client_of_their_own(offered: Services) -> None:
    assert isinstance(offered.container().get(httpx.Client), httpx.Client)
    assert not offered.awaited(httpx.Client)


@pytest.fixture
def with_database(tmp_path: Path) -> Callable[[str], contextlib.AbstractContextManager[Services]]:
    """Services of a database with one table, by the driver of SQLite."""
    path = tmp_path / "people.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table people (name text)")

    @contextlib.contextmanager
    def offer(driver: str) -> Iterator[Services]:
        settings = Settings(database_url=f"sqlite+{driver}:///{path}")
        made = Services(StepModule({"log": Step("log", log_instances)}), settings)
        try:
            yield made
        finally:
            made.close()

    return offer


WithDatabase = Callable[[str], contextlib.AbstractContextManager[Services]]
NAMES = sqlalchemy.text("select name from people")
ADD = sqlalchemy.text("insert into people values (:name)")


def test_an_async_step_has_a_session_of_its_request(with_database: WithDatabase) -> None:
    with with_database("aiosqlite") as offered:
        way = LoopRunner(offered.loop, is_quick=True)

        async def asks(name: str, keeps: bool) -> tuple[AsyncSession, AsyncEngine, list[str]]:
            container = offered.container()
            try:
                session = await container.aget(AsyncSession)
                assert session is await container.aget(AsyncSession)
                await session.execute(ADD, {"name": name})
                if keeps:
                    await session.commit()
                return session, await container.aget(AsyncEngine), list(await session.scalars(NAMES))
            finally:
                await offered.clean_up(container, way)

        first, engine, names = offered.loop.run(asks("Ada", keeps=True))
        second, same, _ = offered.loop.run(asks("Bob", keeps=False))
        assert (names, engine is same, first is second) == (["Ada"], True, False)
        assert offered.loop.run(asks("Cleo", keeps=True))[2] == ["Ada", "Cleo"], "what is not committed is undone"
        assert offered.awaited(AsyncSession)
        assert offered.failing() == []
        assert Session not in offered.registry, "the driver has no blocking form"


def test_an_object_of_an_async_session_stays_readable_after_a_commit(with_database: WithDatabase) -> None:
    class Base(DeclarativeBase): ...

    class Person(Base):
        __tablename__ = "people"
        name: Mapped[str] = mapped_column(primary_key=True)

    with with_database("aiosqlite") as offered:

        async def adds() -> str:
            container = offered.container()
            try:
                session = await container.aget(AsyncSession)
                ada = Person(name="Ada")
                session.add(ada)
                await session.commit()
                return ada.name
            finally:
                await offered.clean_up(container, LoopRunner(offered.loop, is_quick=True))

        assert offered.loop.run(adds()) == "Ada"


def test_a_blocking_driver_has_no_async_session(with_database: WithDatabase) -> None:
    with with_database("pysqlite") as offered:
        assert AsyncSession not in offered.registry
        container = offered.container()
        assert list(container.get(Session).scalars(NAMES)) == []
        engine = container.get(sqlalchemy.Engine)
        connections = engine.pool
        container.close()
        assert engine.pool is connections
    assert engine.pool is not connections, "the engine is disposed at the end"


def test_a_driver_that_has_both_forms_has_both_sessions() -> None:
    found = optional_services.factories(Settings(database_url="postgresql+psycopg://localhost/people"))
    assert {Session, AsyncSession} <= {each.type for each in found}


def test_a_database_that_cannot_be_used_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = optional_services.factories(Settings(database_url="mysql2://localhost/secret"))
    assert Session not in {each.type for each in found}
    assert "DATABASE_URL cannot be used" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("collector", ["http://127.0.0.1:9", ""])
def test_clients_name_the_current_span_while_traces_are_on(collector: str) -> None:
    sent: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def asks(services: Services, url: str) -> None:
        session = await services.container().aget(aiohttp.ClientSession)
        async with session.get(url):
            client = await services.container().aget(httpx.AsyncClient)
            await client.get(url)
        await session.close()
        await client.aclose()

    identity = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    steps = StepModule({"log": Step("log", log_instances)})
    services = Services(steps, Settings(otel_exporter_otlp_endpoint=collector))
    with contextlib.closing(services), trace.use_span(NonRecordingSpan(identity)):
        server = services.loop.run(asyncio.start_server(serve, "127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        services.loop.run(asks(services, url))
        services.container().get(httpx.Client).get(url)
        services.loop.run(closed(server))
    named = b"\r\ntraceparent: 00-%032x-%016x-01\r\n" % (1, 2)
    assert [named in head.lower() for head in sent] == [bool(collector)] * 3


async def closed(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()
