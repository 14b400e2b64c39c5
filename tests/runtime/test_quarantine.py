"""Which version is quarantined after which deaths, and whose runs are noted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.runtime.quarantine import DEATHS, WITHIN_S, Deaths, NotedServable, noting
from app.runtime.servable import Servable
from app.signature.batch import Batch, Outputs
from app.telemetry.process_state import ProcessState
from tests.storage.versions import MANIFEST

A, B = ("a", 1), ("b", 1)


class Notes:
    """Keeps what is noted, in order."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def run_began(self, model: str, version: int) -> None:
        self.kept.append(f"{model} {version} began")

    def run_ended(self, model: str, version: int) -> None:
        self.kept.append(f"{model} {version} ended")


class Runs:
    """Runs while the note of its beginning is there and that of its end is not; fails where it is told to."""

    def __init__(self, notes: Notes, fails: bool = False) -> None:
        self.notes, self.fails = notes, fails

    def run(self, batch: Batch, outputs: Any) -> Outputs:
        assert len(self.notes.kept) == 1
        if self.fails:
            raise SystemExit("bye")
        return {"prediction": np.array([1])}


def test_the_third_death_within_a_minute_is_enough() -> None:
    deaths = Deaths()
    assert [deaths.count({A: 5.0}, now_s) for now_s in (0.0, WITHIN_S / 2, WITHIN_S)] == [None, None, A]
    assert deaths.count({A: 5.0}, WITHIN_S) is None  # it begins anew


def test_deaths_that_are_further_apart_are_not() -> None:
    deaths = Deaths()
    for number in range(2 * DEATHS):
        assert deaths.count({A: 5.0}, number * WITHIN_S * 0.51) is None


def test_a_death_in_no_run_is_nobodys() -> None:
    deaths = Deaths()
    assert [deaths.count({}, now_s) for now_s in (0.0, 1.0, 2.0, 3.0)] == [None] * 4


def test_who_was_there_only_now_and_then_is_not_meant() -> None:
    deaths = Deaths()
    assert [deaths.count(ran, 0.0) for ran in ({A: 9.0, B: 1.0}, {A: 9.0, B: 1.0}, {A: 9.0})] == [None, None, A]


def test_of_those_who_were_always_there_it_is_the_one_that_runs_least_and_else_the_other() -> None:
    deaths = Deaths()
    ran = {A: 9.0, B: 1.0}
    assert [deaths.count(ran, 0.0) for _ in range(3)] == [None, None, B]
    assert deaths.count({A: 9.0}, 1.0) == A


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_is_noted_for_as_long_as_it_lasts(fails: bool) -> None:
    notes = Notes()
    noted = NotedServable(Runs(notes, fails), "a", 1, notes, ProcessState())
    batch = Batch({}, 1)
    if fails:
        with pytest.raises(SystemExit):
            noted.run(batch, ["prediction"])
    else:
        assert noted.run(batch, ["prediction"])["prediction"].tolist() == [1]
    assert notes.kept == ["a 1 began", "a 1 ended"]


def test_artifacts_are_noted_and_graphs_are_not() -> None:
    composed: list[Servable] = []

    def compose(servable: Servable, runtime: str, manifest: Any) -> Servable:
        composed.append(servable)
        return servable

    notes = Notes()
    servable = Runs(notes)
    assert noting(notes, compose)(servable, "graph", MANIFEST) is servable
    assert isinstance(noting(notes, compose)(servable, "artifact", MANIFEST), NotedServable)
    assert composed[0] is servable  # and what is composed further is what notes
    assert isinstance(composed[1], NotedServable)
