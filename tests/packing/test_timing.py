"""Timing of graph and artifact, with servables that advance a fake clock."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from app.packing import timing
from app.packing.prove import proof_of
from app.packing.remarks import graph_remarks
from app.packing.timing import artifact_cost_us, compared_us, medians_us, slower_sentence, slower_times, written
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch, Outputs

SIGNATURE = Signature((Input("a", "number", "float64"),), ("prediction",), ("prediction",), Layout.MATRIX)


class Clock:
    """A clock that only servables advance."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FakeModel:
    """Take some microseconds for each run and each row; count the runs."""

    def __init__(self, clock: Clock, run_us: float, row_us: float) -> None:
        self.clock, self.run_us, self.row_us = clock, run_us, row_us
        self.runs = 0

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        self.runs += 1
        self.clock.now_s += (self.run_us + batch.rows * self.row_us) / 1e6
        return {"prediction": np.zeros(batch.rows)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(timing, "TIMED_SECONDS", 0.07)
    monkeypatch.setattr(timing, "MIN_RUNS", 5)
    return clock


def test_graph_and_artifact_are_timed_with_1_32_and_1000_rows(clock: Clock) -> None:
    graph, artifact = FakeModel(clock, 10, 3), FakeModel(clock, 100, 1)
    taken_us = compared_us(graph, artifact, SIGNATURE, [{"a": 1.0}, {"a": 2.0}])
    assert taken_us == {
        "graph_us": 13.0,
        "artifact_us": 101.0,
        "graph_32_us": 106.0,
        "artifact_32_us": 132.0,
        "graph_1000_us": 3010.0,
        "artifact_1000_us": 1100.0,
    }


def test_known_times_of_an_artifact_are_not_measured_again(clock: Clock) -> None:
    artifact, records = FakeModel(clock, 100, 1), [{"a": 1.0}, {"a": 2.0}]
    taken_us = compared_us(FakeModel(clock, 10, 3), artifact, SIGNATURE, records)
    costs_us = artifact_cost_us(artifact, SIGNATURE, records)
    artifact.runs = 0
    assert artifact_cost_us(artifact, SIGNATURE, records, taken_us) == costs_us == {"1": 101.0, "32": 132.0}
    assert artifact.runs == 1 + len(records)  # rows together and alone


def test_timing_takes_a_fraction_of_a_second_where_the_model_is_quick(clock: Clock) -> None:
    compared_us(FakeModel(clock, 10, 3), FakeModel(clock, 100, 1), SIGNATURE, [{"a": 1.0}])
    assert clock.now_s < 6.5 * timing.TIMED_SECONDS


def test_a_slow_model_is_run_twice(clock: Clock) -> None:
    graph, artifact = FakeModel(clock, 5e6, 0), FakeModel(clock, 5e6, 0)
    batch = Batch({"a": np.zeros(1)}, 1)
    assert medians_us(*(lambda each=each: each.run(batch, ()) for each in (graph, artifact))) == [5e6, 5e6]
    assert (graph.runs, artifact.runs) == (2, 2)


def test_calls_take_turns(clock: Clock) -> None:
    called = []

    def call(name: str) -> None:
        called.append(name)
        clock.now_s += 1.0

    medians_us(lambda: call("graph"), lambda: call("artifact"))
    assert called == ["graph", "artifact"] * (len(called) // 2)


@pytest.mark.parametrize(
    ("graph_us", "times", "message"),
    [
        ((10.0, 20.0, 119.0), {}, None),
        (
            (10.0, 20.0, 280.0),
            {"1000": 2.8},
            "the graph is slower than the artifact: it takes 2.8 times as long for 1,000 rows",
        ),
        (
            (121.0, 150.0, 90.0),
            {"1": 1.21, "32": 1.5},
            "the graph is slower than the artifact: it takes 1.2 times as long for one row and 1.5 times as long for "
            "32 rows",
        ),
    ],
)
def test_a_graph_more_than_a_fifth_slower_is_called_slower(
    graph_us: tuple[float, ...], times: dict[str, float], message: str | None
) -> None:
    taken_us = {timing.key_of("graph", rows): taken for rows, taken in zip(timing.ROWS_TIMED, graph_us, strict=True)}
    taken_us |= {timing.key_of("artifact", rows): 100.0 for rows in timing.ROWS_TIMED}
    assert slower_times(taken_us) == times
    recorded = proof_of(5000, 0, 1e-16, taken_us)
    assert (recorded["slower_times"], recorded.get("slower")) == (times, message)
    assert graph_remarks(recorded)[1:] == ([message] if message else [])
    assert message is None or slower_sentence(times) == message


def test_a_proof_of_an_earlier_release_has_no_time_of_32_rows() -> None:
    proof = {"proven": True, "rows": 9, "largest_difference": 0.0, "graph_us": 10.0, "artifact_us": 20.0}
    proof |= {"graph_1000_us": 2e4, "artifact_1000_us": 3e3}
    assert graph_remarks(proof) == [
        "served as a graph, equal to the artifact on 9 rows (largest relative difference 0.0e+00); "
        "one row takes 10 µs, with the artifact 20 µs; 1,000 rows take 20 ms, with the artifact 3.0 ms"
    ]


@pytest.mark.parametrize(
    ("duration_us", "text"),
    [
        (0.4, "0 µs"),
        (59.4, "59 µs"),
        (999.4, "999 µs"),
        (999.6, "1.0 ms"),
        (1234.0, "1.2 ms"),
        (59_321.88, "59 ms"),
        (999_600.0, "1.0 s"),
        (1_250_000.0, "1.2 s"),
        (61_000_000.0, "61 s"),
    ],
)
def test_a_duration_has_a_suitable_unit(duration_us: float, text: str) -> None:
    assert written(duration_us) == text
