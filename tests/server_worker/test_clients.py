"""Who a request is from: what proxies say is believed as far as Gunicorn trusts them, and no further."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from app.server.clients import client_of
from app.server.parsing import HeadReader
from tests.server_worker.stage import Stage, config, staged

PROXY, OTHER_PROXY, STRANGER = "10.0.0.1", "10.0.0.2", "203.0.113.9"


def client(peer: Any, forwarded: str | None = None, allowed: str = "10.0.0.0/24", proxy: Any = None) -> Any:
    """The client of a request that comes from this peer with this `X-Forwarded-For`."""
    heads = HeadReader(config(forwarded_allow_ips=allowed), 65536)
    known = heads.peer(peer, ("127.0.0.1", 80))
    known.proxy = proxy
    field = f"X-Forwarded-For: {forwarded}\r\n" if forwarded is not None else ""
    head = heads.read(f"GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n".encode(), 0, known, 1)
    assert head is not None
    return client_of(head.environ, known, heads.is_proxy)


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        (STRANGER, None, STRANGER),
        (STRANGER, "192.0.2.1", STRANGER),
        (PROXY, None, PROXY),
        (PROXY, "", PROXY),
        (PROXY, "192.0.2.1", "192.0.2.1"),
        (PROXY, "made.up, 198.51.100.7, 192.0.2.1", "192.0.2.1"),
        (PROXY, f"192.0.2.1, {OTHER_PROXY}", "192.0.2.1"),
        (PROXY, OTHER_PROXY, OTHER_PROXY),
        (PROXY, "192.0.2.1:4711", "192.0.2.1"),
        (PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        (PROXY, "2001:db8::1", "2001:db8::1"),
        (PROXY, "unknown", "unknown"),
    ],
)
def test_the_address_of_a_client(peer: str, forwarded: str | None, found: str) -> None:
    assert client((peer, 1234), forwarded) == found


def test_where_everybody_may_forward_it_is_what_the_nearest_says() -> None:
    assert client((STRANGER, 1234), "made.up, 192.0.2.1", allowed="*") == "192.0.2.1"


def test_on_a_unix_socket_it_is_a_proxy_that_asks() -> None:
    assert client("", "192.0.2.1") == "192.0.2.1"
    assert client("") == ""


def test_what_came_by_the_proxy_protocol_is_the_clients_own_word() -> None:
    assert client((PROXY, 1234), "192.0.2.1", proxy={"REMOTE_ADDR": STRANGER}) == STRANGER


class Held:
    """Holds every request until it may go on; answers who asked."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        assert self.gate.acquire(timeout=10)
        name = environ["HTTP_X_FORWARDED_FOR"].encode()
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
    """A connection for each request of these clients, behind one proxy."""
    connections = [stage.connect() for _ in clients]
    for connection, name in zip(connections, clients, strict=True):
        stage.say(connection, f"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {name}\r\n\r\n".encode())
    return connections


def told(stage: Stage, connection: socket.socket, answers: int = 1) -> bytes:
    """All that a client is told, once there are so many answers."""
    received = b""

    def answered() -> bool:
        nonlocal received
        with contextlib.suppress(BlockingIOError):
            received += connection.recv(65536)
        time.sleep(0.001)  # the threads' turn
        return received.count(b"HTTP/1.1 ") == answers

    stage.until(answered)
    return received


def test_the_greediest_makes_room_and_is_told_429_with_the_fields(app: Held, stage: Stage) -> None:
    noisy = asked(stage, *"nnnnn")
    asked_again = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: n\r\n\r\n"
    noisy[-1].send(asked_again)  # it waits behind what is about to be refused
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
    assert stage.desk.stats.refused == {"too_many_requests": 2}
    assert stage.desk.gate.waiting == 4
    app.gate.release(5)
    for connection in [*noisy[:4], *quiet]:
        assert told(stage, connection).startswith(b"HTTP/1.1 200 ")
    for connection in [*noisy, *quiet]:
        connection.close()


def test_a_client_alone_is_told_503_as_ever(app: Held, stage: Stage) -> None:
    waiting = asked(stage, *"nnnnn")
    (refused,) = asked(stage, "n")
    refusal = told(stage, refused)
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"RateLimit" not in refusal
    assert stage.desk.stats.refused == {"queue_full": 1}
    app.gate.release(5)
    for connection in waiting:
        assert told(stage, connection).startswith(b"HTTP/1.1 200 ")
    for connection in (refused, *waiting):
        connection.close()
