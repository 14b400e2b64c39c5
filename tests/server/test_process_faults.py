"""Tests of faults of processes: short forms."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.server import RetortWorker
from tests.end_to_end.process import Server, free_port
from tests.server.endings import once, recycled, reloaded, terminated, twice_to_all
from tests.server.served import Outcomes, Talk, load, took_s, worker_server

pytestmark = pytest.mark.server
alone = pytest.mark.alone  # only tests that measure time

PROMPT_S = 5.0
"""Limit for an answer that does not wait for the fault, which lasts many seconds."""
PATIENT = {"queue_max_wait_s": 5.0}
"""Limits with which a busy machine refuses no request of a few clients."""


def wait_until(done: object, within_s: float) -> float:
    """Return the duration."""
    assert callable(done)
    began_s = time.monotonic()
    while not done():
        assert time.monotonic() - began_s < within_s, "it did not come to that in time"
        time.sleep(0.02)
    return time.monotonic() - began_s


@alone
@pytest.mark.fault("P01")
def test_p01_a_killed_worker_fails_only_its_own_requests_and_is_replaced(tmp_path: Path) -> None:
    async def run(server: Server) -> Outcomes:
        async with load(server.port, 16, "/echo?sleep_s=0.005") as outcomes:
            for _ in range(2):
                await asyncio.sleep(0.7)
                victim = server.workers[0]
                os.kill(victim, signal.SIGKILL)
                began_s = time.monotonic()
                while victim in server.workers or len(server.workers) < 2:
                    assert time.monotonic() - began_s < 60.0
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
        return outcomes

    with worker_server(tmp_path, workers=2, limits=PATIENT) as server:
        outcomes = asyncio.run(run(server))
    assert set(outcomes.count) <= {"200", "reset", "reset kept"}, outcomes.count
    assert sum(outcomes.bad.values()) <= 2 * 16
    assert outcomes.count["200"] > 200


@pytest.mark.own_worker("it resets what waits in the kernel's queue when it stops")
@pytest.mark.parametrize("stop", [once, twice_to_all])
@pytest.mark.fault("P02", "P06")
def test_p02_p06_sigterm_resets_nobody(tmp_path: Path, stop: Callable[[Server], None]) -> None:
    for _ in range(2):
        with worker_server(tmp_path, workers=2) as server:
            outcomes = asyncio.run(terminated(server, 12, at_s=0.6, for_s=2.5, stop=stop))
            assert server.process.wait(60) == 0
        assert outcomes.bad == {}, outcomes.count
        assert outcomes.count["200"] > 50
        assert outcomes.count["refused"] > 10


@pytest.mark.fault("P04")
def test_p04_sighup_loses_nothing(tmp_path: Path) -> None:
    with worker_server(tmp_path, workers=2, limits=PATIENT) as server:
        outcomes = asyncio.run(reloaded(server, times=2, every_s=0.5))
    assert set(outcomes.count) == {"200"}, outcomes.count


@pytest.mark.fault("P05")
def test_p05_recycling_loses_nothing(tmp_path: Path) -> None:
    with worker_server(tmp_path, workers=2, limits=PATIENT, max_requests=200, max_requests_jitter=50) as server:
        outcomes, workers = asyncio.run(recycled(server, for_s=4.0))
    assert set(outcomes.count) == {"200"}, outcomes.count
    assert len(workers) >= 4


@alone
@pytest.mark.own_worker("it has no deadlines")
@pytest.mark.fault("P07")
def test_p07_a_drain_that_hangs_ends_in_time(tmp_path: Path) -> None:
    async def run(server: Server) -> int:
        talk = Talk(server.port)
        asked = asyncio.create_task(talk.ask("/echo?sleep_s=120"))
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        status, _, _ = await asyncio.wait_for(asked, 30)
        await asyncio.to_thread(server.process.wait, 30)
        return status

    with worker_server(tmp_path, graceful_timeout=4) as server:
        assert asyncio.run(run(server)) == 503  # the master would kill it, and so reset the client
        assert server.process.returncode == 0


@alone
@pytest.mark.fault("P08")
def test_p08_more_connections_than_allowed(tmp_path: Path) -> None:
    async def run(server: Server) -> Outcomes:
        async with load(server.port, 60, "/quick", keeps=False) as outcomes:
            await asyncio.sleep(1.5)
        return outcomes

    with worker_server(tmp_path, worker_connections=4) as server:
        outcomes = asyncio.run(run(server))
        assert set(outcomes.count) == {"200"}, outcomes.count
        assert took_s(server) < PROMPT_S


@alone
@pytest.mark.own_worker("it tells nobody that it stops")
@pytest.mark.fault("P12")
def test_p12_readiness_is_true_and_the_delay_is_kept(tmp_path: Path) -> None:
    with worker_server(tmp_path, limits={"drain_delay_s": 3.0}) as server:
        assert server.ask("GET", "/readyz").status == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.ask("GET", "/readyz").status == 503, 2.0)
        answer = server.ask("GET", "/livez")
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
        assert server.process.wait(30) == 0


@alone
@pytest.mark.own_worker("it has no deadlines")
@pytest.mark.fault("M11")
def test_m11_a_hung_model_is_a_504_and_its_worker_is_replaced(tmp_path: Path) -> None:
    limits = {"request_timeout_s": 0.5, "stuck_grace_s": 0.5}
    with worker_server(tmp_path, limits=limits, graceful_timeout=5) as server:
        (first,) = server.workers
        began_s = time.monotonic()
        answer = server.ask("POST", "/echo?sleep_s=60", "x")
        assert answer.status == 504
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert 0.4 < time.monotonic() - began_s < 60.0  # the model sleeps for a minute
        assert took_s(server) < PROMPT_S
        wait_until(lambda: first not in server.workers and server.workers, 30)
        assert server.ask("POST", "/echo", "again").content == b"again"
        assert "time.sleep" in server.output
        assert "is stuck" in server.output


@pytest.mark.fault("M11")
def test_m11_a_worker_whose_model_keeps_the_gil_is_killed_by_the_master(tmp_path: Path) -> None:
    with worker_server(tmp_path, timeout=2) as server:
        (first,) = server.workers
        asked = threading.Thread(target=lambda: quietly(server, "/fall?how=loop"))
        asked.start()
        wait_until(lambda: first not in server.workers and server.workers, 30)
        asked.join()
        assert server.ask("GET", "/livez").status == 200


@pytest.mark.parametrize("how", ["segfault", "abort", "_exit", "kill"])
@pytest.mark.fault("M13")
def test_m13_a_model_that_ends_its_process_ends_only_one_worker(tmp_path: Path, how: str) -> None:
    with worker_server(tmp_path, workers=2) as server:
        wait_until(lambda: len(server.workers) == 2, 30)
        before = set(server.workers)
        quietly(server, f"/fall?how={how}")
        wait_until(lambda: len(set(server.workers) - before) == 1 and len(server.workers) == 2, 30)
        for _ in range(10):
            assert server.ask("POST", "/echo", "x").content == b"x"


@pytest.mark.own_worker("a model that raises SystemExit or KeyboardInterrupt ends it")
@pytest.mark.fault("M13")
def test_m13_a_model_that_raises_anything_is_a_500(tmp_path: Path) -> None:
    with worker_server(tmp_path) as server:
        before = server.workers
        for how in ("sys.exit", "interrupt", "recursion"):
            answer = server.ask("POST", f"/fall?how={how}", "x")
            assert answer.status == 500
            assert b"Traceback" not in answer.content
            assert answer.document["type"] == "/problems/internal-error"
        assert server.ask("POST", "/echo", "x").content == b"x"
        assert server.workers == before


def quietly(server: Server, path: str) -> None:
    with contextlib.suppress(OSError, Exception):
        server.ask("POST", path, "x")


def test_usr2_replaces_the_master_and_loses_nothing(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"

    async def run(server: Server) -> tuple[Outcomes, int]:
        async with load(server.port, 8) as kept, load(server.port, 4, keeps=False) as short:
            await asyncio.sleep(0.3)
            server.process.send_signal(signal.SIGUSR2)
            replaced = Path(f"{pidfile}.2")
            began_s = time.monotonic()
            while not replaced.exists() or not replaced.read_text().strip():
                assert time.monotonic() - began_s < 60
                await asyncio.sleep(0.05)
            successor = int(replaced.read_text())
            await asyncio.sleep(2.0)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.process.wait, 10)
            await asyncio.sleep(0.5)
        kept.count.update(short.count)
        return kept, successor

    with worker_server(tmp_path, limits=PATIENT, pidfile=str(pidfile)) as server:
        outcomes, successor = asyncio.run(run(server))
        try:
            assert server.ask("GET", "/livez").status == 200
        finally:
            os.kill(successor, signal.SIGTERM)
            wait_until(lambda: not Path(f"/proc/{successor}").exists() or _is_zombie(successor), 10)
    assert set(outcomes.count) == {"200"}, outcomes.count


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] == "Z"


def test_sockets_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    port = free_port()
    with worker_server(tmp_path, port, workers=2, bind=[f"unix:{path}", f"127.0.0.1:{port}"]) as server:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.connect(str(path))
            unix.sendall(b"GET /echo HTTP/1.1\r\nHost: a:81\r\n\r\n")
            assert unix.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        assert server.ask("POST", "/echo", "x").content == b"x"
    with worker_server(tmp_path, workers=2, reuse_port=True) as server:
        assert server.ask("POST", "/echo", "x").content == b"x"
    with worker_server(tmp_path, inherits="fd", bind="fd://3") as server:
        assert server.ask("POST", "/echo", "x").content == b"x"
    with worker_server(tmp_path, inherits="systemd") as server:
        assert server.ask("POST", "/echo", "x").content == b"x"


class Config:
    is_ssl = False
    http_protocols = ("h1",)
    http2_cleartext = "off"
    protocol = "http"


@pytest.mark.own_worker("it has other settings")
@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("is_ssl", True, "TLS"), ("http_protocols", ("h2", "h1"), "HTTP/2"), ("protocol", "uwsgi", "only http")],
)
def test_unsupported_settings_are_refused_with_a_reason(name: str, value: object, word: str) -> None:
    cfg = Config()
    RetortWorker.check_config(cfg, None)
    setattr(cfg, name, value)
    with pytest.raises(SystemExit, match=word):
        RetortWorker.check_config(cfg, None)


@pytest.mark.own_worker("it has other settings")
def test_tls_is_refused_before_the_fork(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="TLS"), worker_server(tmp_path, certfile=__file__, keyfile=__file__):
        pass


@pytest.mark.own_worker("it waits for a stopped one as long as that is stopped")
def test_a_stopped_worker_delays_no_new_client(tmp_path: Path) -> None:
    """The kernel wakes one worker for a connection, and assumes that it comes."""
    with worker_server(tmp_path, workers=2) as server:
        wait_until(lambda: len(server.workers) == 2, 30)
        os.kill(server.workers[0], signal.SIGSTOP)
        try:
            for _ in range(10):
                assert server.ask("GET", "/livez").status == 200
        finally:
            os.kill(server.workers[0], signal.SIGCONT)
