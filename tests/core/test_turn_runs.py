"""Requests that become ready in one turn of the event loop share a run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

from app.core.run import TurnRuns
from app.errors import DeadlineExceeded, ModelFailed
from app.runtime.batching import JoiningServable
from app.signature.batch import Outputs
from app.telemetry import RequestScope, current_request
from tests.core.test_run import NAMES, batch_of, lease_of
from tests.core.test_service import FakeModel


def answers(servable: Any, *values: Sequence[float]) -> list[Outputs | BaseException]:
    """Run these batches in one turn, each for its own request."""

    async def all_of_them() -> list[Outputs | BaseException]:
        runs, lease = TurnRuns(), lease_of(servable)

        async def one(number: int, batch: Sequence[float]) -> Outputs:
            current_request.set(RequestScope(str(number)))
            return await runs.run(lease, batch_of(*batch), NAMES)

        waiting = [one(number, batch) for number, batch in enumerate(values)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    return asyncio.run(all_of_them())


def rows(outputs: Outputs | BaseException) -> int | str:
    return type(outputs).__name__ if isinstance(outputs, BaseException) else len(outputs["prediction"])


def test_batches_of_one_turn_are_run_together_and_divided_again() -> None:
    model = FakeModel()
    found = answers(JoiningServable(model, 100), [1], [2, 3], [4])
    assert [rows(outputs) for outputs in found] == [1, 2, 1]
    assert model.asked == [(4, NAMES)]


def test_a_model_that_does_not_join_runs_each_batch() -> None:
    model = FakeModel()
    assert [rows(outputs) for outputs in answers(model, [1], [2, 3])] == [1, 2]
    assert model.asked == [(1, NAMES), (2, NAMES)]


def test_each_turn_has_its_own_run() -> None:
    model = FakeModel()

    async def twice() -> None:
        runs, lease = TurnRuns(), lease_of(JoiningServable(model, 100))
        for _ in range(2):
            await runs.run(lease, batch_of(1), NAMES)

    asyncio.run(twice())
    assert model.asked == [(1, NAMES), (1, NAMES)]


FAILURES = [(ValueError("no"), ModelFailed), (SystemExit(3), ModelFailed), (DeadlineExceeded(1.0), DeadlineExceeded)]


@pytest.mark.parametrize(("error", "expected"), FAILURES)
def test_every_request_of_a_failed_run_gets_an_error(error: BaseException, expected: type[Exception]) -> None:
    found = answers(JoiningServable(FakeModel(error=error), 100), [1], [2])
    assert [type(each) for each in found] == [expected, expected]


def test_an_unexpected_error_reaches_every_request() -> None:
    class Broken(JoiningServable):
        def run_each(self, asked: Any) -> Any:
            raise MemoryError

    assert [rows(each) for each in answers(Broken(FakeModel(), 100), [1], [2])] == ["MemoryError", "MemoryError"]


def test_a_request_that_was_cancelled_is_not_run() -> None:
    model = FakeModel()

    async def cancelled() -> None:
        runs, lease = TurnRuns(), lease_of(JoiningServable(model, 100))
        tasks = [asyncio.create_task(runs.run(lease, batch_of(*values), NAMES)) for values in ([1], [2, 3])]
        await asyncio.sleep(0)
        tasks[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[0]
        await tasks[1]

    asyncio.run(cancelled())
    assert model.asked == [(2, NAMES)]


def test_the_shared_run_belongs_to_all_of_its_requests() -> None:
    class Asks(FakeModel):
        def run(self, batch: Any, outputs: Any) -> Any:
            self.request = current_request.get().id
            return super().run(batch, outputs)

    model = Asks()
    answers(JoiningServable(model, 100), [1], [2])
    assert model.request == "0,1"
