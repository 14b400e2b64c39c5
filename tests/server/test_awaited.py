"""Tests of requests that run as coroutines, without a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.core.steps.event_loop import EventLoop
from app.server.contract import Environ, PlainRequest, Response, ServedRequest
from app.server.loop import COLLECT_S
from app.server.threaded import MANY_AWAITED
from tests.server.reference import statuses_in
from tests.server.serving import Serving
from tests.server.stage import Stage, staged

REQUEST = b"POST /%b HTTP/1.1\r\nHost: h\r\nX-Client: %b\r\nContent-Length: 0\r\n\r\n"


class Waiting(Serving):
    """Answer each request when `opened` is set. `/fails`, `/moves` and `/invalid` end otherwise."""

    def __init__(self, event_loop: EventLoop) -> None:
        self._event_loop = event_loop
        self.call_soon = event_loop.call_soon
        self.opened = asyncio.Event()
        self.begun = 0
        self.cancelled = 0
        self.threads: set[str] = set()

    def open(self) -> None:
        self.call_soon(self.opened.set)

    def admit(self, environ: Environ) -> ServedRequest:
        return PlainRequest(environ, environ["HTTP_X_CLIENT"], is_awaited=True, through_wsgi=False)

    async def respond_async(self, request: ServedRequest) -> Response | None:
        self.begun += 1
        self.threads.add(threading.current_thread().name)
        path = request.environ["PATH_INFO"]
        if path == "/fails":
            raise SystemExit("3")
        if path == "/moves":
            request.through_wsgi = True
            return None
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Response(200, [("X-A", "a\r\nb" if path == "/invalid" else "a")], b"waited")

    def __call__(self, environ: Environ, start_response: Any, /) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "8")])
        return [b"threaded"]


Waited = Callable[..., tuple[Waiting, Stage]]


@pytest.fixture
def served() -> Iterator[Waited]:
    event_loop = EventLoop()
    with contextlib.ExitStack() as stack:
        stack.callback(event_loop.close)

        def serve(**limits: Any) -> tuple[Waiting, Stage]:
            app = Waiting(event_loop)
            return app, stack.enter_context(staged(app, **limits))

        yield serve


@contextlib.contextmanager
def asking(stage: Stage, *clients: bytes, path: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open the connections of these clients, each of which has sent a request."""
    with contextlib.ExitStack() as open_ones:
        connections = [open_ones.enter_context(stage.connect()) for _ in clients]
        for connection, client in zip(connections, clients, strict=True):
            connection.sendall(REQUEST % (path, client))
        stage.turn()
        yield connections


def answered(stage: Stage, connections: list[socket.socket]) -> list[bytes]:
    """Return the bytes that each connection receives."""
    received = [b""] * len(connections)

    def all_told() -> bool:
        for position, connection in enumerate(connections):
            with contextlib.suppress(BlockingIOError):
                received[position] += connection.recv(1 << 16)
        return all(received)

    stage.until(all_told)
    return received


def statuses(received: list[bytes]) -> list[int]:
    return [status for each in received for status in statuses_in(each)]


def test_hundreds_wait_at_once_though_there_is_one_thread(served: Waited) -> None:
    app, stage = served(waiting_threads=1, queue_requests=1)
    with asking(stage, *[b"one"] * 300) as connections:
        threads = threading.active_count()
        stage.until(lambda: app.begun == 300)
        assert stage.dispatcher.stats.running() == 300
        assert threading.active_count() == threads
        app.open()
        assert statuses(answered(stage, connections)) == [200] * 300
    assert app.threads == {"retort-event-loop"}
    assert stage.dispatcher.stats.awaited == 300
    assert stage.dispatcher.stats.threaded == stage.dispatcher.stats.running() == 0


