"""What clients and networks do (faults.md, tables N and O): short forms, each with the figure it must show."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import Server
from tests.server_worker.reference import said_status
from tests.server_worker.served import (
    Outcomes,
    Talk,
    ask_stats,
    client,
    connect,
    cpu_s,
    load,
    open_loop,
    rss_bytes,
    took_s,
    worker_server,
)

pytestmark = pytest.mark.server

HALF_HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nX-"
HALF_BODY = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"
WHOLE = b"POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
OTHER_DESCRIPTORS = 200


@contextlib.contextmanager
def crowd(server: Server, count: int, says: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that say this and then nothing."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(count, soft - OTHER_DESCRIPTORS)
    with contextlib.ExitStack() as stack:
        members = []
        for _ in range(count):
            members.append(stack.enter_context(connect(server)))
            members[-1].sendall(says)
        yield members


def median_s(server: Server, times: int = 15) -> float:
    return sorted(took_s(server) for _ in range(times))[times // 2]


@pytest.mark.own_worker("it reads in its threads, so that as many slow senders as it has threads stop it")
@pytest.mark.parametrize("says", [HALF_HEAD, HALF_BODY], ids=["n01 heads", "n02 bodies"])
def test_slow_senders_cost_nobody_else_anything(tmp_path: Path, says: bytes) -> None:
    limits = {"head_s": 2.0, "body_grace_s": 2.0}
    with worker_server(tmp_path, limits=limits) as server, crowd(server, 500, says) as slow:
        assert median_s(server) < 0.05
        assert server.ask("POST", "/echo", "x").content == b"x"
        for one in slow:
            one.settimeout(6)
            assert said_status(one.recv(1000)) == [408]
            assert one.recv(1000) == b""


@pytest.mark.own_worker("it reads in its threads, so that as many slow senders as it has threads stop it")
@pytest.mark.needs_program("slowhttptest")
@pytest.mark.parametrize("kind", ["-H", "-B"])
def test_slowhttptest_finds_the_service_available(tmp_path: Path, kind: str) -> None:
    with worker_server(tmp_path, limits={"head_s": 3.0, "body_grace_s": 3.0}) as server:
        command = [
            "slowhttptest",
            kind,
            "-c",
            "300",
            "-r",
            "200",
            "-i",
            "1",
            "-l",
            "5",
            "-p",
            "1",
            "-u",
            server.root + "/livez",
        ]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    assert "service available:" in said
    assert "NO" not in [line.split()[-1] for line in said.splitlines() if "service available" in line]


@pytest.mark.own_worker("it counts nothing")
def test_n03_n04_crowds_that_say_nothing_or_nothing_more(tmp_path: Path) -> None:
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
def test_n05_a_body_over_the_limit_is_told_so_while_it_is_sent(tmp_path: Path) -> None:
    with worker_server(tmp_path, limits={"body_bytes": 1_000_000}) as server:
        for head in (b"Content-Length: 51000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3000000\r\n"):
            with connect(server) as one:
                one.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\n" + head)
                for _ in range(51):
                    one.sendall(bytes(1_000_000))
                told = one.recv(10_000)
                assert said_status(told) == [413]
                assert b"Connection: close" in told
        lying = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
        with connect(server) as one:
            one.sendall(lying + b"short")
            one.shutdown(socket.SHUT_WR)
            assert said_status(one.recv(10_000)) == [400]
        with connect(server) as one:
            one.sendall(lying + b"longer than ten\r\n\r\n")
            told = b""
            while received := one.recv(10_000):
                told += received
            assert said_status(told) == [200, 400]
        assert server.ask("POST", "/length", "x" * 1_000_000).content == b"1000000"


@pytest.mark.own_worker("it leaves the limits of bodies to the application")
def test_n06_a_million_chunks_and_a_long_extension(tmp_path: Path) -> None:
    head = b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with worker_server(tmp_path) as server:
        (worker,) = server.workers
        took_s(server)
        before_s, before_bytes = cpu_s(worker), rss_bytes(worker)
        for content in (b"1\r\nx\r\n" * 1_000_000, b"1;a=" + b"x" * 65_536 + b"\r\n"):
            with connect(server) as one:
                one.sendall(head + content)
                assert said_status(one.recv(10_000))[0] in (400, 413)
        assert cpu_s(worker) - before_s < 2.0
        assert rss_bytes(worker) - before_bytes < 20 * 2**20


@pytest.mark.own_worker("it counts nothing")
def test_n10_clients_that_are_gone_leave_nothing(tmp_path: Path) -> None:
    with worker_server(tmp_path) as server:
        before = ask_stats(server)
        slow = b"POST /echo?sleep_s=0.2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
        for says in (b"", HALF_HEAD, HALF_BODY, *[slow] * 20, WHOLE):
            one = connect(server)
            one.sendall(says)
            time.sleep(0.01)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
        time.sleep(0.6)
        after = ask_stats(server)
        assert after["threads"] == before["threads"]
        assert after["fds"] <= before["fds"] + 1
        assert after["running"] == after["queued"] == 0
        assert after["left"] >= 10
        assert after["dropped"] >= 5
        assert "Traceback" not in server.words


@pytest.mark.own_worker("it has no gate, and works through the requests of clients that have left")
def test_o01_ten_times_overload_is_served_at_capacity_and_the_rest_is_told_at_once(tmp_path: Path) -> None:
    async def run(server: Server) -> tuple[Outcomes, list[float]]:
        outcomes, probes = Outcomes(), []

        async def probe() -> None:
            talk = Talk(server.port)
            for _ in range(20):
                await asyncio.sleep(0.1)
                began_s = time.monotonic()
                await talk.ask("/livez")
                probes.append(time.monotonic() - began_s)
            await talk.close()

        await asyncio.gather(
            open_loop(server.port, outcomes, 10 * capacity, for_s, "/echo?sleep_s=0.05", patience_s=1.0), probe()
        )
        return outcomes, probes

    threads, for_s = 4, 3.0
    capacity = threads / 0.05
    with worker_server(tmp_path, threads=threads) as server:
        outcomes, probes = asyncio.run(run(server))
        assert outcomes.count["200"] >= 0.85 * capacity * for_s, outcomes.count
        assert set(outcomes.count) == {"200", "503"}, outcomes.count
        assert outcomes.percentile_s("503", 0.99) < 0.35
        assert sorted(probes)[int(0.9 * len(probes))] < 0.1
        stats = ask_stats(server)
        assert stats["refused"]["queue_wait"] + stats["refused"].get("queue_full", 0) == outcomes.count["503"]
        assert median_s(server) < 0.05


@pytest.mark.own_worker("it has no gate, and works through the requests of clients that have left")
def test_o02_a_retry_storm_does_not_lower_what_is_served(tmp_path: Path) -> None:
    threads, for_s = 4, 2.0
    capacity = threads / 0.05
    outcomes = Outcomes()
    with worker_server(tmp_path, threads=threads) as server:
        asyncio.run(open_loop(server.port, outcomes, 5 * capacity, for_s, "/echo?sleep_s=0.05", 1.0, retries=2))
    assert outcomes.count["200"] >= 0.85 * capacity * for_s, outcomes.count
    assert set(outcomes.count) == {"200", "503"}, outcomes.count


@pytest.mark.own_worker("it has no deadlines")
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


def test_o06_no_answer_ever_reaches_another(tmp_path: Path) -> None:
    async def run(server: Server) -> Outcomes:
        outcomes = Outcomes()

        async def one(until_s: float) -> None:
            while time.monotonic() < until_s:
                sleep_s = random.choice((0, 0, 0, 0.002, 0.02))
                hurry = random.choice(("", "", "X-Request-Timeout: 5ms\r\n"))
                path = random.choice(("/quick", f"/echo?sleep_s={sleep_s}"))
                await client(server.port, outcomes, time.monotonic() + 0.05, path, random.random() < 0.8, hurry)

        await asyncio.gather(*[one(time.monotonic() + 3.0) for _ in range(24)])
        return outcomes

    with worker_server(tmp_path, threads=8) as server:
        outcomes = asyncio.run(run(server))
    assert outcomes.count["mixed"] == 0
    assert set(outcomes.count) <= {"200", "503", "504"}, outcomes.count
    assert outcomes.count["200"] > 500


@pytest.mark.own_worker("it counts nothing")
def test_steady_load_leaves_descriptors_and_threads_flat(tmp_path: Path) -> None:
    async def run(server: Server) -> Outcomes:
        async with load(server.port, 8) as kept, load(server.port, 8, "/quick", keeps=False) as short:
            await asyncio.sleep(1.0)
        kept.count.update(short.count)
        return kept

    with worker_server(tmp_path) as server:
        before = ask_stats(server)
        outcomes = asyncio.run(run(server))
        after = ask_stats(server)
    assert set(outcomes.count) == {"200"}
    assert after["fds"] <= before["fds"] + 1
    assert after["threads"] == before["threads"]
