"""The registry of a process: it loads and proves versions, and leases them to requests.

It follows models that are loaded, unloaded or quarantined while the server runs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Set

from app.errors import InvalidRepository, ModelNotFound, ModelUnavailable
from app.runtime.desired_states import DesiredStates
from app.runtime.entry import Entry, Lease
from app.runtime.policy import MOVES, State
from app.runtime.quarantine import QUARANTINED, CrashTracker, ModelVersion
from app.runtime.version_loader import VersionLoader
from app.runtime.version_table import VersionTable, with_chosen
from app.storage.choices import Pointers
from app.storage.repository import Repository
from app.telemetry import check_deadline

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 1.0
"""The interval at which a request that waits for a load checks its deadline."""

UNLOADED = "it was taken out of service by hand; loading it serves it again"


class Registry:
    """The versions of the repository in this process. Lives as long as the process; safe to call from many threads.

    Call `load` before the fork, so that workers share the memory, and `prove`, which runs models, after it: a model
    that ran before `fork()` may hang in the child. A process that calls neither (`flask run`, a test) does both when
    the registry is first used.

    Models can be loaded and unloaded while the server runs. Such changes are written to `DesiredStates`, which all
    processes forked from this one share, and each lease checks it with one read of memory. An unloaded model is out of
    service at the next lease of any model. A model to be loaded is loaded by the first request for it, in its own
    thread, so that requests for other models do not wait.
    """

    def __init__(
        self,
        repository: Repository,
        loader: VersionLoader,
        default_model: str = "",
        desired: DesiredStates | None = None,
    ) -> None:
        self._repository = repository
        self._loader = loader
        self._table = VersionTable(default_model)
        self._current = self._table.current
        self._lock = self._table.lock
        self._loaded = False
        self._proven_in_pid: int | None = None
        self._desired = desired or DesiredStates()
        self._changes = self._desired.changes
        self._seen = 0
        self._to_load: dict[str, int] = {}
        self._loading = threading.Lock()
        self._crashes = CrashTracker()

    # --- the life of the process

    def load(self) -> None:
        """Verify and load every version of the repository without running any. A second call does nothing.

        Raises:
            InvalidRepository: `repository.json` cannot be read.
        """
        with self._lock:
            if not self._loaded:
                self._read()

    def reload(self) -> None:
        """Read the repository again: load new and changed versions, keep the others, forget removed ones.

        Only the master, which runs no model, calls it. Its next workers prove the versions; present workers continue.

        Raises:
            InvalidRepository: the repository or its `repository.json` cannot be read; then nothing changes.
        """
        if not self._repository.root.is_dir():
            raise InvalidRepository(f"there is no folder {self._repository.root}")
        with self._lock:
            self._read()

    def _read(self) -> None:
        pointers = self._repository.pointers()
        self._table.entries = self._loader.read(self._table.entries, pointers)
        self._table.pointers, self._loaded = pointers, True

    def prove(self) -> None:
        """Run the examples of every loaded version in this process, and publish the versions that pass."""
        with self._lock:
            self.load()
            if self._proven_in_pid == os.getpid():
                return
            for model, versions in self._table.entries.items():
                for version, entry in versions.items():
                    if entry.state is State.LOADED:
                        versions[version] = self._prove(entry)
                self._table.publish(model)
            self._proven_in_pid = os.getpid()

    def summary(self) -> str:
        """Return the loaded versions in one line, each with its runtime. The log has a line for each failed one."""
        loaded = [
            f"{model}/{version} ({entry.runtime})"
            for model, versions in sorted(self._table.entries.items())
            for version, entry in sorted(versions.items())
            if entry.state is not State.FAILED
        ]
        return ", ".join(loaded) or "none"

    def worker_crashed(self, ran: Mapping[ModelVersion, float]) -> None:
        """Count a crash of a worker, and quarantine a version after too many. Only the master calls it.

        `ran` maps each version that was running to its number of runs since the start of the server. The quarantine
        applies in all workers until the model is loaded again.
        """
        culprit = self._crashes.count(ran, time.monotonic())
        if culprit is None:
            return
        model, version = culprit
        beside = ", ".join(f"{other} version {number}" for other, number in sorted(ran) if (other, number) != culprit)
        also = f" (beside it ran {beside})" if beside else ""
        log.error("model %s version %d is quarantined: %s%s", model, version, QUARANTINED, also)
        try:
            self._desired.quarantine(model, version)
        except InvalidRepository:  # its memory is full; the master has to go on
            log.exception("model %s version %d is not quarantined", model, version)

    # --- requests

    def lease(self, model: str | None, version: str | None = None) -> Lease:
        """Return an acquired lease, to be used in a `with` block.

        Args:
            model: None for the default model.
            version: a number or an alias; None for the current version.

        Raises:
            ModelNotFound, VersionNotFound: the error names the existing ones.
            ModelUnavailable, ModelQuarantined: the version exists, but is not AVAILABLE.
        """
        if self._changes[0] != self._seen or self._to_load:
            self._apply_changes()
            self._load_desired(model, waits=version is not None)
        if version is None and (lease := self._current.get(model)) is not None and lease.acquire():
            return lease
        entry = self.entry(model, version)
        if version is None and entry.version in self._table.pointers.staged.get(entry.model, ()):
            raise ModelUnavailable(entry.model, entry.version, "it is staged, and no version is in use")
        lease = entry.required_lease()
        if not lease.acquire():
            raise ModelUnavailable(entry.model, entry.version, "it has just been taken out of service")
        return lease

    def current(self, model: str | None) -> Lease | None:
        """Return the lease on a model's current version without acquiring it, to plan how to run a request."""
        return self._current.get(model)

    def is_awaited(self, model: str | None, version: str | None = None) -> bool:
        """Return whether a version is loaded and has steps that are all async, so that an event loop can run them."""
        steps = None if self.may_load(model) else self._table.steps_of(model, version)
        return steps is not None and steps.is_awaited

    def may_load(self, model: str | None) -> bool:
        """Return whether the next lease of a model may have to load it."""
        if self._changes[0] != self._seen:
            return True
        return bool(self._to_load) and (self._table.default() if model is None else model) in self._to_load

    # --- the versions

    def entry(self, model: str | None, version: str | None = None) -> Entry:
        """Return a version like `VersionTable.find`, but apply changes and load the model first if that is desired."""
        self._apply_changes()
        self._load_desired(model, waits=True)
        self.prove()
        return self._table.find(model, version)

    def entries(self) -> dict[str, list[Entry]]:
        """Return every version of every model, by model name, with versions ascending."""
        self._apply_changes()
        for model in list(self._to_load):
            self._load_desired(model, waits=True)
        self.prove()
        entries = self._table.entries
        return {model: [versions[v] for v in sorted(versions)] for model, versions in sorted(entries.items())}

    def aliases(self, model: str) -> Mapping[str, int]:
        """Return the aliases of a model."""
        return self._table.aliases(model)

    def default(self) -> str | None:
        """Return the name of the model behind `/predict`, if there is one."""
        self._apply_changes()
        self._load_desired(None, waits=True)
        self.prove()
        return self._table.default()

    # --- loading and unloading

    def load_model(self, model: str) -> None:
        """Serve every version of a model in the repository. Load failed, unloaded and changed ones again.

        Raises:
            ModelNotFound: it is neither here nor in the repository.
            ModelUnavailable: none of its versions can be served, or the default model and the aliases cannot be read;
                then nothing changes.
        """
        self.prove()
        if not self._repository.versions(model) and model not in self._table.entries:
            raise ModelNotFound(model, sorted({*self._table.entries, *self._repository.models()}))
        try:
            for problem in self._repository.problems():  # before the change, which workers cannot refuse
                log.error("%s", problem)
        except InvalidRepository as error:
            log.error("model %s is not loaded: %s", model, error.detail)
            raise ModelUnavailable(model, None, error.detail) from None
        self._desired.set_served(model, served=True)
        entry = self.entry(model)
        if entry.state is not State.AVAILABLE:
            raise ModelUnavailable(model, None, entry.reason or entry.state.value)
        log.info("model %s version %d is loaded and served", model, entry.version)

    def unload_model(self, model: str) -> None:
        """Take a model out of service. Requests that hold a lease are still answered.

        Raises:
            ModelNotFound: the error names the existing models.
        """
        self._apply_changes()
        self.prove()
        if model not in self._table.entries and model not in self._to_load:
            raise ModelNotFound(model, sorted(self._table.entries))
        self._desired.set_served(model, served=False)
        self._apply_changes()
        log.info("model %s is unloaded", model)

    def _apply_changes(self) -> None:
        """Take models and versions out of service as desired, and remember models to load."""
        if self._changes[0] == self._seen:
            return
        self.prove()
        with self._lock:
            changes, states = self._desired.read()
            for model, desired in states.items():
                if desired.change > self._seen and desired.served:
                    self._to_load[model] = desired.change
                elif desired.change > self._seen:
                    self._to_load.pop(model, None)
                    self._table.withdraw(model, State.UNLOADING, UNLOADED)
                for version, change in desired.quarantined.items():
                    if change > self._seen:
                        self._table.withdraw(model, State.QUARANTINED, QUARANTINED, version)
            self._seen = changes

    def _load_desired(self, model: str | None, waits: bool) -> None:
        """Load a model if that is desired; None means the default model.

        With `waits`, wait for another loading thread even if this process serves a version of the model.
        """
        name = self._table.default() if model is None else model
        if name is None:
            for candidate in list(self._to_load):  # any of them may be the default model
                self._load_desired(candidate, waits)
            return
        if name not in self._to_load:
            return
        while not self._loading.acquire(timeout=CHECK_INTERVAL_S if waits or name not in self._current else 0.0):
            if not waits and name in self._current:
                return
            check_deadline()  # otherwise the server would take a request that waits for a long load for a stuck one
        try:
            while (change := self._to_load.get(name)) is not None:  # again if a later change desires it again
                self._load_again(name, change)
        finally:
            self._loading.release()

    def _load_again(self, model: str, change: int) -> None:
        """Load, prove and publish the versions of a model that are not in service, or whose content has changed."""
        pointers, numbers = self._pointers_now(), self._repository.versions(model)
        present = self._table.entries.get(model, {})
        versions = {v: self._loader.kept(present.get(v)) or self._load_and_prove(model, v) for v in numbers}
        with self._lock:
            if self._to_load.get(model) != change:  # meanwhile it was unloaded, or must be loaded again
                return
            del self._to_load[model]
            self._table.pointers = pointers.of(model, self._table.pointers)  # other models stay as they are
            if not versions:
                self._table.publish(model)
                return
            versions = with_chosen(model, versions, pointers)
            for version in self._quarantined(model) & versions.keys():  # quarantined after they were loaded
                if State.QUARANTINED in MOVES[versions[version].state]:
                    versions[version] = versions[version].moved(State.QUARANTINED, QUARANTINED)
            self._table.put(model, versions)

    def _pointers_now(self) -> Pointers:
        """Return the default model and the aliases of the repository; the present ones if it cannot be read."""
        try:
            return self._repository.pointers()
        except InvalidRepository as error:  # it was damaged after the change; keep serving the model
            log.error("the default model and the aliases stay as they were: %s", error.detail)
            return self._table.pointers

    def _quarantined(self, model: str) -> Set[int]:
        """Return the versions of a model that are in quarantine now."""
        desired = self._desired.read()[1].get(model) if self._changes[0] else None
        return frozenset() if desired is None else desired.quarantined.keys()

    def _load_and_prove(self, model: str, version: int) -> Entry:
        entry = self._loader.load(model, version)
        return self._prove(entry) if entry.state is State.LOADED else entry

    def _prove(self, entry: Entry) -> Entry:
        """Prove a version, unless it is in quarantine: its own examples may have crashed workers."""
        if entry.version in self._quarantined(entry.model):
            return entry.moved(State.QUARANTINED, QUARANTINED)
        return self._loader.prove(entry)
