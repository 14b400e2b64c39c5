"""Desired states that all processes of a server share."""

from __future__ import annotations

import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidRepository
from app.runtime import desired_states
from app.runtime.desired_states import DesiredState, DesiredStates


def test_nothing_is_desired_at_first() -> None:
    assert DesiredStates().read() == (0, {})


def test_the_last_change_of_a_model_counts() -> None:
    asked = DesiredStates()
    changes = [asked.set_served(model, served) for model, served in (("iris", False), ("wine", False), ("iris", True))]
    assert changes == [1, 2, 3]
    assert asked.changes[0] == 3
    assert asked.read() == (3, {"iris": DesiredState(True, 3), "wine": DesiredState(False, 2)})


def test_versions_are_quarantined_until_the_next_change_of_their_model() -> None:
    asked = DesiredStates()
    assert [asked.quarantine("iris", 2), asked.quarantine("iris", 3)] == [1, 2]
    assert asked.read() == (2, {"iris": DesiredState(True, 0, {2: 1, 3: 2})})
    asked.set_served("iris", served=False)
    asked.quarantine("iris", 1)
    assert asked.read() == (4, {"iris": DesiredState(False, 3, {1: 4})})
    asked.set_served("iris", served=True)
    assert asked.read() == (5, {"iris": DesiredState(True, 5)})


def test_another_process_sees_and_writes_the_same_states() -> None:
    shared = DesiredStates()
    shared.set_served("iris", served=False)
    child = os.fork()
    if child == 0:  # no code of the test framework runs after this line
        right = shared.read() == (1, {"iris": DesiredState(False, 1)})
        shared.set_served("wine", served=True)
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert shared.read() == (2, {"iris": DesiredState(False, 1), "wine": DesiredState(True, 2)})


@pytest.mark.slow
def test_changes_of_many_writers_are_complete() -> None:
    shared = DesiredStates()
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            for each in range(50):
                shared.set_served(f"{number}-{each}", served=True)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda each: shared.set_served(f"thread-{each}", served=True), range(50)))
    changes, states = shared.read()
    assert (changes, len(states)) == (200, 200)
    assert sorted(state.change for state in states.values()) == list(range(1, 201))


class Torn:
    """Memory whose writer is killed while it writes the content."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __getitem__(self, where: Any) -> Any:
        return self.memory[where]

    def __setitem__(self, where: Any, content: Any) -> None:
        half = len(content) // 2
        self.memory[where.start : where.start + half] = content[:half]
        os.kill(os.getpid(), signal.SIGKILL)


class TornNumbers(Torn):
    """Numbers whose writer is killed before it writes the number of changes."""

    def __setitem__(self, where: Any, number: Any) -> None:
        if where == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.memory[where] = number


@pytest.mark.slow
@pytest.mark.parametrize("states", [0, 1, 2])
@pytest.mark.parametrize(("torn", "name"), [(Torn, "_memory"), (TornNumbers, "_numbers")])
def test_a_process_that_is_killed_while_it_writes_has_changed_nothing(states: int, torn: type[Torn], name: str) -> None:
    shared = DesiredStates()
    for number in range(states):
        shared.set_served(f"iris-{number}", served=number > 0)
    before = shared.read()
    child = os.fork()
    if child == 0:
        setattr(shared, name, torn(getattr(shared, name)))
        shared.set_served("wine" * 100, served=False)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (shared.changes[0], shared.read()) == (states, before)
    shared.quarantine("wine", 2)
    assert shared.read() == (states + 1, {**before[1], "wine": DesiredState(True, 0, {2: states + 1})})


def test_full_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired_states, "BUFFER_BYTES", 200)
    full = DesiredStates()
    full.set_served("iris", served=True)
    with pytest.raises(InvalidRepository, match="restart the server"):
        full.set_served("x" * 200, served=True)
    assert full.read() == (1, {"iris": DesiredState(True, 1)})


def test_a_limit_of_the_size_of_files_does_not_matter() -> None:
    child = os.fork()
    if child == 0:  # no code of the test framework runs after this line
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        limited = DesiredStates()
        limited.set_served("iris", served=False)
        os._exit(0 if limited.read()[1] == {"iris": DesiredState(False, 1)} else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_remains_after_the_last_process() -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        DesiredStates().set_served("iris", served=True)
    assert len(list(Path("/dev/fd").iterdir())) <= before
