"""What a worker sees of its master."""

from __future__ import annotations

import os
import socket
import time

from gunicorn.config import Config

from app.server.master import MemoryHeartbeat, holds_any


def test_whether_a_process_has_a_socket_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        assert holds_any(os.getpid(), [ours])
        assert not holds_any(1, [ours])
        assert not holds_any(2**22 + 1, [ours])  # there is no such process
        assert not holds_any(os.getpid(), [])


def test_the_master_sees_the_heartbeat_of_a_process_that_it_forked() -> None:
    heartbeat = MemoryHeartbeat(Config())
    before_s = heartbeat.last_update()
    child = os.fork()
    if child == 0:
        heartbeat.notify()
        os._exit(0)
    os.waitpid(child, 0)
    assert heartbeat.last_update() != before_s
    assert 0 <= time.monotonic() - heartbeat.last_update() < 60
    heartbeat.close()
