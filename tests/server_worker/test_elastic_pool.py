"""Requests that wait for others: threads that come with them and go when they are idle, and take no other's place."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any

from app.server.elastic_pool import ElasticPool
from tests.server_worker.serving import Serving
from tests.server_worker.stage import Stage, config, staged

ASKED = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


class Patient(Serving):
    """`/waits` waits for the gate; everything else is answered at once, by a thread."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.threads: list[str] = []

    def may_block(self, environ: dict[str, Any]) -> bool:
        return bool(environ["PATH_INFO"] == "/waits")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.threads.append(threading.current_thread().name)
        if environ["PATH_INFO"] == "/waits":
            assert self.gate.acquire(timeout=5)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def until_begun(stage: Stage, app: Patient, count: int) -> None:
    deadline = time.monotonic() + 5
    while len(app.threads) < count and time.monotonic() < deadline:
        stage.turn()
    assert len(app.threads) == count


def test_what_waits_takes_no_thread_from_what_computes() -> None:
    app = Patient()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(staged(app, config(threads=1), waiting_idle_s=0.05))
        waiting = [stack.enter_context(stage.connect()) for _ in range(5)]
        for client in waiting:
            stage.say(client, ASKED % b"/waits")
        until_begun(stage, app, 5)
        assert b"200 OK" in stage.exchange(ASKED % b"/computes")
        assert {name.startswith("retort-waiting") for name in app.threads[:5]} == {True}
        assert app.threads[5] == "retort-request-1"
        for _ in waiting:
            app.gate.release()
        stage.until(lambda: not stage.dispatcher.stats.running())
        assert all(client.recv(1000).endswith(b"ok") for client in waiting)


def test_no_more_wait_at_once_than_are_allowed() -> None:
    app = Patient()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(staged(app, waiting_threads=1, waiting_idle_s=0.05, queue_max_wait_s=0.0))
        first, second = (stack.enter_context(stage.connect()) for _ in range(2))
        stage.say(first, ASKED % b"/waits")
        until_begun(stage, app, 1)
        stage.say(second, ASKED % b"/waits")
        stage.turn()
        assert second.recv(1000).startswith(b"HTTP/1.1 503 ")
        app.gate.release()
        stage.until(lambda: not stage.dispatcher.stats.running())
        assert first.recv(1000).endswith(b"ok")


def test_an_idle_thread_is_used_again_and_then_ends() -> None:
    done: list[str] = []
    told = threading.Semaphore(0)

    def work(word: str) -> None:
        done.append(f"{word} {threading.current_thread().name}")
        told.release()

    pool = ElasticPool(work, idle_s=0.5)
    pool.submit("first")
    assert told.acquire(timeout=5)
    deadline = time.monotonic() + 5
    while not pool._free and time.monotonic() < deadline:
        os.sched_yield()
    pool.submit("second")
    assert told.acquire(timeout=5)
    assert done == ["first retort-waiting-1", "second retort-waiting-1"]
    pool.stop_idle()
    pool.close(time.monotonic() + 5, time.monotonic)
    assert pool.started == 0
