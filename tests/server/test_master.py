"""Tests of the worker's view of its master, and of the master's view of its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config

from app.server.master import (
    STOPPED_S,
    MemoryHeartbeat,
    hold_signals_of_new_workers,
    is_stopped,
    tell_workers_of_the_end,
    watch_frozen_workers,
)


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


FROZEN_S = 20.0


class FakeWorker:
    """A worker with a given time since its last heartbeat."""

    def __init__(self, silent_s: float, booted: bool = True) -> None:
        self.tmp = self
        self.aborted = False
        self.booted = booted
        self._last_s = time.monotonic() - silent_s

    def last_update(self) -> float:
        return self._last_s


class FakeArbiter:
    """The part of Gunicorn's master that watches its workers."""

    def __init__(self, **workers: FakeWorker) -> None:
        self.WORKERS = {int(name.removeprefix("pid")): worker for name, worker in workers.items()}
        self.signalled: list[tuple[int, int]] = []
        self.looked = 0
        watch_frozen_workers(self, lambda worker: worker.booted, FROZEN_S)

    def kill_worker(self, process_id: int, number: int) -> None:
        self.signalled.append((process_id, number))

    def murder_workers(self) -> None:
        self.looked += 1


@pytest.fixture
def stopped() -> Iterator[int]:
    """Yield the id of a process that a signal has stopped."""
    with subprocess.Popen(["sleep", "60"]) as child:
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        yield child.pid
        child.kill()


def test_a_worker_that_is_stopped_is_continued(stopped: int) -> None:
    assert is_stopped(stopped)
    assert not is_stopped(os.getpid())
    assert not is_stopped(2**22 + 1)  # there is no such process
    arbiter = FakeArbiter(**{f"pid{stopped}": FakeWorker(STOPPED_S + 1.0), f"pid{os.getpid()}": FakeWorker(5.0)})
    arbiter.murder_workers()
    assert arbiter.signalled == [(stopped, signal.SIGCONT)]
    assert arbiter.looked == 1, "Gunicorn looks as well"


def test_a_worker_is_ended_that_is_silent_for_longer_than_a_request_may_take() -> None:
    arbiter = FakeArbiter(
        pid1=FakeWorker(FROZEN_S + 1.0), pid2=FakeWorker(FROZEN_S - 5.0), pid3=FakeWorker(99.0, False)
    )
    arbiter.murder_workers()
    arbiter.murder_workers()
    assert arbiter.signalled == [(1, signal.SIGABRT), (1, signal.SIGKILL)]


class ForkedWorker:
    """A worker that is told to end before it has its own handlers."""

    def __init__(self) -> None:
        self.was_told = False

    def init_signals(self) -> None:
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, number: int, frame: object) -> None:
        self.was_told = True


class ForkingArbiter:
    """The part of Gunicorn's master that forks a worker."""

    worker_class = ForkedWorker

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.children: list[int] = []

    def spawn_worker(self) -> int:
        child = os.fork()
        if child:
            self.children.append(child)
            return child
        os.kill(os.getpid(), signal.SIGTERM)
        worker = self.worker_class()
        worker.init_signals()
        os._exit(0 if worker.was_told else 1)


def test_a_signal_that_comes_while_a_worker_is_forked_is_handled_by_the_worker() -> None:
    arbiter = ForkingArbiter()
    hold_signals_of_new_workers(arbiter)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    child = arbiter.spawn_worker()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class StoppedArbiter:
    """A master that is asked to stop."""

    def __init__(self, reexec_pid: int = 0, master_pid: int = 0, systemd: bool = False) -> None:
        self.reexec_pid, self.master_pid, self.systemd = reexec_pid, master_pid, systemd
        self.stopped: list[bool] = []

    def stop(self, graceful: bool = True) -> None:
        self.stopped.append(graceful)


def test_workers_learn_that_the_server_ends() -> None:
    arbiter = StoppedArbiter()
    ends = tell_workers_of_the_end(arbiter)
    assert not ends()
    arbiter.stop(graceful=False)
    assert arbiter.stopped == [False]
    assert ends()


@pytest.mark.parametrize("others", [{"reexec_pid": 7}, {"master_pid": 7}, {"systemd": True}], ids=str)
def test_a_server_whose_listeners_outlive_it_does_not_announce_its_end(others: dict[str, Any]) -> None:
    arbiter = StoppedArbiter(**others)
    ends = tell_workers_of_the_end(arbiter)
    arbiter.stop()
    assert arbiter.stopped == [True]
    assert not ends()
