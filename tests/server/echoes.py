"""An application whose responses describe their requests, and a client that sends slowly."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from tests.server.reference import plain
from tests.server.serving import Serving

BIG_TIMES = 8_000
STREAMED_PARTS, STREAMED_TIMES = 12, 500
HANGS_AFTER_S = 20.0
BATCHED = ("/batched", "/batched/hold")
HEADERS = [("Content-Type", "text/plain")]
NOT_THE_SAME = ("REMOTE_ADDR", "REMOTE_PORT")
"""Keys that Gunicorn's parser does not get."""


def echo(environ: dict[str, Any], body: bytes) -> bytes:
    """Return the expected response to this request: a digest of 64 letters, repeated as often as its path says."""
    known = sorted((key, value) for key, value in plain(environ, body).items() if key not in NOT_THE_SAME)
    digest = hashlib.sha256(repr((known, body)).encode()).hexdigest().encode()
    times = {"/big": BIG_TIMES, "/stream": STREAMED_PARTS * STREAMED_TIMES}
    return digest * times.get(environ["PATH_INFO"], 1)


class Echo(Serving):
    """Answer with the echo of each request, in the way that its path names. `/hold` waits until it is released.

    Requests for `/batched` and `/batched/hold` have one batch key.
    """

    def __init__(self) -> None:
        self.run: dict[str, list[bytes]] = {}  # the echoes made, by the port of the client
        self.holding = 0
        self._change = threading.Condition()
        self._generation = 0
        self._is_open = False

    def runs_inline(self, environ: dict[str, Any]) -> bool:
        return environ["PATH_INFO"] not in ("/thread", "/hold", "/big", "/stream", *BATCHED)

    def batch_key(self, environ: dict[str, Any]) -> str | None:
        return "one" if environ["PATH_INFO"] in BATCHED else None

    def _run(self, environ: dict[str, Any]) -> bytes:
        answer = echo(environ, environ["wsgi.input"].read())
        self.run.setdefault(environ["REMOTE_PORT"], []).append(answer)
        return answer

    def release(self, for_ever: bool = False) -> None:
        with self._change:
            self._generation += 1
            self._is_open = self._is_open or for_ever
            self._change.notify_all()

    def _hold(self) -> None:
        with self._change:
            held = self._generation
            self.holding += 1
            self._change.wait_for(lambda: self._is_open or self._generation > held, HANGS_AFTER_S)
            self.holding -= 1

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes] | list[bytes]:
        answer, path = self._run(environ), environ["PATH_INFO"]
        if path.endswith("/hold"):
            self._hold()
        if path == "/stream":
            start_response("200 OK", HEADERS)
            size = len(answer) // STREAMED_PARTS
            return (answer[at : at + size] for at in range(0, len(answer), size))
        start_response("200 OK", [*HEADERS, ("Content-Length", str(len(answer)))])
        return [answer]


class Client:
    """One client: the bytes that it plans to send, has sent, and has received."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self.sock, self.port = sock, port
        self.pending = self.sent = self.told = b""
        self.ended = False  # it sends nothing more
        self.told_all = False
        self.may_be_cut = False  # it ended or ran out of time, so that the worker need not answer everything

    def deliver(self, size: int) -> None:
        if self.ended or not self.pending:
            return
        try:
            size = self.sock.send(self.pending[:size])
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self.pending = b""
            return
        self.sent += self.pending[:size]
        self.pending = self.pending[size:]

    def read(self) -> None:
        while not self.told_all:
            try:
                received = self.sock.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                received = b""
            self.told += received
            self.told_all = not received
