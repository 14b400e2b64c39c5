"""The choice of the quarantined version after crashes, and the recording of runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.runtime.quarantine import (
    CRASH_WINDOW_S,
    MAX_CRASHES,
    CountingServable,
    CrashTracker,
    RecordingServable,
    record_runs,
)
from app.runtime.servable import Servable
from app.signature.batch import Batch, Outputs
from app.telemetry.process_state import ProcessState
from tests.storage.versions import MANIFEST

A, B = ("a", 1), ("b", 1)


class FakeRuns:
    """Record the calls in order."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def run_began(self, model: str, version: int) -> None:
        self.kept.append(f"{model} {version} began")

    def run_ended(self, model: str, version: int) -> None:
        self.kept.append(f"{model} {version} ended")


class FakeModel:
    """Check that its run has begun and not ended; raise if `fails`."""

    def __init__(self, runs: FakeRuns, fails: bool = False) -> None:
        self.runs, self.fails = runs, fails

    def run(self, batch: Batch, outputs: Any) -> Outputs:
        assert len(self.runs.kept) == 1
        if self.fails:
            raise SystemExit("bye")
        return {"prediction": np.array([1])}


def test_a_version_is_quarantined_after_three_crashes_within_a_minute() -> None:
    crashes = CrashTracker()
    assert [crashes.count({A: 5.0}, now_s) for now_s in (0.0, CRASH_WINDOW_S / 2, CRASH_WINDOW_S)] == [None, None, A]
    assert crashes.count({A: 5.0}, CRASH_WINDOW_S) is None  # counting starts again


def test_crashes_that_are_further_apart_do_not_quarantine() -> None:
    crashes = CrashTracker()
    for number in range(2 * MAX_CRASHES):
        assert crashes.count({A: 5.0}, number * CRASH_WINDOW_S * 0.51) is None


def test_a_crash_outside_of_runs_quarantines_nothing() -> None:
    crashes = CrashTracker()
    assert [crashes.count({}, now_s) for now_s in (0.0, 1.0, 2.0, 3.0)] == [None] * 4


def test_a_version_that_ran_at_some_of_the_crashes_only_is_spared() -> None:
    crashes = CrashTracker()
    assert [crashes.count(ran, 0.0) for ran in ({A: 9.0, B: 1.0}, {A: 9.0, B: 1.0}, {A: 9.0})] == [None, None, A]


def test_the_suspect_with_the_fewest_runs_is_quarantined_first() -> None:
    crashes = CrashTracker()
    ran = {A: 9.0, B: 1.0}
    assert [crashes.count(ran, 0.0) for _ in range(3)] == [None, None, B]
    assert crashes.count({A: 9.0}, 1.0) == A


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_is_recorded_from_its_begin_to_its_end(fails: bool) -> None:
    runs = FakeRuns()
    recording = RecordingServable(FakeModel(runs, fails), "a", 1, runs, ProcessState())
    batch = Batch({}, 1)
    if fails:
        with pytest.raises(SystemExit):
            recording.run(batch, ["prediction"])
    else:
        assert recording.run(batch, ["prediction"])["prediction"].tolist() == [1]
    assert runs.kept == ["a 1 began", "a 1 ended"]


def test_runs_of_artifacts_are_recorded_and_runs_of_graphs_are_not() -> None:
    composed: list[Servable] = []

    def compose(servable: Servable, runtime: str, manifest: Any) -> Servable:
        composed.append(servable)
        return servable

    runs = FakeRuns()
    servable = FakeModel(runs)
    assert isinstance(record_runs(runs, compose)(servable, "graph", MANIFEST), CountingServable)
    assert isinstance(record_runs(runs, compose)(servable, "artifact", MANIFEST), RecordingServable)
    # The further composed servable runs.
    assert [type(each) for each in composed] == [CountingServable, RecordingServable]
