"""Count the runs of versions, and find versions that crash their workers, to quarantine them.

Each run of an artifact, which may execute any code, is recorded in shared memory. When a worker dies, the master counts
the crash for every version that was running in it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence

from app.runtime.servable import Compose, Servable
from app.signature.batch import Batch, Outputs
from app.storage.manifest import Manifest
from app.telemetry.metrics import SharedMetrics
from app.telemetry.process_state import ProcessState

log = logging.getLogger(__name__)


MAX_CRASHES, CRASH_WINDOW_S = 3, 60.0
QUARANTINED = (
    f"{MAX_CRASHES} workers died within {CRASH_WINDOW_S:.0f} s while it ran; loading it again, another version or a "
    "restart of the server ends this"
)

ModelVersion = tuple[str, int]


class CountingServable:
    """Counts each run of the servable inside that answers requests, with its rows and its predicted classes.

    Recorded examples and failed runs are not counted. Safe to call from many threads.
    """

    def __init__(
        self, servable: Servable, model: str, version: int, classes: Sequence[object] | None, metrics: SharedMetrics
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


class RecordingServable:
    """Records each run of the servable inside, and undoes its changes to process-wide state.

    Safe to call from many threads; lives as long as the servable inside.
    """

    def __init__(self, servable: Servable, model: str, version: int, runs: SharedMetrics, state: ProcessState) -> None:
        self._state = state
        self._servable = servable
        self._model = model
        self._version = version
        self._runs = runs

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return or raise what the servable inside does."""
        self._state.remember()
        self._runs.run_began(self._model, self._version)
        try:
            return self._servable.run(batch, outputs)
        finally:
            self._state.restore(f"model {self._model} version {self._version}")
            self._runs.run_ended(self._model, self._version)


def record_runs(runs: SharedMetrics, compose: Compose) -> Compose:
    """Return a composer that counts runs, and records those of artifacts, before it applies `compose`.

    A graph runs no user code.
    """
    state = ProcessState()

    def recorded(servable: Servable, runtime: str, manifest: Manifest) -> Servable:
        classes = manifest.signature.classes
        servable = CountingServable(servable, manifest.model, manifest.version, classes, runs)
        if runtime == "artifact":
            servable = RecordingServable(servable, manifest.model, manifest.version, runs, state)
        return compose(servable, runtime, manifest)

    return recorded


class CrashTracker:
    """Counts the crashes of workers by the versions that were running. Used by the master only.

    Versions that ran beside the culprit are present at its crashes too. A version that runs often is present by chance
    more often. So of several suspects the one with the fewest runs is quarantined; if that was wrong, the next crash
    shows it.
    """

    def __init__(self) -> None:
        self._times_s: dict[ModelVersion, deque[float]] = {}

    def count(self, ran: Mapping[ModelVersion, float], now_s: float) -> ModelVersion | None:
        """Count a crash of a worker and return the version to quarantine, or None.

        `ran` has the versions that were running, each with its number of runs since the start of the server. The
        crashes of a quarantined version are forgotten.
        """
        found = []
        for version in ran:
            times_s = self._times_s.setdefault(version, deque(maxlen=MAX_CRASHES))
            times_s.append(now_s)
            if len(times_s) == MAX_CRASHES and now_s - times_s[0] <= CRASH_WINDOW_S:
                found.append(version)
        if not found:
            return None
        culprit = min(found, key=lambda version: ran[version])
        del self._times_s[culprit]
        return culprit
