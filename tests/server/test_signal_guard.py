"""Tests that a worker cannot signal the server, or all processes, by Python's functions."""

from __future__ import annotations

import os
import signal

import pytest

from app.server.master import _guard, end_process_group

SERVER = 4711


@pytest.mark.parametrize("target", [SERVER, -1, -SERVER])
def test_signals_to_the_server_and_to_everybody_are_refused(target: int, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[tuple[int, int]] = []
    send = _guard(lambda *call: sent.append(call), {SERVER, -1, -SERVER}, SERVER)
    with pytest.raises(PermissionError, match="may not signal"):
        send(target, signal.SIGTERM)
    assert sent == []
    assert str(SERVER) in caplog.text


def test_other_signals_are_sent() -> None:
    sent: list[tuple[int, int]] = []
    send = _guard(lambda *call: sent.append(call), {SERVER}, SERVER)
    for call in ((SERVER, 0), (1234, signal.SIGTERM), (0, signal.SIGKILL)):
        send(*call)
    assert sent == [(SERVER, 0), (1234, signal.SIGTERM), (0, signal.SIGKILL)]


def test_only_the_group_of_a_worker_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda *call: ended.append(call))
    for group in (-1, 0, 1, os.getpgrp(), SERVER):
        end_process_group(group)
    assert ended == [(SERVER, signal.SIGKILL)]
