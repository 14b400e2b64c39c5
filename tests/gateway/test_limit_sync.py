"""Limits that several hosts share through a real Redis. Each host is a storage with its thread, in this process."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.gateway.limit_storage import SharedStorage
from app.gateway.limit_sync import UP, HostState, RedisSync
from app.telemetry.metrics import SharedMetrics
from tests.gateway.redis_server import RedisServer, redis_in

pytestmark = [pytest.mark.slow, pytest.mark.needs_program("redis-server")]

DAY_S = 86_400
SOON_S = 10.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_in(tmp_path) as server:
        yield server


class Host:
    """One host that shares its limits."""

    def __init__(self, url: str) -> None:
        self.storage, self.metrics = SharedStorage(64), SharedMetrics()
        self.sync = RedisSync(url, self.storage, self.metrics)
        self.sync.start()

    def count(self, amount: int = 0, key: str = "a") -> int:
        return self.storage.add(key, DAY_S, amount)[0]

    def has_sent(self) -> bool:
        """Return whether Redis has what this host has counted."""
        return self.is_up and not self.storage.additions and not self.sync._unsent

    @property
    def is_up(self) -> bool:
        return self.metrics.samples()["retort_limits_redis_up"] == {("0",): (1.0,)}


@contextlib.contextmanager
def hosts(redis: RedisServer, count: int = 2) -> Iterator[list[Host]]:
    made = [Host(redis.url) for _ in range(count)]
    try:
        yield made
    finally:
        for host in made:
            host.sync.close()


def soon(condition: Callable[[], object]) -> bool:
    """Return whether a condition is fulfilled soon."""
    until_s = time.monotonic() + SOON_S
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    return True


def test_each_host_learns_what_the_others_count(redis: RedisServer) -> None:
    with hosts(redis, 3) as (first, second, third):
        for number, host in enumerate((first, second, third, first), 1):
            host.count(number)
            assert soon(host.has_sent)
        assert [host.count() for host in (first, second, third)] == [10, 3, 6]  # the time of each host's last count
        second.count(1)
        assert soon(lambda: second.count() == 11)
        assert second.count(0, "b") == 0


def test_a_restarted_host_finds_what_it_had_counted(redis: RedisServer) -> None:
    with hosts(redis, 1) as (before,):
        before.count(7)
        assert soon(before.has_sent)
    with hosts(redis, 1) as (after,):
        after.count(1)
        assert soon(lambda: after.count() == 8)


def test_counts_that_are_taken_back_count_on_no_host(redis: RedisServer) -> None:
    with hosts(redis) as (first, second):
        first.count(5)
        first.count(-1)
        assert soon(first.has_sent)
        second.count(1)
        assert soon(lambda: second.count() == 5)


@pytest.mark.fault("S06")
def test_without_redis_each_host_counts_alone_and_logs_it_once(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.gateway.limit_sync")
    with hosts(redis) as (first, second):
        first.count(1)
        assert soon(first.has_sent)
        second.count(1)
        assert soon(lambda: second.count() == 2)
        redis.kill()
        assert soon(lambda: not first.is_up and not second.is_up)
        assert first.count(5) == 6
        assert second.count(1) == 3
        time.sleep(1.0)  # several attempts
        assert [record.message for record in caplog.records] == [
            "Redis does not answer (ConnectionError): until it does, this host counts its limits alone"
        ] * 2
        redis.start()
        assert soon(lambda: first.is_up and second.is_up)
        assert soon(lambda: first.has_sent() and second.has_sent())  # the counts of the time in between
        first.count(1)
        assert soon(lambda: first.count() == 8)
        back = [record.message for record in caplog.records if record.levelno == logging.INFO]
        assert back == ["Redis answers again: limits are shared with the other hosts"] * 2


@pytest.mark.fault("S06")
def test_no_count_waits_for_a_redis_that_hangs(redis: RedisServer) -> None:
    with hosts(redis, 1) as (host,):
        host.count(1)
        assert soon(lambda: host.is_up)
        redis.freeze()
        try:
            assert soon(lambda: host.count(1) and not host.is_up)
            assert host.count() > 10  # between the heartbeat and the end of the wait
        finally:
            redis.thaw()
        assert soon(lambda: host.is_up)


def test_hosts_whose_clocks_differ_share_a_window(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with hosts(redis, 1) as (right,):
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 3 * DAY_S)
        with hosts(redis, 1) as (wrong,):
            right.count(2)
            wrong.count(0)
            assert soon(lambda: abs(wrong.storage.now_s() - right.storage.now_s()) < 1)
            wrong.count(1)
            assert soon(lambda: wrong.count() == 3)


def test_the_counts_that_wait_for_redis_are_bounded_and_drop_old_windows(tmp_path: Path) -> None:
    host = Host.__new__(Host)
    host.storage, host.metrics = SharedStorage(64), SharedMetrics()
    host.sync = RedisSync("redis://127.0.0.1:1/0", host.storage, host.metrics)
    with contextlib.closing(host.sync):
        host.count(1)
        host.sync._collect()
        assert len(host.sync._unsent) == 1
        host.storage.ahead_s += 2 * DAY_S
        host.sync._collect()
        assert host.sync._unsent == {}


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded:DeprecationWarning"
)  # the child uses nothing that other threads lock
def test_one_worker_of_a_host_learns_of_a_change() -> None:
    state = HostState()
    with contextlib.closing(state):
        assert not state.change(True)
        told = 0
        for _ in range(8):
            child = os.fork()
            if not child:
                os._exit(int(state.change(False)))
            told += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert told == 1
        assert state.change(True)
        assert not state.change(True)


def test_the_metric_has_a_family() -> None:
    assert UP == "retort_limits_redis_up"


def test_a_url_that_the_library_does_not_take_leaves_the_limits_to_this_host(caplog: pytest.LogCaptureFixture) -> None:
    metrics = SharedMetrics()
    sync = RedisSync("redis://localhost/0?socket_timeout=soon", SharedStorage(), metrics)
    sync.start()
    sync.close()
    assert list(metrics.samples()["retort_limits_redis_up"].values()) == [(0.0,)]
    assert "this host counts its limits alone" in caplog.text
