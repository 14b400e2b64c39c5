"""Micro-batching. Tests use gates instead of clocks."""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from app.errors import DeadlineExceeded
from app.runtime.batching import BatchingServable, JoiningServable, batching, batching_pays, fitting
from app.signature import EXPLANATION
from app.signature.batch import Batch, Outputs
from app.telemetry import RequestScope, current_request
from tests.runtime.estimators import manifest_of

POISON, EXIT = -1.0, -2.0


class Gated:
    """Double its column. Each run waits for the gate and is recorded; a poisoned row fails its run."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.runs: list[list[float]] = []

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        values = batch.columns["x"]
        self.runs.append(values.tolist())
        self.entered.release()
        assert self.gate.acquire(timeout=60)
        if POISON in values:
            raise ValueError("poison")
        if EXIT in values:
            raise SystemExit("poison")
        return dict.fromkeys(outputs, values * 2)


def batch_of(*values: float) -> Batch:
    return Batch({"x": np.array(values)}, len(values))


def queued(
    servable: BatchingServable, pool: ThreadPoolExecutor, batches: Sequence[Batch], output: str = "y"
) -> list[Future[Outputs]]:
    """Send requests that wait, in order: each is in the queue before the next is sent."""
    futures = []
    for batch in batches:
        waiting = len(servable._waiting)
        futures.append(pool.submit(servable.run, batch, [output]))
        while len(servable._waiting) == waiting:
            threading.Event().wait(0.001)
    return futures


@pytest.mark.parametrize(
    ("waiting", "most", "taken"),
    [
        ([], 10, []),
        ([(3, "a")], 10, [0]),
        ([(30, "a"), (1, "a")], 10, [0]),
        ([(3, "a"), (3, "a"), (3, "a"), (3, "a")], 10, [0, 1, 2]),
        ([(3, "a"), (3, "b"), (3, "a")], 10, [0, 2]),
        ([(3, "a"), (9, "a"), (7, "a")], 10, [0, 2]),
    ],
)
@pytest.mark.fault("O07")
def test_requests_that_fit_together_are_chosen(waiting: list[tuple[int, object]], most: int, taken: list[int]) -> None:
    assert fitting(waiting, most) == taken


@pytest.mark.parametrize(
    ("cost", "pays"), [({}, False), ({"1": 100.0, "32": 799.0}, True), ({"1": 100.0, "32": 800.0}, False)]
)
def test_sharing_pays_if_the_cost_per_row_falls(cost: dict[str, float], pays: bool) -> None:
    assert batching_pays(cost) is pays


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cost", "auto", "on"),
    [
        ({"1": 100.0, "32": 100.0}, True, True),
        ({"1": 100.0, "32": 3200.0}, False, True),
        ({"1": 100.0}, False, False),
        ({}, False, False),
    ],
    ids=["pays", "does not pay", "would answer otherwise", "not known"],
)
def test_requests_share_runs_of_an_artifact_that_gains(cost: dict[str, float], auto: bool, on: bool) -> None:
    for mode, shares in (("auto", auto), ("on", on), ("off", False)):
        composed = batching(mode, 10, 1)(Gated(), "artifact", manifest_of(artifact_cost_us=cost))
        assert isinstance(composed, BatchingServable) is shares


def test_requests_that_reach_a_graph_at_once_share_runs_unless_rows_depend_on_others() -> None:
    alike = {"1": 1.0, "32": 32.0}
    for mode, cost, joins in (("auto", alike, True), ("off", alike, False), ("on", {"1": 1.0}, False)):
        composed = batching(mode, 10, 1)(Gated(), "graph", manifest_of(artifact_cost_us=cost))
        assert (type(composed) is JoiningServable) is joins


@pytest.mark.fault("O05")
def test_a_lone_request_runs_in_its_own_thread_at_once() -> None:
    inner = Gated()
    inner.gate.release()
    assert BatchingServable(inner, 10, 1).run(batch_of(1, 2), ["y"])["y"].tolist() == [2, 4]
    assert inner.runs == [[1, 2]]


def test_requests_that_arrive_during_a_run_share_the_next() -> None:
    inner = Gated()
    servable = BatchingServable(inner, 4, 10)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(servable.run, batch_of(1), ["y"])
        assert inner.entered.acquire(timeout=60)
        rest = queued(servable, pool, [batch_of(2), batch_of(3, 4), batch_of(5), batch_of(6)])
        inner.gate.release(3)
        assert first.result(10)["y"].tolist() == [2]
        assert [future.result(10)["y"].tolist() for future in rest] == [[4], [6, 8], [10], [12]]
    assert inner.runs == [[1], [2, 3, 4, 5], [6]]


@pytest.mark.parametrize(("poison", "error"), [(POISON, ValueError), (EXIT, SystemExit)])
@pytest.mark.fault("M10")
def test_a_bad_request_fails_alone(poison: float, error: type[BaseException]) -> None:
    inner = Gated()
    servable = BatchingServable(inner, 10, 10)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(servable.run, batch_of(1), ["y"])
        assert inner.entered.acquire(timeout=60)
        good, bad, other = queued(servable, pool, [batch_of(2), batch_of(poison), batch_of(3)])
        inner.gate.release(5)
        assert first.result(10)["y"].tolist() == [2]
        assert good.result(10)["y"].tolist() == [4]
        assert other.result(10)["y"].tolist() == [6]
        with pytest.raises(error, match="poison"):
            bad.result(10)
    assert inner.runs == [[1], [2, poison, 3], [2], [poison], [3]]


def test_requests_in_one_run_have_the_same_outputs() -> None:
    inner = Gated()
    servable = BatchingServable(inner, 10, 10)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(servable.run, batch_of(1), ["y"])
        assert inner.entered.acquire(timeout=60)
        (one,) = queued(servable, pool, [batch_of(2)])
        (other,) = queued(servable, pool, [batch_of(3)], output="z")
        inner.gate.release(3)
        assert set(one.result(10)) == {"y"}
        assert set(other.result(10)) == {"z"}
        first.result(10)
    assert inner.runs == [[1], [2], [3]]


def test_a_wait_ends_with_an_error() -> None:
    inner = Gated()
    servable = BatchingServable(inner, 10, 0.01)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(servable.run, batch_of(1), ["y"])
        assert inner.entered.acquire(timeout=60)
        with pytest.raises(DeadlineExceeded):
            servable.run(batch_of(2), ["y"])
        inner.gate.release()
        first.result(10)
    assert inner.runs == [[1]]


def test_after_a_failed_run_the_model_is_free() -> None:
    inner = Gated()
    inner.gate.release(2)
    servable = BatchingServable(inner, 10, 10)
    with pytest.raises(ValueError, match="poison"):
        servable.run(batch_of(POISON), ["y"])
    assert servable.run(batch_of(1), ["y"])["y"].tolist() == [2]


def test_batches_that_share_a_run_get_their_own_outputs_and_others_none() -> None:
    inner = Gated()
    inner.gate.release(1)
    asked = [(batch_of(1, 2), ("y",)), (batch_of(3), ("z",)), (batch_of(4), ("y",))]
    found = BatchingServable(inner, 10, 1).run_each(asked)
    assert [{name: array.tolist() for name, array in (outputs or {}).items()} for outputs in found] == [
        {"y": [2, 4]},
        {},
        {"y": [8]},
    ]
    assert inner.runs == [[1, 2, 4]]


@pytest.mark.fault("M10")
def test_batches_whose_shared_run_fails_are_left_to_run_alone() -> None:
    inner = Gated()
    inner.gate.release(2)
    asked = [(batch_of(1), ("y",)), (batch_of(POISON), ("y",)), (batch_of(4), ("z",)), (batch_of(5), ("z",))]
    found = BatchingServable(inner, 10, 1).run_each(asked)
    assert [outputs is None for outputs in found] == [True, True, False, False]


def test_a_request_progresses_when_another_thread_runs_for_it() -> None:
    gated = Gated()
    servable = BatchingServable(gated, 10, 10.0)
    scopes = [RequestScope(name) for name in ("first", "second", "third")]
    contexts = [contextvars.copy_context() for _ in scopes]
    for scope, context in zip(scopes, contexts, strict=True):
        context.run(current_request.set, scope)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(contexts[0].run, servable.run, batch_of(0), ["y"])]
        assert gated.entered.acquire(timeout=60)
        for number in (1, 2):
            futures.append(pool.submit(contexts[number].run, servable.run, batch_of(POISON), ["y"]))
            while len(servable._waiting) < number:
                threading.Event().wait(0.001)
        for _ in range(4):  # the first alone; then two together, which fail; then each of the two alone
            gated.gate.release()
        assert [future.exception(10) is None for future in futures] == [True, False, False]
    assert gated.runs == [[0], [POISON, POISON], [POISON], [POISON]]
    assert scopes[1].progressed_s == scopes[2].progressed_s > -math.inf


def test_an_explanation_does_not_wait_and_delays_no_request() -> None:
    inner = Gated()
    servable = BatchingServable(inner, 10, 10.0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(servable.run, batch_of(1), [EXPLANATION])
        assert inner.entered.acquire(timeout=60)
        second = pool.submit(servable.run, batch_of(2), ["y"])
        assert inner.entered.acquire(timeout=60), "it runs beside the explanation"
        inner.gate.release(2)
        assert first.exception(10) is None
        assert second.exception(10) is None
