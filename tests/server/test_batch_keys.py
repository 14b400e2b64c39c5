"""Tests of batch keys: requests that wait while one runs share a call, and each client gets its own answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from app.server.contract import Response, ServedRequest
from tests.server.reference import statuses_in
from tests.server.serving import Serving
from tests.server.stage import Stage, config, staged

REQUEST = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%s"


class Stream:
    """A body in parts that is closed at its end."""

    def __init__(self, parts: Sequence[bytes], error: Exception | None = None) -> None:
        self.parts = iter(parts)
        self.error = error
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self.parts, None)
        if part is None:
            raise self.error or StopIteration
        return part

    def close(self) -> None:
        self.closed = True


class Batching(Serving):
    """Double each body. A call of `respond` waits for the gate. The path is the batch key."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.calls: list[list[bytes]] = []
        self.seen: list[ServedRequest] = []
        self.fails = False
        self.streams: dict[bytes, Stream] = {}
        self.headers: dict[bytes, list[tuple[str, str]]] = {}

    def batch_key(self, environ: dict[str, Any]) -> str | None:
        return environ["PATH_INFO"]

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response]:
        assert self.gate.acquire(timeout=60)
        self.seen += requests
        bodies = [request.environ["wsgi.input"].getvalue() for request in requests]
        self.calls.append(bodies)
        if self.fails and len(requests) > 1:
            raise ValueError("as the test wants it")
        return [Response(200, self.headers.get(body, []), self.streams.get(body, body * 2)) for body in bodies]


@pytest.fixture
def app() -> Batching:
    return Batching()


@pytest.fixture
def stage(app: Batching) -> Iterator[Stage]:
    with staged(app, config(threads=2)) as one:
        yield one


def answers(stage: Stage, clients: list[socket.socket]) -> list[bytes]:
    """Return the answer of each of these clients, and close them."""
    received = [b""] * len(clients)

    def all_there() -> bool:
        for at, client in enumerate(clients):
            with contextlib.suppress(BlockingIOError):
                received[at] += client.recv(65536)
        time.sleep(0.001)  # the threads run
        return all(b"\r\n\r\n" in one and not one.endswith(b"\r\n\r\n") for one in received)

    stage.until(all_there)
    for client in clients:
        client.close()
    return received


def bodies_of(stage: Stage, clients: list[socket.socket]) -> list[bytes]:
    return [one.split(b"\r\n\r\n", 1)[1] for one in answers(stage, clients)]


def asked(stage: Stage, *bodies: bytes, path: bytes = b"model") -> list[socket.socket]:
    clients = [stage.connect() for _ in bodies]
    for client, body in zip(clients, bodies, strict=True):
        stage.say(client, REQUEST % (path, body))
    return clients


def test_requests_that_wait_are_one_call_and_each_gets_its_own_answer(app: Batching, stage: Stage) -> None:
    clients = asked(stage, b"a", b"b", b"c", b"d")
    app.gate.release(2)
    assert bodies_of(stage, clients) == [b"aa", b"bb", b"cc", b"dd"]
    assert app.calls == [[b"a"], [b"b", b"c", b"d"]]
    assert stage.dispatcher.threads.queue.running == 0


def test_the_worker_tells_each_request_its_deadline_and_how_long_it_waited(app: Batching, stage: Stage) -> None:
    clients = asked(stage, b"a", b"b")
    app.gate.release(2)
    bodies_of(stage, clients)
    first, second = app.seen
    assert first.queued_s == 0.0 < second.queued_s < 10.0
    left_s = second.deadline_s - time.monotonic()
    assert 0.0 < left_s <= stage.dispatcher.limits.request_timeout_s


def test_one_batch_key_does_not_wait_for_another(app: Batching, stage: Stage) -> None:
    clients = asked(stage, b"a") + asked(stage, b"b", path=b"other")
    app.gate.release(2)
    assert bodies_of(stage, clients) == [b"aa", b"bb"]


def test_if_respond_raises_each_request_gets_500_and_the_log_the_traceback(
    app: Batching, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    app.fails = True
    clients = asked(stage, b"a", b"b", b"c")
    app.gate.release(2)
    told = answers(stage, clients)
    assert [statuses_in(one) for one in told] == [[200], [500], [500]]
    assert "ValueError: as the test wants it" in caplog.text
    assert not stage.dispatcher.stats.running()


def test_invalid_headers_are_a_500_for_their_request_alone(app: Batching, stage: Stage) -> None:
    app.headers[b"b"] = [("X", "a\r\nSet-Cookie: b")]
    clients = asked(stage, b"a", b"b", b"c")
    app.gate.release(2)
    assert [statuses_in(one) for one in answers(stage, clients)] == [[200], [500], [200]]


def test_a_stream_is_sent_in_parts_after_the_whole_answers_of_its_group_and_closed(app: Batching, stage: Stage) -> None:
    stream = app.streams[b"b"] = Stream([b"one", b"two"])
    clients = asked(stage, b"a", b"b", b"c")
    app.gate.release(2)
    assert bodies_of(stage, [clients[0], clients[2]]) == [b"aa", b"cc"]
    stage.until(lambda: not stage.dispatcher.stats.running())
    assert clients[1].recv(65536).endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    clients[1].close()
    assert stream.closed


def test_a_stream_that_fails_is_cut_and_closed(app: Batching, stage: Stage) -> None:
    stream = app.streams[b"a"] = Stream([b"one"], error=ValueError("as the test wants it"))
    (client,) = asked(stage, b"a")
    app.gate.release(1)
    stage.until(lambda: not stage.dispatcher.stats.running())
    told = client.recv(65536)
    assert told.endswith(b"3\r\none\r\n")
    assert client.recv(65536) == b""
    assert stream.closed
    client.close()


def test_a_stream_whose_client_left_is_closed_and_not_read(app: Batching, stage: Stage) -> None:
    stream = app.streams[b"b"] = Stream([b"one"])
    clients = asked(stage, b"a", b"b", b"c")
    app.gate.release(1)
    assert bodies_of(stage, clients[:1]) == [b"aa"]
    stage.dispatcher.threads.expire(time.monotonic() + stage.dispatcher.limits.request_timeout_s)
    app.gate.release(1)
    stage.until(lambda: stream.closed and stage.dispatcher.stats.late == 2)  # the thread continues after the answers
    assert not stage.dispatcher.stats.running()
    assert next(stream.parts) == b"one"
    assert all(client.recv(65536).startswith(b"HTTP/1.1 504") for client in clients[1:])
    assert (stage.dispatcher.stats.late, stage.dispatcher.threads.has_stuck_thread) == (2, False)
    for client in clients[1:]:
        client.close()


@pytest.mark.fault("N10")
def test_a_request_whose_client_left_while_it_waited_is_not_run(app: Batching, stage: Stage) -> None:
    clients = asked(stage, b"a", b"b", b"c")
    clients.pop(1).close()
    stage.turn()
    app.gate.release(2)
    assert bodies_of(stage, clients) == [b"aa", b"cc"]
    assert app.calls == [[b"a"], [b"c"]]
