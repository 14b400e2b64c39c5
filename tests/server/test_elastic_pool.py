"""Tests of threads for requests: some stay, others start when needed and end when idle."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest

from app.server.pool import ElasticPool
from tests.server.serving import Serving
from tests.server.stage import Stage, config, staged

ASKED = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


class Patient(Serving):
    """Hold `/waits` until its release. Answer all other requests at once in a thread."""

    def __init__(self) -> None:
        self.may_answer = threading.Semaphore(0)
        self.threads: list[str] = []

    def may_block(self, environ: dict[str, Any]) -> bool:
        return bool(environ["PATH_INFO"] == "/waits")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.threads.append(threading.current_thread().name)
        if environ["PATH_INFO"] == "/waits":
            assert self.may_answer.acquire(timeout=60)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def until_begun(stage: Stage, app: Patient, count: int) -> None:
    deadline = time.monotonic() + 5
    while len(app.threads) < count and time.monotonic() < deadline:
        stage.turn()
    assert len(app.threads) == count


def test_waiting_requests_take_no_threads_from_computing_ones() -> None:
    app = Patient()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(staged(app, config(threads=1), waiting_idle_s=0.05))
        waiting = [stack.enter_context(stage.connect()) for _ in range(5)]
        for client in waiting:
            stage.say(client, ASKED % b"/waits")
        until_begun(stage, app, 5)
        assert b"200 OK" in stage.exchange(ASKED % b"/computes")
        assert sorted(app.threads) == [f"retort-request-{number}" for number in range(1, 7)]
        for _ in waiting:
            app.may_answer.release()
        stage.until(lambda: not stage.dispatcher.stats.running())
        assert all(client.recv(1000).endswith(b"ok") for client in waiting)


def test_no_more_requests_wait_at_once_than_allowed() -> None:
    app = Patient()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(staged(app, waiting_threads=1, waiting_idle_s=0.05, queue_max_wait_s=0.0))
        first, second = (stack.enter_context(stage.connect()) for _ in range(2))
        stage.say(first, ASKED % b"/waits")
        until_begun(stage, app, 1)
        stage.say(second, ASKED % b"/waits")
        stage.turn()
        assert second.recv(1000).startswith(b"HTTP/1.1 503 ")
        app.may_answer.release()
        stage.until(lambda: not stage.dispatcher.stats.running())
        assert first.recv(1000).endswith(b"ok")


def test_an_idle_thread_is_used_again_and_then_ends() -> None:
    done: list[str] = []
    received = threading.Semaphore(0)

    def work(word: str) -> None:
        done.append(f"{word} {threading.current_thread().name}")
        received.release()

    pool = ElasticPool(work, kept=0, idle_s=0.5)
    pool.submit("first")
    assert received.acquire(timeout=60)
    pool.ended()
    pool.submit("second")
    assert received.acquire(timeout=60)
    assert done == ["first retort-request-1", "second retort-request-1"]
    pool.close(time.monotonic() + 5)
    assert not pool._threads


def test_work_waits_for_a_free_thread_if_the_system_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    may_end, received = threading.Semaphore(0), threading.Semaphore(0)
    done: list[str] = []

    def work(word: str) -> None:
        assert may_end.acquire(timeout=60)
        done.append(word)
        received.release()

    pool = ElasticPool(work, kept=1, idle_s=0.5)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool.submit("first")
    pool.submit("second")
    for _ in done, done:
        may_end.release()
        assert received.acquire(timeout=60)
    assert done == ["first", "second"]
    pool.close(time.monotonic() + 5)
    assert not pool._threads


def test_the_threads_that_stay_do_not_end_when_they_are_idle() -> None:
    received = threading.Semaphore(0)
    pool = ElasticPool(lambda _: received.release(), kept=1, idle_s=0.01)
    kept = set(pool._threads)
    for _ in range(3):
        pool.submit("work")
        assert received.acquire(timeout=60)
        pool.ended()
        next(iter(kept)).join(0.03)
    assert pool._threads == kept
    pool.close(time.monotonic() + 5)
