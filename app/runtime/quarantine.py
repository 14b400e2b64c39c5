"""Find versions that crash their workers, to quarantine them.

Each run of an artifact, which may execute any code, is recorded in shared memory. When a worker dies, the master counts
the crash for every version that was running in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from app.runtime.counting import CountingServable, RunMetrics
from app.runtime.servable import Compose, Servable
from app.signature.batch import Batch, Outputs
from app.storage.manifest import Manifest
from app.telemetry.process_state import ProcessState

MAX_CRASHES, CRASH_WINDOW_S = 3, 60.0
QUARANTINED = (
    f"{MAX_CRASHES} workers died within {CRASH_WINDOW_S:.0f} s while it ran; loading it again, another version or a "
    "restart of the server ends this"
)

ModelVersion = tuple[str, int]


class Runs(RunMetrics, Protocol):
    """Records runs in memory that outlives the process. Implemented by `app.telemetry.metrics.SharedMetrics`."""

    def run_began(self, model: str, version: int) -> None:
        """Record that a run of this version begins, in any thread."""

    def run_ended(self, model: str, version: int) -> None:
        """Record that it is over, with or without an error."""


class RecordingServable:
    """Records each run of the servable inside, and undoes its changes to process-wide state.

    Safe to call from many threads; lives as long as the servable inside.
    """

    def __init__(self, servable: Servable, model: str, version: int, runs: Runs, state: ProcessState) -> None:
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


def record_runs(runs: Runs, compose: Compose) -> Compose:
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
        for version in ran:
            times_s = self._times_s.setdefault(version, deque(maxlen=MAX_CRASHES))
            times_s.append(now_s)
        found = [version for version in ran if self._is_too_often(self._times_s[version], now_s)]
        if not found:
            return None
        culprit = min(found, key=lambda version: ran[version])
        del self._times_s[culprit]
        return culprit

    @staticmethod
    def _is_too_often(times_s: deque[float], now_s: float) -> bool:
        return len(times_s) == MAX_CRASHES and now_s - times_s[0] <= CRASH_WINDOW_S
