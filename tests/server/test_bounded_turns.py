"""Tests of one turn of the loop: a limit for each kind of work, and clients that take turns."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from app.server import fairness
from app.server.contract import Environ, Response, ServedRequest
from app.server.fairness import ClientTurns, take_waiting
from tests.server.reference import statuses_in
from tests.server.serving import Serving
from tests.server.stage import Stage, config, staged

ASK = b"POST / HTTP/1.1\r\nHost: a\r\nX-Client: %b\r\nContent-Length: 0\r\n\r\n"


class Named(Serving):
    """Distinguish clients by `X-Client`, and record the order of requests."""

    def __init__(self, inline_us: float = 0.0) -> None:
        self.ran: list[str] = []
        self.inline_us = inline_us
        self.may_answer = threading.Event()
        self.may_answer.set()

    def runs_inline(self, environ: Environ) -> bool:
        return True

    def client(self, environ: Environ) -> str:
        name: str = environ["HTTP_X_CLIENT"]
        return name

    def admit(self, environ: Environ) -> ServedRequest:
        request = Serving.admit(self, environ)
        request.inline_us = self.inline_us
        request.through_wsgi = False
        return request

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response]:
        self.may_answer.wait(60.0)
        self.ran += [str(request.client) for request in requests]
        return [Response(200, [], b"") for _ in requests]


@contextlib.contextmanager
def asking(stage: Stage, *clients: bytes) -> Iterator[list[Any]]:
    """Open a connection for each of these requests, all sent before the next turn."""
    with contextlib.ExitStack() as open_ones:
        connections = [open_ones.enter_context(stage.connect()) for _ in clients]
        for connection, name in zip(connections, clients, strict=True):
            connection.sendall(ASK % name)
        yield connections


def test_work_that_makes_work_does_not_keep_the_loop() -> None:
    waiting = deque([1, 2, 3])
    for number in take_waiting(waiting):
        waiting.append(number * 10)
    assert list(waiting) == [10, 20, 30]


def test_slow_work_leaves_the_rest_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter(range(100))
    monkeypatch.setattr(fairness, "WORK_S", 2)
    monkeypatch.setattr(time, "monotonic", lambda: next(now_s))
    waiting = deque("abcd")
    assert list(take_waiting(waiting)) == ["a", "b"]
    assert list(waiting) == ["c", "d"]


def test_clients_take_turns() -> None:
    turns: ClientTurns[str] = ClientTurns()
    for work in ("a1", "a2", "a3", "b1", "c1", "c2"):
        turns.append(work[0], work)
    assert list(take_waiting(turns)) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert not turns


def test_a_turn_that_has_no_time_serves_one_request_of_each_kind_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "WORK_S", 0.0)
    app = Named()
    with staged(app) as stage, asking(stage, *[b"a"] * 5) as connections:
        stage.turn()
        assert len(app.ran) == 1
        stage.until(lambda: len(app.ran) == 5)
        assert [statuses_in(each.recv(65536)) for each in connections] == [[200]] * 5


@pytest.mark.fault("O07")
def test_a_client_with_one_request_does_not_wait_for_the_many_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Named()
    with staged(app) as stage, asking(stage, *[b"noisy"] * 50, b"quiet") as connections:
        stage.until(lambda: len(app.ran) == 51)
        app.ran.clear()
        monkeypatch.setattr(fairness, "WORK_S", 0.0)
        for connection, name in zip(connections, [b"noisy"] * 50 + [b"quiet"], strict=True):
            connection.sendall(ASK % name)
        stage.until(lambda: "quiet" in app.ran)
        assert len(app.ran) <= 3


def test_inline_requests_over_the_budget_of_their_client_wait_for_a_thread() -> None:
    app = Named(inline_us=100.0)
    limits = {"inline_client_us": 1000.0, "inline_turn_us": 2000.0}
    with staged(app, **limits) as stage, asking(stage, *[b"noisy"] * 30, b"quiet") as connections:
        stage.turn()
        stats = stage.dispatcher.stats
        assert (stats.inline, stats.threaded) == (11, 20)
        stage.until(lambda: stats.answered == 31)
        assert [statuses_in(each.recv(65536)) for each in connections] == [[200]] * 31


class Held(Named):
    """Distinguish batch keys by the client. Hold requests in threads until their release."""

    def __init__(self) -> None:
        super().__init__(inline_us=2000.0)
        self.gate = threading.Event()
        self.in_threads: list[str] = []

    def runs_inline(self, environ: Environ) -> bool:
        return environ["HTTP_X_CLIENT"] != "threaded"

    def batch_key(self, environ: Environ) -> str:
        return self.client(environ)

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response]:
        self.in_threads.append(str(requests[0].client))
        assert self.gate.wait(20)
        return super().respond(requests)


def test_inline_requests_over_their_budgets_compute_on_as_many_threads_as_cores_beside_others() -> None:
    app = Held()
    models = [b"a", b"b", b"c", b"d", b"e"]
    with staged(app, config(threads=8), computing_cores=2, inline_request_us=1000.0, queue_max_wait_s=60.0) as stage:
        stats = stage.dispatcher.stats
        with asking(stage, *models) as connections:
            stage.until(lambda: stats.threaded == len(models) and len(app.in_threads) == 2)
            with asking(stage, b"threaded") as others:
                stage.until(lambda: "threaded" in app.in_threads)
                assert (stats.running(), stats.queued()) == (3, 3)
                app.gate.set()
                stage.until(lambda: stats.answered == 6)
                assert [statuses_in(each.recv(65536)) for each in (*connections, *others)] == [[200]] * 6


def test_inline_requests_over_the_budget_of_the_turn_are_taken_from_the_client_with_most() -> None:
    app = Named(inline_us=100.0)
    limits = {"inline_client_us": 1000.0, "inline_turn_us": 1000.0}
    with staged(app, **limits) as stage, asking(stage, *[b"a"] * 10, *[b"b"] * 8, b"c"):
        stage.turn()
        assert stage.dispatcher.stats.inline == 10
        stage.until(lambda: stage.dispatcher.stats.answered == 19)


@pytest.mark.fault("O07")
def test_an_inline_request_that_takes_long_waits_for_a_thread() -> None:
    app = Named(inline_us=1001.0)
    with staged(app) as stage, asking(stage, b"a"):
        stage.until(lambda: stage.dispatcher.stats.answered == 1)
        assert (stage.dispatcher.stats.inline, stage.dispatcher.stats.threaded) == (0, 1)


def test_a_flood_of_inline_requests_gets_429_when_the_queue_is_full() -> None:
    app = Named(inline_us=100.0)
    limits = {"inline_client_us": 500.0, "queue_requests": 4}
    asked = [*[b"noisy"] * 40, *[b"quiet"] * 3]
    with staged(app, config(threads=1), **limits) as stage, asking(stage, *asked) as connections:
        stats = stage.dispatcher.stats
        stage.until(lambda: stats.answered + sum(stats.refused.values()) >= 43)
        statuses = [statuses_in(each.recv(65536))[0] for each in connections]
    assert statuses[-3:] == [200, 200, 200]
    assert set(statuses[:40]) == {200, 429}
    assert stage.dispatcher.stats.refused == {"too_many_requests": statuses.count(429)}


def _flood(monkeypatch: pytest.MonkeyPatch, stage: Stage, connections: list[Any]) -> None:
    """Let a turn read the requests of all connections, and then leave no time for anything else."""
    stage.until(lambda: stage.dispatcher.stats.answered == len(connections))
    for connection in connections:
        assert statuses_in(connection.recv(65536)) == [200]
        connection.sendall(ASK % b"noisy")
    monkeypatch.setattr("app.server.dispatcher.work_until_s", lambda: 0.0)

    def take_one(waiting: Any) -> Iterator[Any]:
        yield waiting.popleft()

    monkeypatch.setattr("app.server.dispatcher.take_waiting", lambda waiting: take_one(waiting) if waiting else ())


def test_a_turn_that_has_no_time_refuses_one_request_over_the_budget_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Named()
    limits = {"inline_client_us": 500.0, "queue_requests": 2}
    with staged(app, config(threads=1), **limits) as stage, asking(stage, *[b"noisy"] * 20) as connections:
        stats = stage.dispatcher.stats
        _flood(monkeypatch, stage, connections)
        app.inline_us = 600.0
        app.may_answer.clear()
        stage.turn()
        assert stats.threaded + sum(stats.refused.values()) == 1
        stage.until(lambda: sum(stats.refused.values()) == 17)
        app.may_answer.set()
        stage.until(lambda: stats.answered == 23)
        statuses = [statuses_in(each.recv(65536))[0] for each in connections]
    assert (statuses.count(200), statuses.count(429)) == (3, 17)


def test_a_client_that_leaves_over_its_budget_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Named()
    with staged(app, inline_client_us=500.0) as stage, asking(stage, *[b"noisy"] * 5) as connections:
        _flood(monkeypatch, stage, connections)
        app.inline_us = 600.0
        stage.turn()
        for connection in connections:
            connection.close()
        stage.until(lambda: stage.dispatcher.stats.left == 5 and not stage.dispatcher.has_inline)
        assert len(app.ran) <= 6


class Streams(Serving):
    """Stream parts as fast as they are read, and count concurrent streams."""

    def __init__(self, parts: int, part: bytes) -> None:
        self.parts, self.part = parts, part
        self.computing = self.most = 0
        self.made: list[str] = []

    def client(self, environ: Environ) -> str:
        name: str = environ["HTTP_X_CLIENT"]
        return name

    def admit(self, environ: Environ) -> ServedRequest:
        request = Serving.admit(self, environ)
        request.is_stream = request.may_block = environ["HTTP_X_CLIENT"] != "other"
        return request

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        start_response("200 OK", [])
        return self._parts(environ["HTTP_X_CLIENT"])

    def _parts(self, name: str) -> Iterator[bytes]:
        for _ in range(self.parts):
            self.computing += 1
            self.most = max(self.most, self.computing)
            time.sleep(0.0005)
            self.made.append(name)
            self.computing -= 1
            yield self.part


def read_all(stage: Stage, *connections: Any) -> None:
    """Turn the loop and read until each of these connections has received a whole stream."""
    told = dict.fromkeys(connections, b"")

    def is_told() -> bool:
        for connection in connections:
            with contextlib.suppress(BlockingIOError):
                told[connection] = (told[connection] + connection.recv(1 << 20))[-100_000:]
        time.sleep(0.0005)
        return all(each.endswith(b"0\r\n\r\n") for each in told.values())

    stage.until(is_told)


def test_no_more_streams_compute_at_once_than_there_are_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.pool.SLICE_S", 0.0)
    app = Streams(20, b"x" * 100)
    with staged(app, config(threads=2)) as stage, asking(stage, *[b"a"] * 6) as connections:
        read_all(stage, *connections)
        assert app.most <= 2
        assert stage.dispatcher.threads.stream_queue.running == stage.dispatcher.threads.blocking_queue.running == 0


def test_streams_take_turns_by_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.pool.SLICE_S", 0.0)
    app = Streams(20, b"x" * 100)
    with staged(app, config(threads=1)) as stage, asking(stage, *[b"noisy"] * 5, b"quiet") as connections:
        read_all(stage, *connections)
        quiet = [at for at, name in enumerate(app.made) if name == "quiet"]
        assert app.made[quiet[0] : quiet[-1]].count("noisy") <= 2 * 20


def test_a_stream_whose_client_does_not_read_leaves_its_place_to_others() -> None:
    app = Streams(50, b"x" * 100_000)
    with staged(app, config(threads=1), answer_buffer_bytes=50_000) as stage, asking(stage, b"slow") as (slow,):
        stage.until(lambda: stage.dispatcher.threads.stream_queue.running == 0 and bool(app.made))
        assert stage.dispatcher.stats.running() == 1
        with asking(stage, b"other", b"other") as others:
            read_all(stage, *others)
        read_all(stage, slow)
        assert app.made.count("slow") == 50


def test_a_stream_whose_client_leaves_while_it_waits_frees_its_thread() -> None:
    app = Streams(50, b"x" * 100_000)
    with staged(app, config(threads=1), answer_buffer_bytes=50_000) as stage:
        with asking(stage, b"slow"):
            stage.until(lambda: stage.dispatcher.threads.stream_queue.running == 0 and bool(app.made))
        stage.until(lambda: stage.dispatcher.stats.running() == 0 or bool(time.sleep(0.0005)))
        assert stage.dispatcher.threads.stream_queue.running == stage.dispatcher.threads.blocking_queue.running == 0
        assert len(app.made) < 50


def test_the_time_of_a_stream_starts_again_after_each_pause() -> None:
    app = Streams(50, b"x" * 100_000)
    with staged(app, config(threads=1), answer_buffer_bytes=50_000) as stage, asking(stage, b"slow") as (slow,):
        threads = stage.dispatcher.threads
        stage.until(lambda: threads.stream_queue.running == 0 and bool(app.made))
        (pending,) = threads._running
        pending.request.deadline_s = 0.0
        read_all(stage, slow)
        assert pending.request.deadline_s > time.monotonic()


def test_streams_take_no_place_from_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.pool.SLICE_S", 0.0)
    app = Streams(30, b"x" * 100)
    with (
        staged(app, config(threads=1), computing_cores=1) as stage,
        asking(stage, *[b"a"] * 3, b"other") as connections,
    ):
        threads = stage.dispatcher.threads
        stage.until(lambda: threads.stream_queue.running == threads.queue.running == 1)
        read_all(stage, *connections)
        assert threads.queue.running == threads.stream_queue.running == 0
