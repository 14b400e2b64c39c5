"""The choice of a version and of the default model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.policy import MOVES, State, current_version, default_model, named_version

A, F, LOADED = State.AVAILABLE, State.FAILED, State.LOADED


@pytest.mark.parametrize(
    ("states", "version"),
    [
        ({}, None),
        ({1: A}, 1),
        ({1: A, 2: A, 10: A, 9: A}, 10),
        ({1: A, 2: F}, 1),
        ({1: F, 2: LOADED}, None),
        ({1: State.RETIRED, 2: State.FOUND, 3: State.VERIFIED}, None),
    ],
)
def test_the_newest_available_version_is_the_current_one(states: dict[int, State], version: int | None) -> None:
    assert current_version(states) == version


@pytest.mark.slow
@given(st.dictionaries(st.integers(1, 50), st.sampled_from(State)))
def test_the_current_version_is_the_newest_available_one_for_any_states(states: dict[int, State]) -> None:
    chosen = current_version(states)
    available = [version for version, state in states.items() if state is A]
    assert chosen == (max(available) if available else None)


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        ("1", 1),
        ("2", 2),
        ("3", None),
        ("champion", 2),
        ("gone", None),
        ("7", 1),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        (" 1", None),
        ("²", None),
        ("\uff11", None),
        ("9" * 5000, None),
    ],
)
def test_a_version_in_a_url_is_a_number_or_an_alias(wanted: str, version: int | None) -> None:
    assert named_version(wanted, {1: A, 2: F}, {"champion": 2, "gone": 9, "7": 1}) == version


def test_a_number_is_a_version_before_it_is_an_alias() -> None:
    assert named_version("1", {1: A, 2: A}, {"1": 2}) == 1


@pytest.mark.parametrize(
    ("wanted", "marked", "models", "default"),
    [
        ("", None, [], None),
        ("", None, ["a"], "a"),
        ("", None, ["a", "b"], None),
        ("", "b", ["a", "b"], "b"),
        ("", "gone", ["a", "b"], None),
        ("", "gone", ["a"], "a"),
        ("a", "b", ["a", "b"], "a"),
        ("gone", "b", ["a", "b"], None),
        ("gone", None, ["a"], None),
    ],
)
def test_the_default_model_is_the_setting_or_the_marked_or_the_only_one(
    wanted: str, marked: str | None, models: list[str], default: str | None
) -> None:
    assert default_model(wanted, marked, models) == default


def test_every_state_is_reachable_from_found() -> None:
    assert set(MOVES) == set(State)
    assert {state for state, after in MOVES.items() if not after} == {State.RETIRED, State.FAILED}
    reached = [State.FOUND]
    for state in reached:
        reached += [after for after in MOVES[state] if after not in reached]
    assert set(reached) == set(State)


def test_an_available_version_cannot_fail() -> None:
    assert MOVES[A] == {State.UNLOADING, State.QUARANTINED}
    assert {state for state, after in MOVES.items() if A in after} == {LOADED}
