"""Tests of clients that read an answer slowly: progress counts by the bytes that they have read."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from app.server.answers import unacknowledged_bytes
from app.server.connection import ANSWERING, Connection
from app.server.limits import Limits
from tests.server.stage import Recorder, Stage, staged

LONG = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged(Recorder()) as one:
        yield one


def answering(stage: Stage, client: socket.socket) -> Connection:
    """Return the connection of a client whose answer fills the kernel's buffer."""
    client.setblocking(True)
    client.settimeout(0.01)
    sent = 0
    while sent < len(LONG):
        with contextlib.suppress(TimeoutError):
            sent += client.send(LONG[sent : sent + 65536])
        stage.turn()
    (connection,) = stage.loop.connections.values()
    stage.until(lambda: connection.state is ANSWERING)
    assert connection.unsent
    return connection


def read_some(client: socket.socket, connection: Connection) -> None:
    """Read until the kernel counts the bytes as read: over a Unix socket it counts whole buffers."""
    before_bytes = unacknowledged_bytes(connection.sock)
    while unacknowledged_bytes(connection.sock) == before_bytes:
        assert client.recv(4096)


def time_passes(stage: Stage, connection: Connection) -> None:
    """Let the deadline of a connection pass."""
    connection.deadline_s = time.monotonic()
    stage.loop._next_sweep_s = 0.0
    stage.turn()


def test_a_client_that_reads_too_little_to_free_the_buffer_is_not_cut(stage: Stage) -> None:
    with stage.connect() as client:
        connection = answering(stage, client)
        unsent_bytes = sum(map(len, connection.unsent))
        for _ in range(2):
            read_some(client, connection)
            time_passes(stage, connection)
            assert connection.state is ANSWERING
        assert sum(map(len, connection.unsent)) == unsent_bytes, "the kernel has reported no room"


def test_a_client_that_reads_nothing_more_is_cut(stage: Stage) -> None:
    with stage.connect() as client:
        connection = answering(stage, client)
        read_some(client, connection)
        time_passes(stage, connection)
        assert connection.state is ANSWERING
        time_passes(stage, connection)
        assert not stage.loop.connections
        assert stage.dispatcher.stats.refused == {"answer_timeout": 1}


def test_reading_extends_the_deadline_by_at_most_the_grace_or_one_buffer(stage: Stage) -> None:
    with stage.connect() as client:
        connection = answering(stage, client)
        limits, now_s, read_bytes = Limits(), connection.deadline_s, connection.unsent._read_bytes
        read_some(client, connection)
        connection._extend_by_reading(now_s)
        buffer_s = (connection.unsent._read_bytes - read_bytes) / limits.answer_floor_bytes_per_s
        assert limits.answer_grace_s < buffer_s < limits.client_buffer_bytes / limits.answer_floor_bytes_per_s
        assert connection.deadline_s == now_s + buffer_s
        connection.unsent._read_bytes = -(2**30)
        connection._extend_by_reading(now_s)
        assert connection.deadline_s == now_s + limits.client_buffer_bytes / limits.answer_floor_bytes_per_s
