"""What a worker sees of its master."""

from __future__ import annotations

import os
import socket

from app.server.loop import holds_any


def test_whether_a_process_has_a_socket_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        assert holds_any(os.getpid(), [ours])
        assert not holds_any(1, [ours])
        assert not holds_any(2**22 + 1, [ours])  # there is no such process
        assert not holds_any(os.getpid(), [])
