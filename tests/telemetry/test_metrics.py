"""The counts of a process, and of all processes of a server."""

from __future__ import annotations

import os
import sys
import threading
import timeit
from collections.abc import Iterator
from typing import Any

import pytest

from app.server.contract import Stats
from app.telemetry import Timings
from app.telemetry.families import DURATION_BOUNDS_S
from app.telemetry.metrics import SharedMetrics
from app.telemetry.version_counts import OK

PENGUINS = ("penguins", "1")


@pytest.fixture
def often() -> Iterator[None]:
    """Make threads switch as often as possible."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


def snapshot(**counted: Any) -> dict[str, object]:
    return Stats().snapshot() | counted


def test_a_prediction_is_counted_with_its_rows_and_its_duration() -> None:
    metrics = SharedMetrics()
    metrics.predicted("penguins", 1, OK, 3, 0.003, {})
    metrics.predicted("penguins", 1, OK, 1, 1000.0, {})
    metrics.predicted("penguins", 1, "model-failed", 5, 0.1, {})
    metrics.predicted("penguins", 2, OK, 0, 0.0, {})
    samples = metrics.samples()
    assert samples["retort_predictions"] == {
        (*PENGUINS, "model-failed"): (1.0,),
        (*PENGUINS, OK): (2.0,),
        ("penguins", "2", OK): (1.0,),
    }
    assert samples["retort_prediction_rows"] == {PENGUINS: (4.0,), ("penguins", "2"): (0.0,)}
    *counts, total_s = samples["retort_prediction_duration_seconds"][PENGUINS]
    assert total_s == 1000.003
    assert [at for at, count in enumerate(counts) if count] == [DURATION_BOUNDS_S.index(0.005), len(DURATION_BOUNDS_S)]


def test_a_duration_that_is_a_bound_belongs_to_it() -> None:
    metrics = SharedMetrics()
    metrics.predicted("penguins", 1, OK, 1, 0.25, {})
    assert metrics.samples()["retort_prediction_duration_seconds"][PENGUINS][DURATION_BOUNDS_S.index(0.25)] == 1.0


def test_counts_of_many_threads_are_complete(often: None) -> None:
    metrics, threads, times = SharedMetrics(), 4, 20_000
    every = [
        threading.Thread(target=lambda: [metrics.predicted("penguins", 1, OK, 2, 0.5, {}) for _ in range(times)])
        for _ in range(threads)
    ]
    for thread in every:
        thread.start()
    for thread in every:
        thread.join()
    samples = metrics.samples()
    assert samples["retort_predictions"][*PENGUINS, OK] == (threads * times,)
    assert samples["retort_prediction_rows"][PENGUINS] == (2 * threads * times,)
    assert samples["retort_prediction_duration_seconds"][PENGUINS][-1] == threads * times / 2


def test_counting_a_prediction_is_cheap() -> None:
    """The unit is the time to format a few headers, which every prediction needs."""
    metrics = SharedMetrics()
    count_s = min(timeit.repeat(lambda: metrics.predicted("penguins", 1, OK, 3, 0.003, {}), number=2000, repeat=5))
    assert count_s < 4 * min(timeit.repeat(lambda: Timings().header(), number=2000, repeat=5))


def test_counts_of_a_server_are_published_as_they_grow() -> None:
    metrics = SharedMetrics()
    metrics.observe(snapshot(accepted=5, inline=3, refused={"queue_full": 2}, queued=4, connections={"idle": 6}))
    metrics.observe(snapshot(accepted=7, inline=3, refused={"queue_full": 2}, queued=1, connections={"idle": 2}))
    metrics.observe(snapshot(accepted=6, refused={"queue_full": 1}))  # an older count, from a thread that was delayed
    samples = metrics.samples()
    assert samples["retort_connections_accepted"] == {(): (7.0,)}
    assert samples["retort_requests"] == {("awaited",): (0.0,), ("inline",): (3.0,), ("threaded",): (0.0,)}
    assert samples["retort_refusals"] == {("queue_full",): (2.0,)}
    assert samples["retort_connections"] == {("idle",): (2.0,)}
    assert samples["retort_worker_report_age_seconds"][("0",)][0] < 60.0


def test_only_present_states_are_1() -> None:
    metrics, known = SharedMetrics(), ["LOADED", "AVAILABLE", "FAILED"]
    metrics.states([("penguins", "1", "LOADED"), ("churn", "1", "FAILED")], known)
    metrics.states([("penguins", "1", "AVAILABLE")], known)
    assert metrics.samples()["retort_model_state"] == {
        ("churn", "1", "AVAILABLE"): (0.0,),
        ("churn", "1", "FAILED"): (0.0,),
        ("churn", "1", "LOADED"): (0.0,),
        (*PENGUINS, "AVAILABLE"): (1.0,),
        (*PENGUINS, "FAILED"): (0.0,),
        (*PENGUINS, "LOADED"): (0.0,),
    }


class Forked:
    """A worker of the server, in its own process, that calls one function and ends."""

    def __init__(self, metrics: SharedMetrics, does: Any) -> None:
        self.metrics, self.number = metrics, metrics.take()
        self.pid = os.fork()
        if not self.pid:
            try:
                metrics.begin(self.number)
                does()
            finally:
                os._exit(0)  # in any case: the parent is a test run
        os.waitpid(self.pid, 0)

    def end(self) -> None:
        self.metrics.ended(self.number)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded:DeprecationWarning"
)  # the child uses nothing that other threads lock
def test_the_master_shows_the_counts_of_all_workers_and_of_ended_ones() -> None:
    metrics = SharedMetrics()
    metrics.share(2)

    def work() -> None:
        metrics.predicted("penguins", 1, OK, 3, 0.5, {})
        metrics.observe(snapshot(accepted=5, queued=2, queue_age_s=0.25))

    first, second = Forked(metrics, work), Forked(metrics, work)
    assert (first.number, second.number) == (1, 2)
    samples = metrics.samples()
    assert samples["retort_predictions"] == {(*PENGUINS, OK): (2.0,)}
    assert samples["retort_connections_accepted"] == {(): (10.0,)}
    assert samples["retort_queue_requests"] == {(): (4.0,)}
    assert samples["retort_queue_age_seconds"] == {(): (0.25,)}
    assert samples["retort_workers"] == {(): (2.0,)}
    assert samples["retort_worker_restarts"] == {(): (0.0,)}

    first.end()
    samples = metrics.samples()
    assert samples["retort_predictions"] == {(*PENGUINS, OK): (2.0,)}
    assert samples["retort_connections_accepted"] == {(): (10.0,)}
    assert samples["retort_queue_requests"] == {(): (2.0,)}
    assert samples["retort_workers"] == {(): (1.0,)}
    assert samples["retort_worker_restarts"] == {(): (1.0,)}

    third = Forked(metrics, lambda: metrics.predicted("penguins", 1, OK, 3, 0.5, {}))
    assert third.number == 1
    samples = metrics.samples()
    assert samples["retort_predictions"] == {(*PENGUINS, OK): (3.0,)}
    assert samples["retort_prediction_rows"] == {PENGUINS: (9.0,)}
    assert samples["retort_connections_accepted"] == {(): (10.0,)}
    assert samples["retort_queue_requests"] == {(): (2.0,)}  # the third does not inherit the counts of the first


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded:DeprecationWarning"
)  # the child uses nothing that other threads lock
def test_the_master_knows_the_running_versions_of_a_crashed_worker() -> None:
    metrics = SharedMetrics()
    metrics.share(2)

    def die() -> None:
        for _ in range(3):
            metrics.run_began("penguins", 1)
        metrics.run_ended("penguins", 1)
        metrics.run_began("digits", 2)
        metrics.run_ended("digits", 2)

    def leave() -> None:
        metrics.run_began("penguins", 1)
        metrics.leave()

    died, left = Forked(metrics, die), Forked(metrics, leave)
    samples = metrics.samples()
    assert samples["retort_artifact_runs"] == {("digits", "2"): (1.0,), PENGUINS: (4.0,)}
    assert samples["retort_artifact_runs_running"] == {("digits", "2"): (0.0,), PENGUINS: (2.0,)}
    assert metrics.ended(left.number) == {}
    assert metrics.ended(died.number) == {("penguins", 1): 4.0}
    again = Forked(metrics, lambda: None)
    assert metrics.ended(again.number) == {}  # the third does not inherit the counts of the first
    assert metrics.samples()["retort_artifact_runs_running"] == {}


def test_a_worker_without_a_page_counts_privately() -> None:
    metrics = SharedMetrics()
    metrics.share(1)
    while metrics.take() is not None:
        pass
    assert metrics.ended(None) == {}
    assert metrics.samples()["retort_worker_restarts"] == {(): (1.0,)}
    metrics.begin(None)
    metrics.predicted("penguins", 1, OK, 1, 0.1, {})
    assert metrics.samples()["retort_predictions"] == {}


def test_a_server_measures_periodically_and_a_single_process_on_demand() -> None:
    metrics, looked = SharedMetrics(), []
    metrics.sources.append(lambda: looked.append(1))
    metrics.samples()
    assert looked == [1]
    metrics.share(1)
    metrics.samples()
    assert looked == [1]


def test_further_memory_is_shared_with_the_same_workers() -> None:
    class Noting:
        def __init__(self) -> None:
            self.calls: list[tuple[str, int | None]] = []

        def share(self, workers: int) -> None:
            self.calls.append(("share", workers))

        def begin(self, number: int | None) -> None:
            self.calls.append(("begin", number))

    metrics, noting = SharedMetrics(), Noting()
    metrics.beside.append(noting)
    metrics.share(2)
    metrics.begin(metrics.take())
    metrics.begin(None)
    assert noting.calls == [("share", 2), ("begin", 1), ("begin", None)]
