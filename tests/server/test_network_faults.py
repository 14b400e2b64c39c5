"""Tests of faults of clients and networks: short forms, each with its figure."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.process import Server
from tests.server.crowds import HALF_BODY, HALF_HEAD, WHOLE, crowd, median_s, slowhttptest
from tests.server.reference import statuses_in
from tests.server.served import Outcomes, ask_stats, connect, cpu_s, load, rss_bytes, worker_server

pytestmark = pytest.mark.server
alone = pytest.mark.alone  # only tests that measure time or memory

WITHIN_S = 20.0


@alone
@pytest.mark.own_worker("it reads in its threads, so that as many slow senders as it has threads stop it")
@pytest.mark.parametrize("says", [HALF_HEAD, HALF_BODY], ids=["n01 heads", "n02 bodies"])
@pytest.mark.fault("N01", "N02")
def test_slow_senders_do_not_affect_other_clients(tmp_path: Path, says: bytes) -> None:
    limits = {"head_s": 2.0, "body_grace_s": 2.0}
    with worker_server(tmp_path, limits=limits) as server, crowd(server, 500, says) as slow:
        assert median_s(server) < 0.05
        assert server.ask("POST", "/echo", "x").content == b"x"
        for one in slow:
            one.settimeout(6)
            assert statuses_in(one.recv(1000)) == [408]
            assert one.recv(1000) == b""


@alone
@pytest.mark.own_worker("it reads in its threads, so that as many slow senders as it has threads stop it")
@pytest.mark.needs_program("slowhttptest")
@pytest.mark.parametrize("kind", ["-H", "-B"])
@pytest.mark.fault("N01", "N02")
def test_slowhttptest_finds_the_service_available(tmp_path: Path, kind: str) -> None:
    with worker_server(tmp_path, limits={"head_s": 3.0, "body_grace_s": 3.0}) as server:
        looks = slowhttptest(server, kind, 300, every_s=1, for_s=5)
    assert set(looks) == {"YES"}


@alone
@pytest.mark.own_worker("it counts nothing")
@pytest.mark.fault("N03", "N04")
def test_n03_n04_silent_and_idle_crowds(tmp_path: Path) -> None:
    with worker_server(tmp_path, keepalive=4, limits={"silent_s": 4.0}) as server:
        (worker,) = server.workers
        assert median_s(server) < 0.05
        before_bytes, before = rss_bytes(worker), ask_stats(server)
        with crowd(server, 1500, b""):
            assert median_s(server) < 0.05
        with crowd(server, 3000, WHOLE) as idle:
            for one in idle:
                one.recv(1000)
            began_s = time.monotonic()
            assert median_s(server) < 0.05
            if time.monotonic() - began_s < 2.0:
                assert ask_stats(server)["connections"]["idle"] > 0.5 * len(idle)
            assert rss_bytes(worker) - before_bytes < 100 * 2**20
            time.sleep(4.5)
            assert ask_stats(server)["fds"] <= before["fds"] + 5
            assert {one.recv(1) for one in idle[:50]} == {b""}


@pytest.mark.own_worker("it leaves the limits of bodies to the application")
@pytest.mark.fault("N05")
def test_n05_a_body_over_the_limit_is_refused_while_it_is_sent(tmp_path: Path) -> None:
    with worker_server(tmp_path, limits={"body_bytes": 1_000_000}) as server:
        for head in (b"Content-Length: 51000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3000000\r\n"):
            with connect(server) as one:
                one.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\n" + head)
                for _ in range(51):
                    one.sendall(bytes(1_000_000))
                told = one.recv(10_000)
                assert statuses_in(told) == [413]
                assert b"Connection: close" in told
        lying = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
        with connect(server) as one:
            one.sendall(lying + b"short")
            one.shutdown(socket.SHUT_WR)
            assert statuses_in(one.recv(10_000)) == [400]
        with connect(server) as one:
            one.sendall(lying + b"longer than ten\r\n\r\n")
            told = b""
            while received := one.recv(10_000):
                told += received
            assert statuses_in(told) == [200, 400]
        assert server.ask("POST", "/length", "x" * 1_000_000).content == b"1000000"


@alone
@pytest.mark.own_worker("it leaves the limits of bodies to the application")
@pytest.mark.fault("N06")
def test_n06_a_million_chunks_and_a_long_extension(tmp_path: Path) -> None:
    head = b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with worker_server(tmp_path) as server:
        (worker,) = server.workers
        good = b"6\r\nxxxxxx\r\n" * 90_000 + b"0\r\n\r\n"
        before_s = cpu_s(worker)
        for _ in range(3):
            with connect(server) as one:
                one.sendall(head + good)
                assert statuses_in(one.recv(10_000)) == [200]
        good_s, before_s, before_bytes = (cpu_s(worker) - before_s) / 3, cpu_s(worker), rss_bytes(worker)
        for content in (b"1\r\nx\r\n" * 1_000_000, b"1;a=" + b"x" * 65_536 + b"\r\n"):
            with connect(server) as one:
                one.sendall(head + content)
                assert statuses_in(one.recv(10_000))[0] in (400, 413)
        assert cpu_s(worker) - before_s < 5 * good_s
        assert rss_bytes(worker) - before_bytes < 20 * 2**20


@pytest.mark.own_worker("it counts nothing")
@pytest.mark.fault("N10")
def test_n10_clients_that_left_hold_no_resources(tmp_path: Path) -> None:
    slow = b"POST /echo?sleep_s=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
    with worker_server(tmp_path, limits={"queue_max_wait_s": 5.0}) as server:
        before = ask_stats(server)
        most_fds, leaving = before["fds"] + 1, []
        for says in (b"", HALF_HEAD, HALF_BODY, *[slow] * 20, WHOLE):
            leaving.append(connect(server))
            leaving[-1].sendall(says)
        stats_when(server, lambda stats: stats["queued"] >= 5)
        for one in leaving:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
        after = stats_when(server, lambda stats: stats["running"] == stats["queued"] == 0 and stats["fds"] <= most_fds)
        assert after["threads"] == before["threads"]
        assert after["left"] >= 10
        assert after["dropped"] >= 5
        assert "Traceback" not in server.output


def stats_when(server: Server, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the statistics of a worker once they hold."""
    until_s = time.monotonic() + WITHIN_S
    while not holds(stats := ask_stats(server)):
        assert time.monotonic() < until_s, stats
        time.sleep(0.02)
    return stats


@pytest.mark.own_worker("it counts nothing")
@pytest.mark.fault("R01")
def test_steady_load_leaves_descriptors_and_threads_flat(tmp_path: Path) -> None:
    async def run(server: Server) -> Outcomes:
        async with load(server.port, 8) as kept, load(server.port, 8, "/quick", keeps=False) as short:
            await asyncio.sleep(1.0)
        return kept.with_those_of(short)

    with worker_server(tmp_path, limits={"queue_max_wait_s": 5.0}) as server:
        before = ask_stats(server)
        outcomes = asyncio.run(run(server))
        after = ask_stats(server)
    assert set(outcomes.count) == {"200"}
    assert after["fds"] <= before["fds"] + 1
    assert after["threads"] == before["threads"]
