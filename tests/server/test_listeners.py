"""Tests of the listening sockets of a worker that stops."""

from __future__ import annotations

import os
import socket

import pytest

from app.server.lifecycle import drop_new_connections, holds_any


def test_open_sockets_of_a_process_are_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        assert holds_any(os.getpid(), [ours])
        assert not holds_any(1, [ours])
        assert not holds_any(2**22 + 1, [ours])  # there is no such process
        assert not holds_any(os.getpid(), [])


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["4", "6"])
def test_no_connection_begins_and_those_that_have_begun_are_served(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as listener, socket.socket(family) as early:
        address = listener.getsockname()
        early.connect(address)
        drop_new_connections([listener])
        with socket.socket(family) as late:
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.connect(address)
        early.sendall(b"question")
        served, _ = listener.accept()
        with served:
            assert served.recv(8) == b"question"
            served.sendall(b"answer")
            assert early.recv(6) == b"answer"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_unix_socket_is_left_as_it_is() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        drop_new_connections([ours])
        theirs.sendall(b"question")
        assert ours.recv(8) == b"question"
