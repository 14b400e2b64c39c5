"""The loop in this process, which tests run turn by turn, without waiting."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger

from app.server.contract import Stats
from app.server.dispatcher import Dispatcher
from app.server.lifecycle import Lifecycle
from app.server.limits import Limits
from app.server.loop import Loop
from tests.server.serving import Serving, as_serving

MOST_TURNS = 2000
NEVER_S = 1e6


class QuietLog(Logger):  # type: ignore[misc]
    """The part of Gunicorn's logger that the worker uses."""

    access_log_enabled = False

    def __init__(self) -> None: ...

    def info(self, *args: Any) -> None: ...


class FakeWorker:
    leaving = False

    def __init__(self, cfg: Any) -> None:
        self.cfg, self.log = cfg, QuietLog()
        self.requests = 0

    def count_request(self) -> None:
        self.requests += 1


class Stage:
    """One worker's loop around an application, and its clients."""

    def __init__(self, app: Any, cfg: Any, limits: Limits) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.worker = FakeWorker(cfg)
        self.dispatcher = Dispatcher(self.worker, as_serving(app), limits, Stats())
        self.life = Lifecycle(0.0, 5.0, 0.1)
        self.loop = Loop([], self.read_fd, self.dispatcher, self.life, cfg)

    def connect(self, address: Any = "", name: Any = ("127.0.0.1", 80)) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.loop.adopt(ours, address, name, time.monotonic())
        theirs.setblocking(False)
        return theirs

    def turn(self) -> None:
        os.write(self.write_fd, b"x")  # so that the poller returns at once
        self.loop.turn(time.monotonic())

    def until(self, done: Callable[[], bool], within_s: float = 20.0) -> None:
        """Run turns until a condition holds; other threads may have to fulfil it."""
        give_up_s = time.monotonic() + within_s
        while not done():
            if time.monotonic() > give_up_s:
                raise AssertionError("it did not come to that")
            self.turn()

    def say(self, client: socket.socket, *parts: bytes) -> None:
        for part in parts:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(part)
            self.turn()

    def exchange(self, *parts: bytes, end: bool = True, address: Any = "") -> bytes:
        """Return all bytes for a client that sends these parts, one for each turn, and ends."""
        with self.connect(address) as client:
            self.say(client, *parts)
            if end:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_WR)
            told = b""
            for _ in range(MOST_TURNS):
                self.turn()
                try:
                    received = client.recv(1 << 20)
                except BlockingIOError:
                    if self.dispatcher.stats.running() or self.dispatcher.stats.queued():
                        time.sleep(0.001)
                        continue
                    if end:
                        continue
                    return told
                except ConnectionResetError:
                    return told
                if not received:
                    return told
                told += received
        raise AssertionError(f"the connection stays open after {told!r}")

    def close(self) -> None:
        self.loop.close()
        self.dispatcher.threads.pool.close(2.0)
        os.close(self.read_fd)
        os.close(self.write_fd)


@contextlib.contextmanager
def staged(app: Any, cfg: Any = None, *, queue_max_wait_s: float = NEVER_S, **limits: Any) -> Iterator[Stage]:
    """Return a worker's loop with these limits. Unless a test asks for it, no request is refused for a long wait."""
    cfg = cfg or config()
    stage = Stage(app, cfg, Limits(queue_max_wait_s=queue_max_wait_s, **limits))
    try:
        yield stage
    finally:
        stage.close()


def config(**settings: Any) -> Any:
    cfg = Config()
    for name, value in {"keepalive": 5, "threads": 1, "worker_connections": 1000, **settings}.items():
        cfg.set(name, value)
    return cfg


class Recorder(Serving):
    """An application that records each request and answers with its number, inline or in a thread."""

    def __init__(self, inline: bool = True) -> None:
        self.seen: list[tuple[dict[str, Any], bytes]] = []
        self.inline = inline

    def runs_inline(self, environ: dict[str, Any]) -> bool:
        return self.inline

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        self.seen.append((environ, body))
        answer = b"%d:%b" % (len(self.seen), body)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
        return [answer]
