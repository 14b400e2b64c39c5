"""Tests of a full queue: each client has its share, by the client that the application names."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.server.serving import Serving
from tests.server.stage import Stage, config, staged


class Held(Serving):
    """Hold every request until its release, and answer with the name of its client."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)

    def client(self, environ: dict[str, Any]) -> str:
        name: str = environ["HTTP_X_CLIENT"]
        return name

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        assert self.gate.acquire(timeout=60)
        name = environ["HTTP_X_CLIENT"].encode()
        start_response("200 OK", [("Content-Length", str(len(name)))])
        return [name]


@pytest.fixture
def app() -> Held:
    return Held()


@pytest.fixture
def stage(app: Held) -> Iterator[Stage]:
    with staged(app, config(threads=1), queue_requests=4, queue_max_wait_s=10.0) as one:
        yield one


def asked(stage: Stage, *clients: str) -> list[socket.socket]:
    """Open a connection for each request of these clients."""
    connections = [stage.connect() for _ in clients]
    for connection, name in zip(connections, clients, strict=True):
        stage.say(connection, f"GET / HTTP/1.1\r\nHost: a\r\nX-Client: {name}\r\n\r\n".encode())
    return connections


def told(stage: Stage, connection: socket.socket, answers: int = 1) -> bytes:
    """Return the bytes that a client receives, once there are this many answers."""
    received = b""

    def answered() -> bool:
        nonlocal received
        with contextlib.suppress(BlockingIOError):
            received += connection.recv(65536)
        time.sleep(0.001)  # the threads run
        return received.count(b"HTTP/1.1 ") == answers

    stage.until(answered)
    return received


@pytest.mark.fault("O03")
def test_the_client_with_most_requests_makes_room_and_gets_429_with_the_fields(app: Held, stage: Stage) -> None:
    noisy = asked(stage, *"nnnnn")
    asked_again = b"GET / HTTP/1.1\r\nHost: a\r\nX-Client: n\r\n\r\n"
    noisy[-1].send(asked_again)  # it waits behind the requests that are about to be refused
    quiet = asked(stage, "a")
    head, _, rest = told(stage, noisy[-1], answers=2).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert fields["Retry-After"] == "1"
    assert fields["RateLimit-Policy"] == '"queue";q=2;qu="concurrent-requests"'
    assert fields["RateLimit"] == '"queue";r=0;t=1'
    assert fields["Connection"] == "keep-alive"
    problem, after = json.JSONDecoder().raw_decode(rest.decode())
    assert (problem["status"], problem["type"]) == (429, "/problems/too-many-requests")
    assert rest[after:].startswith(b"HTTP/1.1 429 "), "what came next on that connection is refused as well"
    assert stage.dispatcher.stats.refused == {"too_many_requests": 2}
    assert stage.dispatcher.threads.queue.waiting == 4
    app.gate.release(5)
    for connection in [*noisy[:4], *quiet]:
        assert told(stage, connection).startswith(b"HTTP/1.1 200 ")
    for connection in [*noisy, *quiet]:
        connection.close()


def test_a_single_client_gets_503(app: Held, stage: Stage) -> None:
    waiting = asked(stage, *"nnnnn")
    (refused,) = asked(stage, "n")
    refusal = told(stage, refused)
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"RateLimit" not in refusal
    assert stage.dispatcher.stats.refused == {"queue_full": 1}
    app.gate.release(5)
    for connection in waiting:
        assert told(stage, connection).startswith(b"HTTP/1.1 200 ")
    for connection in (refused, *waiting):
        connection.close()
