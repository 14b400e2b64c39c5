"""Count the runs, loads and proofs of versions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from app.runtime.servable import Servable
from app.signature.batch import Batch, Outputs

log = logging.getLogger(__name__)


class RunMetrics(Protocol):
    """Counts runs. Implemented by `app.telemetry.metrics.SharedMetrics`."""

    def ran(
        self, model: str, version: int, rows: int, requests: int, classes: Sequence[object], predicted: Sequence[object]
    ) -> None:
        """Count one run of a model for the rows of some requests; of a classifier also the predicted labels."""


class LoadMetrics(Protocol):
    """Counts loads and proofs. Implemented by `app.telemetry.metrics.SharedMetrics`."""

    def loaded(self, model: str, version: int, succeeded: bool, duration_s: float) -> None:
        """Count one load of a version."""

    def proved(self, model: str, version: int, passed: bool) -> None:
        """Count one proof of a version."""


class CountingServable:
    """Counts each run of the servable inside that answers requests, with its rows and its predicted classes.

    Recorded examples and failed runs are not counted. Safe to call from many threads.
    """

    def __init__(
        self, servable: Servable, model: str, version: int, classes: Sequence[object] | None, metrics: RunMetrics
    ) -> None:
        self._servable = servable
        self._model = model
        self._version = version
        # Models of several targets have a list of classes for each, and predict no single label.
        self._classes = None if classes and isinstance(classes[0], list) else classes
        self._metrics = metrics

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return or raise what the servable inside does."""
        answered = self._servable.run(batch, outputs)
        if batch.requests:
            try:
                self._count(batch, answered)
            except Exception:  # the answer is there, and no metric is worth it
                log.exception("a run of model %s version %d was not counted", self._model, self._version)
        return answered

    def _count(self, batch: Batch, answered: Outputs) -> None:
        classes, predicted = self._classes, ()
        labels = answered.get("prediction")
        if classes is not None and labels is not None and labels.ndim == 1:  # a row of several labels is no class
            predicted = labels.tolist()
        self._metrics.ran(self._model, self._version, batch.rows, batch.requests, classes or (), predicted)
