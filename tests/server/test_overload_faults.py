"""Tests of too many or too late requests: short forms."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.end_to_end.process import Server
from tests.server.crowds import median_s, share_of
from tests.server.overload import SLOWER, capacity_per_second, echoes, overload
from tests.server.served import Talk, ask_stats, worker_server

pytestmark = [pytest.mark.server, pytest.mark.alone]

THREADS = 4
MEASURED = 3
"""Number of measurements at most: other processes may use the machine for one of the two or three seconds."""


@pytest.mark.own_worker("it has no admission queue, and works through the requests of clients that have left")
@pytest.mark.fault("O01")
def test_o01_ten_times_overload_is_served_at_capacity_and_the_rest_is_refused_at_once(tmp_path: Path) -> None:
    with worker_server(tmp_path, threads=THREADS) as server:
        told_503 = 0
        for _ in range(MEASURED):
            capacity = capacity_per_second(server, THREADS, 1.5)
            seen = overload(server, 10 * capacity, 3.0)
            assert seen.neither == {}
            told_503 += seen.outcomes.count["503"]
            if seen.goodput_per_second >= 0.85 * capacity and seen.outcomes.percentile_s("503", 0.99) < 0.35:
                break
        assert seen.goodput_per_second >= 0.85 * capacity, seen.outcomes.count
        assert seen.outcomes.percentile_s("503", 0.99) < 0.35
        assert share_of(seen.livez_s, 0.9) < 0.1
        refused = ask_stats(server)["refused"]
        assert refused["queue_wait"] + refused.get("queue_full", 0) == told_503
        assert median_s(server) < 0.05


@pytest.mark.own_worker("it has no admission queue, and works through the requests of clients that have left")
@pytest.mark.fault("O02")
def test_o02_a_retry_storm_does_not_lower_the_goodput(tmp_path: Path) -> None:
    with worker_server(tmp_path, threads=THREADS) as server:
        for _ in range(MEASURED):
            capacity = capacity_per_second(server, THREADS, 1.5, SLOWER)
            seen = overload(server, 5 * capacity, 2.0, SLOWER, tries=3)
            assert seen.neither == {}
            if seen.goodput_per_second >= 0.85 * capacity:
                return
    pytest.fail(f"{seen.goodput_per_second:.3g} of {capacity:.3g} a second: {seen.outcomes.count}")


@pytest.mark.own_worker("it has no deadlines")
@pytest.mark.fault("O04")
def test_o04_a_deadline_of_the_client_is_kept(tmp_path: Path) -> None:
    async def run(server: Server) -> list[tuple[int, float]]:
        async def one(path: str, headers: str) -> tuple[int, float]:
            talk = Talk(server.port)
            began_s = time.monotonic()
            status, _, _ = await talk.ask(path, b"", headers)
            await talk.close()
            return status, time.monotonic() - began_s

        busy = asyncio.create_task(one("/echo?sleep_s=0.4", ""))
        await asyncio.sleep(0.05)
        told = [await one("/echo", "X-Request-Timeout: 50ms\r\n"), await busy]
        told += [await one("/echo?sleep_s=0.4", "X-Request-Timeout: 0.05\r\n")]
        return told

    with worker_server(tmp_path, threads=1, limits={"queue_max_wait_s": 1.0}) as server:
        queued, busy, running = asyncio.run(run(server))
        stats = ask_stats(server)
    assert queued[0] == running[0] == 504
    assert busy[0] == 200
    assert 0.05 <= queued[1] < 0.2
    assert 0.05 <= running[1] < 0.2
    assert stats["threaded"] == 3
    assert stats["refused"]["deadline"] == 2


@pytest.mark.own_worker("it has no deadlines")
@pytest.mark.fault("O06")
def test_o06_no_answer_ever_reaches_another(tmp_path: Path) -> None:
    with worker_server(tmp_path, threads=8) as server:
        outcomes = echoes(server, 3.0, 1_000_000, lambda outcomes, asked: None)
        stats = ask_stats(server)
    assert set(outcomes.count) <= {"200", "503", "504", "abandoned"}, outcomes.count
    assert outcomes.count["200"] > 500
    assert outcomes.count["504"] > 0
    assert stats["late"] > 0
