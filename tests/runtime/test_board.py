"""The board that tells all processes which models are wanted in service."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidRepository
from app.runtime import board
from app.runtime.board import Wish, WishBoard


def test_a_new_board_is_empty() -> None:
    assert WishBoard().read() == (0, {})


def test_the_last_wish_counts() -> None:
    asked = WishBoard()
    assert [asked.wish("iris", served=False), asked.wish("wine", served=False), asked.wish("iris", served=True)] == [
        1,
        2,
        3,
    ]
    assert asked.changes[0] == 3
    assert asked.read() == (3, {"iris": Wish(True, 3), "wine": Wish(False, 2)})


def test_versions_are_quarantined_until_the_next_wish() -> None:
    asked = WishBoard()
    assert [asked.quarantine("iris", 2), asked.quarantine("iris", 3)] == [1, 2]
    assert asked.read() == (2, {"iris": Wish(True, 0, {2: 1, 3: 2})})
    asked.wish("iris", served=False)
    asked.quarantine("iris", 1)
    assert asked.read() == (4, {"iris": Wish(False, 3, {1: 4})})
    asked.wish("iris", served=True)
    assert asked.read() == (5, {"iris": Wish(True, 5)})


def test_another_process_sees_and_writes_the_same_board() -> None:
    shared = WishBoard()
    shared.wish("iris", served=False)
    child = os.fork()
    if child == 0:  # no test framework beyond this line
        right = shared.read() == (1, {"iris": Wish(False, 1)})
        shared.wish("wine", served=True)
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert shared.read() == (2, {"iris": Wish(False, 1), "wine": Wish(True, 2)})


def test_writers_lose_nothing() -> None:
    shared = WishBoard()
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            for each in range(50):
                shared.wish(f"{number}-{each}", served=True)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda each: shared.wish(f"thread-{each}", served=True), range(50)))
    changes, wishes = shared.read()
    assert (changes, len(wishes)) == (200, 200)
    assert sorted(wish.change for wish in wishes.values()) == list(range(1, 201))


class Torn:
    """Memory whose writer is killed in the middle of what it writes."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __getitem__(self, where: Any) -> Any:
        return self.memory[where]

    def __setitem__(self, where: Any, content: Any) -> None:
        half = len(content) // 2
        self.memory[where.start : where.start + half] = content[:half]
        os.kill(os.getpid(), signal.SIGKILL)


class TornNumbers(Torn):
    """Numbers whose writer is killed when it would write that of the changes."""

    def __setitem__(self, where: Any, number: Any) -> None:
        if where == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.memory[where] = number


@pytest.mark.parametrize("wishes", [0, 1, 2])
@pytest.mark.parametrize(("torn", "name"), [(Torn, "_memory"), (TornNumbers, "_numbers")])
def test_who_is_killed_while_it_writes_has_changed_nothing(wishes: int, torn: type[Torn], name: str) -> None:
    shared = WishBoard()
    for number in range(wishes):
        shared.wish(f"iris-{number}", served=number > 0)
    before = shared.read()
    child = os.fork()
    if child == 0:
        setattr(shared, name, torn(getattr(shared, name)))
        shared.wish("wine" * 100, served=False)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (shared.changes[0], shared.read()) == (wishes, before)
    shared.quarantine("wine", 2)
    assert shared.read() == (wishes + 1, {**before[1], "wine": Wish(True, 0, {2: wishes + 1})})


def test_a_full_board_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "SIDE_BYTES", 200)
    full = WishBoard()
    full.wish("iris", served=True)
    with pytest.raises(InvalidRepository, match="restart the server"):
        full.wish("x" * 200, served=True)
    assert full.read() == (1, {"iris": Wish(True, 1)})


def test_nothing_is_left_when_it_goes() -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        WishBoard().wish("iris", served=True)
    assert len(list(Path("/dev/fd").iterdir())) <= before
