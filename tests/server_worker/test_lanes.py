"""Requests of one lane: what waits while one runs is answered in one call, each caller with its own answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.server_worker.stage import Stage, config, staged

REQUEST = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%s"


class Sharing:
    """Echoes; a request of a lane waits for the gate. `together` leaves what says `x` to be answered alone."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.calls: list[list[bytes]] = []
        self.fails = False

    def lane(self, environ: dict[str, Any]) -> str | None:
        return environ["PATH_INFO"]

    def together(self, environs: list[dict[str, Any]]) -> list[Any]:
        assert self.gate.acquire(timeout=10)
        bodies = [environ["wsgi.input"].getvalue() for environ in environs]
        self.calls.append(bodies)
        if self.fails:
            raise ValueError("together")
        return [None if body == b"x" else (body * 2, [("Content-Length", "2")]) for body in bodies]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        assert self.gate.acquire(timeout=10)
        body = environ["wsgi.input"].read()
        self.calls.append([body])
        start_response("200 OK", [("Content-Length", "1")])
        return [body]


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
    clients = asked(stage, b"a", b"b", b"c", b"x", b"d")
    app.gate.release(3)
    assert bodies_of(stage, clients) == [b"a", b"bb", b"cc", b"x", b"dd"]
    assert app.calls == [[b"a"], [b"b", b"c", b"x", b"d"], [b"x"]]
    assert stage.desk.gate.running == 0


def test_one_lane_does_not_wait_for_another(app: Sharing, stage: Stage) -> None:
    clients = asked(stage, b"a") + asked(stage, b"b", path=b"other")
    app.gate.release(2)
    assert bodies_of(stage, clients) == [b"a", b"b"]


def test_a_call_for_several_that_fails_is_made_for_each(app: Sharing, stage: Stage) -> None:
    app.fails = True
    clients = asked(stage, b"a", b"b", b"c")
    app.gate.release(4)
    assert bodies_of(stage, clients) == [b"a", b"b", b"c"]
    assert app.calls == [[b"a"], [b"b", b"c"], [b"b"], [b"c"]]


def test_one_that_was_told_that_it_is_late_is_not_run_after_that(app: Sharing, stage: Stage) -> None:
    app.fails = True  # so that each of the group is run alone
    clients = asked(stage, b"a", b"b", b"c", b"d")
    app.gate.release(2)
    assert bodies_of(stage, clients[:1]) == [b"a"]
    stage.until(lambda: app.calls == [[b"a"], [b"b", b"c", b"d"]])
    stage.desk.expire(time.monotonic() + stage.desk.limits.request_timeout_s)
    app.gate.release(1)  # of the one that has begun
    stage.until(lambda: not stage.desk.stats.running())
    assert app.calls == [[b"a"], [b"b", b"c", b"d"], [b"b"]]
    assert all(client.recv(65536).startswith(b"HTTP/1.1 504") for client in clients[1:])
    assert (stage.desk.stats.late, stage.desk.unhealthy) == (3, False)
    for client in clients[1:]:
        client.close()


def test_one_that_left_while_it_waited_is_not_run(app: Sharing, stage: Stage) -> None:
    clients = asked(stage, b"a", b"b", b"c")
    clients.pop(1).close()
    stage.turn()
    app.gate.release(2)
    assert bodies_of(stage, clients) == [b"a", b"c"]
    assert app.calls == [[b"a"], [b"c"]]
