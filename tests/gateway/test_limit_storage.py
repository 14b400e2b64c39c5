"""Counts of limits in shared memory: windows, workers and bounded room."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from app.gateway.limit_storage import WAYS, SharedStorage

MINUTE_S = 60
FEW_ROWS = 64
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
"""The child uses nothing that other threads lock."""


def at_the_beginning_of_a_window(storage: SharedStorage, expiry: int = MINUTE_S) -> None:
    """Move the clock of the windows to shortly after the beginning of a window."""
    storage.ahead_s += expiry - storage.now_s() % expiry + 0.01


@pytest.fixture
def storage() -> SharedStorage:
    made = SharedStorage(FEW_ROWS)
    at_the_beginning_of_a_window(made)
    return made


def test_a_key_counts_what_is_added(storage: SharedStorage) -> None:
    assert [storage.add("a", MINUTE_S, amount)[0] for amount in (1, 1, 5, 0, -2)] == [1, 2, 7, 7, 5]
    assert storage.add("b", MINUTE_S, 1)[0] == 1


def test_the_last_window_counts_in_proportion_to_its_remaining_part(storage: SharedStorage) -> None:
    storage.add("a", MINUTE_S, 100)
    storage.ahead_s += MINUTE_S
    assert storage.add("a", MINUTE_S, 0)[0] == 99
    storage.ahead_s += MINUTE_S / 2
    assert storage.add("a", MINUTE_S, 1)[0] == 50  # 49 of the last window
    storage.ahead_s += MINUTE_S
    assert storage.add("a", MINUTE_S, 0)[0] == 0  # less than half of the only one
    storage.add("a", MINUTE_S, 100)
    storage.ahead_s += 2 * MINUTE_S
    assert storage.add("a", MINUTE_S, 0)[0] == 0


def test_the_end_of_the_window_is_known(storage: SharedStorage) -> None:
    assert MINUTE_S - 1 < storage.add("a", MINUTE_S, 1)[1] < MINUTE_S
    storage.ahead_s += 50
    assert 9 < storage.add("a", MINUTE_S, 1)[1] < 10


@pytest.mark.parametrize(("counted", "limit"), [(10, 10), (10, 4), (100, 10), (1, 1), (3, 1000)])
def test_after_the_wait_there_is_room_and_not_long_before(storage: SharedStorage, counted: int, limit: int) -> None:
    storage.add("a", MINUTE_S, counted)
    storage.ahead_s += MINUTE_S + 1 if counted > limit else 0
    wait_s = storage.wait_s("a", limit, MINUTE_S)
    assert 0 <= wait_s < 2 * MINUTE_S
    storage.ahead_s += wait_s + 0.001
    assert storage.add("a", MINUTE_S, 0)[0] < limit
    if wait_s:
        storage.ahead_s -= 1
        assert storage.add("a", MINUTE_S, 0)[0] >= limit or limit > counted


def test_a_clock_that_is_a_moment_behind_does_not_begin_a_window_again(storage: SharedStorage) -> None:
    storage.ahead_s += MINUTE_S
    storage.add("a", MINUTE_S, 7)
    storage.ahead_s -= 0.1  # the window before
    assert storage.add("a", MINUTE_S, 1)[0] == 8
    storage.ahead_s -= 10 * MINUTE_S  # the clock of the hosts was set back
    assert storage.add("a", MINUTE_S, 1)[0] == 1


def test_old_keys_make_room_for_new_ones(storage: SharedStorage) -> None:
    for number in range(20 * FEW_ROWS):
        storage.add(f"old {number}", MINUTE_S, 1)
        storage.add("busy", 3600, 1)  # needed for longer
    assert storage.add("busy", 3600, 0)[0] == 20 * FEW_ROWS
    assert storage.add("old 0", MINUTE_S, 0)[0] == 0


def test_a_new_key_begins_at_zero_in_the_row_of_an_old_one() -> None:
    storage = SharedStorage(WAYS)
    for number in range(10 * WAYS):
        assert storage.add(f"key {number}", MINUTE_S, 3)[0] == 3


def test_the_count_of_other_hosts_is_added_and_ends_with_the_window(storage: SharedStorage) -> None:
    storage.add("a", MINUTE_S, 2)
    window = int(storage.now_s() / MINUTE_S)
    storage.set_remote("a", window, MINUTE_S, 10)
    storage.set_remote("a", window, MINUTE_S, 7)  # an older message
    storage.set_remote("a", window - 1, MINUTE_S, 100)
    assert storage.add("a", MINUTE_S, 0)[0] == 12
    storage.ahead_s += MINUTE_S
    assert storage.add("a", MINUTE_S, 0)[0] == 11  # the last window counts whole
    storage.ahead_s += MINUTE_S
    assert storage.add("a", MINUTE_S, 0)[0] == 0


def test_threads_of_one_process_lose_no_count(storage: SharedStorage) -> None:
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda: [storage.add("a", MINUTE_S, 1) for _ in range(2000)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert storage.add("a", MINUTE_S, 0)[0] == 8000


@pytest.mark.slow
@FORKS
def test_processes_share_the_counts() -> None:
    storage = SharedStorage(FEW_ROWS)
    storage.share(2)
    at_the_beginning_of_a_window(storage, 86_400)
    children = []
    for number in (1, 2, None):
        child = os.fork()
        if not child:
            storage.begin(number)
            for _ in range(1000):
                storage.add("a", 86_400, 1)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert storage.add("a", 86_400, 0)[0] == 3000
    storage.begin(1)  # the next worker with the number of one that has ended
    assert storage.add("a", 86_400, 1)[0] == 3001


@FORKS
def test_processes_do_not_share_without_a_server(storage: SharedStorage) -> None:
    child = os.fork()
    if not child:
        storage.add("a", MINUTE_S, 1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert storage.add("a", MINUTE_S, 0)[0] == 0
