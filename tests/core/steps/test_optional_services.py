"""Services that steps may request if an extra is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import httpx
import pytest

from app.core.steps import Step, StepModule
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
    """Answers each request with its cookies, when `opened` is set, and sets a cookie."""

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
