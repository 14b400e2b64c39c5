"""Count the runs of versions, and quarantine versions that crash their workers.

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
    """A servable that counts its runs for requests, with their rows and predicted classes. Safe to share.

    It does not count recorded examples and failed runs.
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
        """Return the outputs of the servable inside, or raise its exception."""
        results = self._servable.run(batch, outputs)
        if batch.requests:
            try:
                self._count(batch, results)
            except Exception:  # a metric that fails must not fail the request
                log.exception("a run of model %s version %d was not counted", self._model, self._version)
        return results

    def _count(self, batch: Batch, results: Outputs) -> None:
        classes, predicted = self._classes, ()
        labels = results.get("prediction")
        if classes is not None and labels is not None and labels.ndim == 1:  # a row of several labels is no class
            predicted = labels.tolist()
        self._metrics.ran(self._model, self._version, batch.rows, batch.requests, classes or (), predicted)


class RecordingServable:
    """A servable that records its runs, and undoes the model's changes to process-wide state.

    Safe to call from many threads; lives as long as the servable inside.
    """

    def __init__(self, servable: Servable, model: str, version: int, runs: SharedMetrics, state: ProcessState) -> None:
        self._state = state
        self._servable = servable
        self._model = model
        self._version = version
        self._runs = runs

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the outputs of the servable inside, or raise its exception."""
        self._state.remember()
        self._runs.run_began(self._model, self._version)
        try:
            return self._servable.run(batch, outputs)
        finally:
            self._state.restore(f"model {self._model} version {self._version}")
            self._runs.run_ended(self._model, self._version)


def record_runs(runs: SharedMetrics, compose: Compose) -> Compose:
    """Return a composer that counts runs, records the runs of artifacts, and then applies `compose`.

    The runs of graphs are not recorded, because a graph runs no user code.
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
    """The times of crashes, by the versions that were running. Used by the master only.

    A version may run beside the culprit by chance. The more often it runs, the likelier that is. So of several suspects
    the one with the fewest runs is quarantined. If that is wrong, the next crash makes another one a suspect.
    """

    def __init__(self) -> None:
        self._times_s: dict[ModelVersion, deque[float]] = {}

    def count(self, ran: Mapping[ModelVersion, float], now_s: float) -> ModelVersion | None:
        """Count a crash of a worker and return the version to quarantine, or None.

        `ran` maps each version that was running to its number of runs since the start of the server. The crashes of a
        quarantined version are forgotten.
        """
        suspects = []
        for version in ran:
            times_s = self._times_s.setdefault(version, deque(maxlen=MAX_CRASHES))
            times_s.append(now_s)
            if len(times_s) == MAX_CRASHES and now_s - times_s[0] <= CRASH_WINDOW_S:
                suspects.append(version)
        if not suspects:
            return None
        culprit = min(suspects, key=lambda version: ran[version])
        del self._times_s[culprit]
        return culprit
