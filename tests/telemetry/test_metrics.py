"""What a process counts, and what a server says of all of its processes."""

from __future__ import annotations

import os
import sys
import threading
import timeit
from collections.abc import Iterator
from typing import Any

import pytest

from app.server.stats import Stats
from app.telemetry import Timings
from app.telemetry.families import DURATION_BOUNDS_S
from app.telemetry.metrics import OK, Metrics, NullMetrics, SharedMetrics

PENGUINS = ("penguins", "1")


@pytest.fixture
def often() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


def snapshot(**counted: Any) -> dict[str, object]:
    return Stats().snapshot() | counted


def test_a_prediction_is_counted_with_its_rows_and_its_duration() -> None:
    metrics = SharedMetrics()
    metrics.predicted("penguins", 1, OK, 3, 0.003)
    metrics.predicted("penguins", 1, OK, 1, 1000.0)
    metrics.predicted("penguins", 1, "model-failed", 5, 0.1)
    metrics.predicted("penguins", 2, OK, 0, 0.0)
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
    metrics.predicted("penguins", 1, OK, 1, 0.25)
    assert metrics.samples()["retort_prediction_duration_seconds"][PENGUINS][DURATION_BOUNDS_S.index(0.25)] == 1.0


def test_nothing_is_lost_between_threads(often: None) -> None:
    metrics, threads, times = SharedMetrics(), 4, 20_000
    every = [
        threading.Thread(target=lambda: [metrics.predicted("penguins", 1, OK, 2, 0.5) for _ in range(times)])
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


def test_it_costs_no_more_than_a_few_headers() -> None:
    """What every prediction has made for it anyway is the measure."""
    metrics, timings = SharedMetrics(), Timings()
    count_s = min(timeit.repeat(lambda: metrics.predicted("penguins", 1, OK, 3, 0.003), number=2000, repeat=5))
    assert count_s < 4 * min(timeit.repeat(timings.header, number=2000, repeat=5))


def test_what_a_server_counts_is_published_as_it_grows() -> None:
    metrics = SharedMetrics()
    metrics.observe(snapshot(accepted=5, inline=3, refused={"queue_full": 2}, queued=4, connections={"idle": 6}))
    metrics.observe(snapshot(accepted=7, inline=3, refused={"queue_full": 2}, queued=1, connections={"idle": 2}))
    metrics.observe(snapshot(accepted=6, refused={"queue_full": 1}))  # an older one, by a thread that was held up
    samples = metrics.samples()
    assert samples["retort_connections_accepted"] == {(): (7.0,)}
    assert samples["retort_requests"] == {("inline",): (3.0,)}
    assert samples["retort_refusals"] == {("queue_full",): (2.0,)}
    assert samples["retort_connections"] == {("idle",): (2.0,)}
    assert samples["retort_worker_report_age_seconds"][("0",)][0] < 60.0


def test_the_states_are_those_of_now() -> None:
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
    """A worker of that server, in a process of its own, that does one thing and is gone."""

    def __init__(self, metrics: SharedMetrics, does: Any) -> None:
        self.metrics, self.number = metrics, metrics.take()
        self.pid = os.fork()
        if not self.pid:
            try:
                metrics.begin(self.number)
                does()
            finally:
                os._exit(0)  # whatever happens: what forked this is a test run
        os.waitpid(self.pid, 0)

    def end(self) -> None:
        self.metrics.ended(self.number)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child touches nothing that they hold
def test_the_master_says_what_all_workers_count_and_goes_on_from_the_dead() -> None:
    metrics = SharedMetrics()
    metrics.share(2)

    def work() -> None:
        metrics.predicted("penguins", 1, OK, 3, 0.5)
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

    third = Forked(metrics, lambda: metrics.predicted("penguins", 1, OK, 3, 0.5))
    assert third.number == 1
    samples = metrics.samples()
    assert samples["retort_predictions"] == {(*PENGUINS, OK): (3.0,)}
    assert samples["retort_prediction_rows"] == {PENGUINS: (9.0,)}
    assert samples["retort_connections_accepted"] == {(): (10.0,)}
    assert samples["retort_queue_requests"] == {(): (2.0,)}  # what the first left behind is not the third's


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child touches nothing that they hold
def test_the_master_knows_in_which_runs_a_worker_died() -> None:
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
    assert metrics.ended(again.number) == {}  # what the first left behind is not the third's
    assert metrics.samples()["retort_artifact_runs_running"] == {}


def test_a_worker_too_many_is_seen_by_nobody_and_ends_in_peace() -> None:
    metrics = SharedMetrics()
    metrics.share(1)
    while metrics.take() is not None:
        pass
    assert metrics.ended(None) == {}
    assert metrics.samples()["retort_worker_restarts"] == {(): (1.0,)}
    metrics.begin(None)
    metrics.predicted("penguins", 1, OK, 1, 0.1)
    assert metrics.samples()["retort_predictions"] == {}


def test_a_server_looks_now_and_then_and_a_process_alone_when_it_is_asked() -> None:
    metrics, looked = SharedMetrics(), []
    metrics.sources.append(lambda: looked.append(1))
    metrics.samples()
    assert looked == [1]
    metrics.share(1)
    metrics.samples()
    assert looked == [1]


def test_where_nothing_is_counted() -> None:
    nothing: Metrics = NullMetrics()
    nothing.predicted("penguins", 1, OK, 1, 0.1)
