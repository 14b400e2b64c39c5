"""Tests of clients that read an answer slowly over TCP, whose kernel acknowledges whole buffers.

The rates are the server's limits times `FASTER`, so that the test takes seconds. A client's kernel acknowledges the
same number of unread bytes at any rate; the limits are for slower clients.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from app.server.connection import CLOSED, Connection
from app.server.limits import Limits
from tests.server.stage import Recorder, Stage, staged

pytestmark = pytest.mark.slow

FASTER = 50
ANSWER_BYTES = 22_000_000
HELD_FOR_S = 180 / FASTER
"""Time for three of the largest acknowledgements of a client with the slowest rate."""
STEP_S = 0.002
LIMITS = {
    "answer_grace_s": Limits().answer_grace_s / FASTER,
    "answer_floor_bytes_per_s": Limits().answer_floor_bytes_per_s * FASTER,
}
BUFFERS = (4096, 16384, 0)
"""Sizes of the client's kernel buffer in bytes; 0 for the default."""


class Reader:
    """A client that reads at a constant rate, in bytes a second."""

    def __init__(self, stage: Stage, bytes_per_s: float, buffer_bytes: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.sock = socket.socket()
            if buffer_bytes:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            self.sock.connect(listener.getsockname())
            ours, address = listener.accept()
        self.connection: Connection = stage.loop.adopt(ours, address, ("127.0.0.1", 80), time.monotonic())
        self.sock.setblocking(False)
        self.sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.bytes_per_s = bytes_per_s
        self.read_bytes = 0
        self.began_s = time.monotonic()

    @property
    def is_cut(self) -> bool:
        return self.connection.state is CLOSED

    def read(self) -> None:
        """Read the bytes that are due. If the client is cut, the connection may be reset."""
        due_bytes = int((time.monotonic() - self.began_s) * self.bytes_per_s) - self.read_bytes
        if due_bytes > 0:
            with contextlib.suppress(OSError):
                self.read_bytes += len(self.sock.recv(due_bytes))


@pytest.fixture
def stage() -> Iterator[Stage]:
    class Large(Recorder):
        def __call__(self, environ: object, start_response: object) -> list[bytes]:
            assert callable(start_response)
            start_response("200 OK", [("Content-Length", str(ANSWER_BYTES))])
            return [b"x" * ANSWER_BYTES]

    with staged(Large(), **LIMITS) as one:
        yield one


@contextlib.contextmanager
def reading(stage: Stage, *rates: float) -> Iterator[list[Reader]]:
    """Run a reader for each rate and buffer size."""
    with contextlib.ExitStack() as ends:
        readers = [Reader(stage, rate, buffer_bytes) for rate in rates for buffer_bytes in BUFFERS]
        for reader in readers:
            ends.enter_context(reader.sock)
        yield readers


def test_a_client_that_reads_steadily_is_not_cut_and_one_that_reads_nothing_is(stage: Stage) -> None:
    with reading(stage, 20_000 * FASTER, 2_000 * FASTER, 0) as readers:
        slow, silent = readers[: 2 * len(BUFFERS)], readers[2 * len(BUFFERS) :]
        until_s = time.monotonic() + HELD_FOR_S
        while time.monotonic() < until_s or not all(reader.is_cut for reader in silent):
            stage.turn()
            for reader in slow:
                reader.read()
            assert not any(reader.is_cut for reader in slow)
            time.sleep(STEP_S)
        assert stage.dispatcher.stats.refused == {"answer_timeout": len(silent)}
        least_bytes = HELD_FOR_S * LIMITS["answer_floor_bytes_per_s"]
        assert min(reader.read_bytes for reader in slow) > least_bytes
