"""Tests of a line with a long delay that delivers a few bytes at a time, as in mobile networks."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.end_to_end.process import Server
from tests.server.served import Talk, worker_server

pytestmark = pytest.mark.server

DELAY_S = 0.2
PIECE_BYTES = 100
CLIENTS = 20
BODY = bytes(range(256)) * 8


async def delayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on in pieces, each after the delay."""
    loop = asyncio.get_running_loop()
    while piece := await reader.read(PIECE_BYTES):
        loop.call_later(DELAY_S, writer.write, piece)
    loop.call_later(DELAY_S, writer.close)


async def through_a_slow_line(server: Server) -> list[tuple[int, bytes, bool]]:
    """Send requests at once through such a line, and return the answers."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(delayed(reader, to_server), delayed(from_server, writer))

    async def one(port: int) -> tuple[int, bytes, bool]:
        talk = Talk(port)
        answer = await talk.ask("/echo", BODY)
        await talk.close()
        return answer

    line = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    async with line:
        port = line.sockets[0].getsockname()[1]
        answers = await asyncio.gather(*(one(port) for _ in range(CLIENTS)))
        await asyncio.sleep(3 * DELAY_S)  # the last bytes in both directions
    return answers


@pytest.mark.fault("N13")
def test_n13_a_slow_line_costs_no_request(tmp_path: Path) -> None:
    with worker_server(tmp_path) as server:
        answers = asyncio.run(through_a_slow_line(server))
    assert {(status, content) for status, content, _ in answers} == {(200, BODY)}
    assert len(answers) == CLIENTS
