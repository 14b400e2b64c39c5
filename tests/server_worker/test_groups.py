"""Requests of one batch key: what waits while one runs is answered in one call, each caller with its own answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app.server.contract import Response
from tests.server_worker.stage import Stage, config, staged

REQUEST = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%s"


class Sharing:
    """Echoes twice; each call waits until the test lets it go on."""

    def __init__(self) -> None:
        self.may_run = threading.Semaphore(0)
        self.calls: list[list[bytes]] = []
        self.fails = False

    def batch_key(self, environ: dict[str, Any]) -> str | None:
        return environ["PATH_INFO"]

    def respond(self, environs: list[dict[str, Any]]) -> list[Response]:
        assert self.may_run.acquire(timeout=10)
        bodies = [environ["wsgi.input"].getvalue() for environ in environs]
        self.calls.append(bodies)
        if self.fails:
            raise ValueError("as the test wants it")
        return [Response(200, [], body * 2) for body in bodies]


@pytest.fixture
def app() -> Sharing:
    return Sharing()


@pytest.fixture
def stage(app: Sharing) -> Iterator[Stage]:
    with staged(app, config(threads=2)) as one:
        yield one


def bodies_of(stage: Stage, clients: list[socket.socket]) -> list[bytes]:
    """What each of these clients is answered; they are closed."""
    received = [b""] * len(clients)

    def all_there() -> bool:
        for at, client in enumerate(clients):
            with contextlib.suppress(BlockingIOError):
                received[at] += client.recv(65536)
        time.sleep(0.001)  # the threads' turn
        return all(b"\r\n\r\n" in one and not one.endswith(b"\r\n\r\n") for one in received)

    stage.until(all_there)
    for client in clients:
        client.close()
    return [one.split(b"\r\n\r\n", 1)[1] for one in received]


def asked(stage: Stage, *bodies: bytes, path: bytes = b"model") -> list[socket.socket]:
    clients = [stage.connect() for _ in bodies]
    for client, body in zip(clients, bodies, strict=True):
        stage.say(client, REQUEST % (path, body))
    return clients


def test_what_waits_is_answered_in_one_call_and_each_gets_its_own(app: Sharing, stage: Stage) -> None:
    clients = asked(stage, b"a", b"b", b"c", b"d")
    app.may_run.release(2)
    assert bodies_of(stage, clients) == [b"aa", b"bb", b"cc", b"dd"]
    assert app.calls == [[b"a"], [b"b", b"c", b"d"]]
    assert stage.dispatcher.queue.running == 0


def test_one_key_does_not_wait_for_another(app: Sharing, stage: Stage) -> None:
    clients = asked(stage, b"a") + asked(stage, b"b", path=b"other")
    app.may_run.release(2)
    assert bodies_of(stage, clients) == [b"aa", b"bb"]


def test_where_the_application_fails_each_of_the_group_is_told_500(
    app: Sharing, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    app.fails = True
    clients = asked(stage, b"a", b"b", b"c")
    app.may_run.release(2)
    with caplog.at_level("ERROR"):
        assert all(b"internal-error" in body for body in bodies_of(stage, clients))
    assert app.calls == [[b"a"], [b"b", b"c"]]


def test_those_that_were_told_that_they_are_late_are_not_run_after_that(app: Sharing, stage: Stage) -> None:
    clients = asked(stage, b"a", b"b", b"c")
    stage.dispatcher.expire(time.monotonic() + stage.dispatcher.limits.request_timeout_s)
    app.may_run.release(1)  # of the one that has begun
    stage.until(lambda: not stage.dispatcher.stats.running())
    assert app.calls == [[b"a"]]
    assert all(client.recv(65536).startswith(b"HTTP/1.1 50") for client in clients)
    assert not stage.dispatcher.has_stuck_thread
    for client in clients:
        client.close()


def test_one_that_left_while_it_waited_is_not_run(app: Sharing, stage: Stage) -> None:
    clients = asked(stage, b"a", b"b", b"c")
    clients.pop(1).close()
    stage.turn()
    app.may_run.release(2)
    assert bodies_of(stage, clients) == [b"aa", b"cc"]
    assert app.calls == [[b"a"], [b"c"]]
