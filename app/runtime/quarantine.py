"""Versions that take their workers down: which ran when one died, and when that is enough.

A run of an artifact, which may be any code, is noted where the master sees it; the master counts the deaths.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from app.runtime.servable import Compose, Servable
from app.signature.batch import Batch, Outputs
from app.storage.manifest import Manifest
from app.telemetry.process_state import ProcessState

DEATHS, WITHIN_S = 3, 60.0
QUARANTINED = (
    f"{DEATHS} workers died within {WITHIN_S:.0f} s while it ran; loading it again, another version or a restart of "
    "the server ends this"
)

ModelVersion = tuple[str, int]


class Runs(Protocol):
    """Where runs are noted; `app.telemetry.metrics.SharedMetrics` does, in memory that outlives the process."""

    def run_began(self, model: str, version: int) -> None:
        """A run of this version begins, in any thread."""

    def run_ended(self, model: str, version: int) -> None:
        """It is over, well or not."""


class NotedServable:
    """Note each run of the servable inside, and undo what it changes for the whole process.

    Safe to call from many threads; lives as long as the servable inside.
    """

    def __init__(self, servable: Servable, model: str, version: int, runs: Runs, state: ProcessState) -> None:
        self._state = state
        self._servable = servable
        self._model = model
        self._version = version
        self._runs = runs

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """What the servable inside gives, or raises."""
        self._state.remember()
        self._runs.run_began(self._model, self._version)
        try:
            return self._servable.run(batch, outputs)
        finally:
            self._state.restore(f"model {self._model} version {self._version}")
            self._runs.run_ended(self._model, self._version)


def noting(runs: Runs, compose: Compose) -> Compose:
    """Notes the runs of each artifact, and composes it further. A graph runs no code of anybody's."""

    state = ProcessState()

    def noted(servable: Servable, runtime: str, manifest: Manifest) -> Servable:
        if runtime == "artifact":
            servable = NotedServable(servable, manifest.model, manifest.version, runs, state)
        return compose(servable, runtime, manifest)

    return noted


class Deaths:
    """The deaths of workers, by the versions that ran then. Told what time it is; belongs to the master.

    Who happens to run beside the culprit is there at its deaths too. The more often a version runs, the less that says
    of it: of several that have been there often enough, the one that has run least is the one. If it was not, the next
    death tells.
    """

    def __init__(self) -> None:
        self._times_s: dict[ModelVersion, deque[float]] = {}

    def count(self, ran: Mapping[ModelVersion, float], now_s: float) -> ModelVersion | None:
        """A worker died in these versions, each of which has run so often in all; the one to quarantine, or None.

        The deaths of what is quarantined are forgotten.
        """
        for version in ran:
            times_s = self._times_s.setdefault(version, deque(maxlen=DEATHS))
            times_s.append(now_s)
        found = [version for version in ran if self._too_many(self._times_s[version], now_s)]
        if not found:
            return None
        culprit = min(found, key=lambda version: ran[version])
        del self._times_s[culprit]
        return culprit

    @staticmethod
    def _too_many(times_s: deque[float], now_s: float) -> bool:
        return len(times_s) == DEATHS and now_s - times_s[0] <= WITHIN_S
