"""Tests with a wall clock that jumps by an hour while a server serves, keeps deadlines, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.process import Server, serving
from tests.server.clock import WallClock
from tests.server.reference import statuses_in
from tests.server.served import Outcomes, Talk, load, worker_server

pytestmark = [pytest.mark.server, pytest.mark.needs_program("gcc")]

HOUR_S = 3600
both_ways = pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WallClock]:
    made = WallClock(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    with contextlib.closing(made):
        yield made


def ahead_s(server: Server) -> float:
    """Return how far the server's wall clock is ahead, by the Date of a response."""
    date = email.utils.parsedate_to_datetime(server.ask("GET", "/livez").headers["Date"])
    return date.timestamp() - time.time()


@both_ways
@pytest.mark.fault("P11")
def test_p11_the_clock_jumps_while_the_server_serves(tmp_path: Path, clock: WallClock, seconds: int) -> None:
    async def run(server: Server) -> Outcomes:
        async with load(server.port, 8, "/echo?sleep_s=0.01") as outcomes:
            await asyncio.sleep(0.3)
            clock.jump(seconds)
            await asyncio.sleep(2.8)  # longer than the master waits for a heartbeat
        return outcomes

    with worker_server(tmp_path, workers=2, timeout=2, limits={"queue_max_wait_s": 5.0}) as server:
        before = server.all_workers(2)
        outcomes = asyncio.run(run(server))
        assert ahead_s(server) == pytest.approx(seconds, abs=30)
        assert server.workers == before
    assert set(outcomes.count) == {"200"}, outcomes.count
    assert outcomes.percentile_s("200", 1.0) < 2.0


@pytest.mark.own_worker("it has no deadlines")
@both_ways
@pytest.mark.fault("P11")
def test_p11_the_clock_jumps_while_deadlines_run(tmp_path: Path, clock: WallClock, seconds: int) -> None:
    async def run(server: Server) -> dict[str, tuple[int, float]]:
        async def ask(path: str, headers: str = "") -> tuple[int, float]:
            talk, began_s = Talk(server.port), time.monotonic()
            status, _, _ = await asyncio.wait_for(talk.ask(path, b"x", headers), 30)
            await talk.close()
            return status, time.monotonic() - began_s

        async def half_a_head() -> tuple[int, float]:
            began_s = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nX-")
            told = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return statuses_in(told)[0], time.monotonic() - began_s

        asked = {
            "runs": asyncio.create_task(ask("/echo?sleep_s=1.5")),
            "runs late": asyncio.create_task(ask("/echo?sleep_s=1.5", "X-Request-Timeout: 800ms\r\n")),
            "half": asyncio.create_task(half_a_head()),
        }
        await asyncio.sleep(0.2)
        asked["waits"] = asyncio.create_task(ask("/echo"))
        await asyncio.sleep(0.1)
        clock.jump(seconds)
        return {name: await task for name, task in asked.items()}

    with worker_server(tmp_path, threads=2, limits={"head_s": 1.0, "queue_max_wait_s": 0.6}) as server:
        told = asyncio.run(run(server))
        assert abs(ahead_s(server)) > HOUR_S / 2
    assert {name: status for name, (status, _) in told.items()} == {
        "runs": 200,
        "runs late": 504,
        "half": 408,
        "waits": 503,
    }
    for name, due_s in {"runs": 1.5, "runs late": 0.8, "half": 1.0, "waits": 0.6}.items():
        assert due_s - 0.05 < told[name][1] < due_s + 20.0, (name, told)


@both_ways
@pytest.mark.fault("P11")
def test_p11_the_clock_jumps_while_the_server_stops(tmp_path: Path, clock: WallClock, seconds: int) -> None:
    (tmp_path / "models").mkdir()
    with (
        serving(tmp_path, RETORT_MODELS_DIR=tmp_path / "models") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as client,
    ):
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert server.ask("GET", "/livez").status == 200  # so the worker has started the requests before
        server.process.terminate()
        time.sleep(0.5)
        clock.jump(seconds)
        time.sleep(1.0)
        client.sendall(b"}".ljust(99))
        assert client.recv(100).startswith(b"HTTP/1.1 404 ")
        assert server.process.wait(60) == 0


@pytest.mark.fault("P11")
def test_p11_only_the_date_is_taken_from_the_wall_clock() -> None:
    sources = (Path(__file__).parents[2] / "app" / "server").glob("*.py")
    named = {path.name: path.read_text("utf-8").count("time.time(") for path in sources}
    assert {name: count for name, count in named.items() if count} == {"answers.py": 1}