@pytest.mark.parametrize(("waiting", "pauses"), [(MANY_AWAITED - 1, []), (MANY_AWAITED, [COLLECT_S])])
def test_answers_are_collected_while_many_requests_wait(
    served: Waited, monkeypatch: pytest.MonkeyPatch, waiting: int, pauses: list[float]
) -> None:
    app, stage = served()
    paused: list[float] = []
    monkeypatch.setattr(time, "sleep", paused.append)
    with asking(stage, *[b"one"] * waiting) as connections, asking(stage, b"one", path=b"fails") as failed:
        assert statuses(answered(stage, failed)) == [500]
        app.open()
        stage.until(lambda: stage.dispatcher.stats.running() == 0)
        assert paused[:1] == pauses
        assert statuses(answered(stage, connections)) == [200] * waiting
        paused.clear()
        stage.turn()
    assert paused == []


def test_above_the_limit_awaited_requests_queue_and_clients_take_turns(served: Waited) -> None:
    app, stage = served(waiting_requests=2, queue_requests=2, queue_max_wait_s=60.0)
    with asking(stage, b"one", b"other", b"many", b"many", b"few", b"many") as connections:
        received = answered(stage, [connections[3], connections[5]])
        assert statuses(received) == [429, 503]  # the first gave its place to `few`; the second finds none
        assert stage.dispatcher.stats.queued() == 2
        app.open()
        rest = [connection for position, connection in enumerate(connections) if position not in (3, 5)]
        assert statuses(answered(stage, rest)) == [200] * 4


def test_one_client_has_at_most_half_of_the_places(served: Waited) -> None:
    app, stage = served(waiting_requests=6, queue_requests=1)
    with asking(stage, *[b"many"] * 5, b"few", b"few") as connections:
        many, few = connections[:5], connections[5:]
        assert statuses(answered(stage, many[3:])) == [429, 429]
        app.open()
        assert statuses(answered(stage, [*many[:3], *few])) == [200] * 5
        many[0].sendall(REQUEST % (b"", b"many"))
        assert statuses(answered(stage, [many[0]])) == [200], "what has ended counts no more"
    stage.until(lambda: stage.dispatcher.stats.running() == 0)
    assert not stage.dispatcher.threads._awaited_of


def test_an_awaited_request_is_answered_and_cancelled_at_its_deadline(served: Waited) -> None:
    app, stage = served(request_timeout_s=0.05)
    with asking(stage, b"one") as connections:
        assert statuses(answered(stage, connections)) == [504]
        stage.until(lambda: stage.dispatcher.stats.running() == 0)
    assert app.cancelled == 1
    assert not stage.dispatcher.threads.has_stuck_thread


def test_an_awaited_request_is_cancelled_when_its_client_leaves(served: Waited) -> None:
    app, stage = served()
    with asking(stage, b"one"):
        stage.until(lambda: app.begun == 1)
    stage.until(lambda: app.cancelled == 1)
    stage.until(lambda: stage.dispatcher.stats.running() == 0)


def test_awaited_requests_are_refused_and_cancelled_at_the_end(served: Waited) -> None:
    app, stage = served()
    with asking(stage, b"one") as connections:
        stage.until(lambda: app.begun == 1)
        stage.dispatcher.threads.shut_down(0.0)
        assert statuses(answered(stage, connections)) == [503]
        stage.until(lambda: app.cancelled == 1)


@pytest.mark.parametrize("path", [b"fails", b"invalid"])
def test_an_awaited_request_that_fails_is_a_500(served: Waited, path: bytes, caplog: pytest.LogCaptureFixture) -> None:
    app, stage = served()
    app.open()
    with asking(stage, b"one", path=path) as connections:
        assert statuses(answered(stage, connections)) == [500]
    assert f"error in POST '/{path.decode()}'" in caplog.text


def test_an_awaited_request_that_needs_a_thread_gets_one(served: Waited) -> None:
    app, stage = served()
    with asking(stage, b"one", path=b"moves") as connections:
        (received,) = answered(stage, connections)
        assert received.endswith(b"threaded")
    stage.until(lambda: stage.dispatcher.stats.running() == 0)
    assert (app.begun, stage.dispatcher.stats.awaited, stage.dispatcher.stats.threaded) == (1, 1, 1)
    assert stage.dispatcher.threads.awaited_queue.running == 0
