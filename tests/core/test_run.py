"""One run of a model: the cases that `tests/core/test_service.py` does not cover."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.core.run import run, run_each
from app.errors import DeadlineExceeded, RetortError
from app.runtime.entry import Lease
from app.signature.batch import Batch, Outputs
from app.signature.validator import Validator
from app.telemetry import RequestScope, current_request
from tests.core.test_service import SIGNATURE, FakeModel
from tests.storage.versions import MANIFEST

NAMES = ("prediction",)


def lease_of(servable: Any) -> Lease:
    return Lease(replace(MANIFEST, signature=SIGNATURE), servable, Validator(SIGNATURE, 100))


def batch_of(*values: float) -> Batch:
    return Batch({"x": np.array(values)}, len(values))


class FailsOnTwoRows(FakeModel):
    """A servable that fails on batches of two rows."""

    def run(self, batch: Batch, outputs: Any) -> Any:
        self.error = ValueError("two") if batch.rows == 2 else None
        return super().run(batch, outputs)


def test_each_batch_is_run_alone_and_failures_become_errors() -> None:
    servable = FailsOnTwoRows()
    found = run_each(lease_of(servable), [(batch_of(1), NAMES), (batch_of(1, 2), NAMES), (batch_of(3), NAMES)])
    assert [told(outputs) for outputs in found] == [["yes"], "ModelFailed", ["yes"]]
    assert servable.asked == [(1, NAMES), (2, NAMES), (1, NAMES)]


def told(outputs: Outputs | RetortError) -> list[str] | str:
    return type(outputs).__name__ if isinstance(outputs, RetortError) else outputs["prediction"].tolist()


def test_an_exceeded_deadline_is_not_logged_as_a_failure_of_the_model(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DeadlineExceeded):
        run(lease_of(FakeModel(error=DeadlineExceeded(1.0))), batch_of(1), NAMES)
    assert not caplog.records


def test_a_run_makes_progress_and_none_begins_after_the_deadline() -> None:
    servable, scope = FakeModel(), RequestScope("one", deadline_s=math.inf)
    token = current_request.set(scope)
    try:
        run(lease_of(servable), batch_of(1), NAMES)
        assert scope.progressed_s > -math.inf
        scope.deadline_s = -math.inf
        with pytest.raises(DeadlineExceeded):
            run(lease_of(servable), batch_of(1), NAMES)
    finally:
        current_request.reset(token)
    assert servable.asked == [(1, NAMES)]
