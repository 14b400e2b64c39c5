"""The versions of this process by model, with the lease on each model's current version."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping

from app.errors import ModelNotFound, VersionNotFound
from app.runtime import policy
from app.runtime.entry import Entry, Lease, PlannedSteps
from app.runtime.policy import MOVES, State
from app.storage.choices import POINTERS, Pointers


class VersionTable:
    """The versions of this process. Take `lock` to change them. `current` is read without it; None is the default."""

    def __init__(self, default_model: str) -> None:
        self._default_model = default_model
        self.lock = threading.RLock()
        self.entries: dict[str, dict[int, Entry]] = {}
        self.pointers = Pointers()
        self.current: dict[str | None, Lease] = {}

    def default(self) -> str | None:
        """Return the name of the model behind `/predict`, if there is one."""
        packed = [name for name, versions in self.entries.items() if any(e.packed for e in versions.values())]
        return policy.default_model(self._default_model, self.pointers.default, packed)

    def aliases(self, model: str) -> Mapping[str, int]:
        """Return the aliases of a model."""
        return self.pointers.aliases.get(model, {})

    def find(self, model: str | None, version: str | None = None) -> Entry:
        """Return a version by number or alias, in any state. Without `version`, return the current or chosen one.

        Raises:
            ModelNotFound, VersionNotFound: the error names the existing ones.
        """
        name = self.default() if model is None else model
        if name is None or name not in self.entries:
            raise ModelNotFound(model or self._default_model or None, sorted(self.entries))
        versions = self.entries[name]
        states = _states(versions)
        if version is None:
            return versions[self._current_version(name) or self.pointers.chosen(name, states) or max(states)]
        aliases = self.aliases(name)
        number = policy.named_version(version, states, aliases)
        if number is None:
            existing = [alias for alias, of in aliases.items() if of in states]
            raise VersionNotFound(name, version, [*map(str, states), *existing], aliases.get(version))
        return versions[number]

    def steps_of(self, model: str | None, version: str | None = None) -> PlannedSteps | None:
        """Return the steps of a version in service; None if it has none, or is not in service."""
        lease = self.current.get(model)
        if version is not None and lease is not None:
            versions = self.entries[lease.manifest.model]
            number = policy.named_version(version, _states(versions), self.aliases(lease.manifest.model))
            lease = None if number is None or versions[number].state is not State.AVAILABLE else versions[number].lease
        return None if lease is None else lease.steps

    def put(self, model: str, versions: dict[int, Entry]) -> None:
        """Replace the versions of a model, and publish its current one."""
        self.entries = {**self.entries, model: versions}
        self.publish(model)

    def withdraw(self, model: str, state: State, reason: str, version: int | None = None) -> None:
        """Take a version, or every version, of a model out of service, if this process has the model."""
        before = self.entries.get(model, {})
        after = {}
        for number, entry in before.items():
            # A quarantined version has no users any more.
            goal = State.RETIRED if (entry.state, state) == (State.QUARANTINED, State.UNLOADING) else state
            if version in (None, number) and goal in MOVES[entry.state]:
                after[number] = entry.moved(goal, reason)
        if not after:
            return
        self.put(model, {**before, **after})
        for number, entry in after.items():
            if (lease := before[number].lease) is not None:
                lease.withdraw(functools.partial(self._retire, entry))

    def _retire(self, entry: Entry) -> None:
        """Retire an unloaded version after its last user."""
        with self.lock:
            versions = self.entries.get(entry.model, {})
            if entry.state is State.UNLOADING and versions.get(entry.version) is entry:
                self.put(entry.model, {**versions, entry.version: entry.moved(State.RETIRED)})

    def publish(self, model: str) -> None:
        """Make new requests for a model, and for the default model, lease its current version."""
        version = self._current_version(model)
        self._set_current(model, None if version is None else self.entries[model][version].lease)
        default = self.default()
        self._set_current(None, None if default is None else self.current.get(default))

    def _set_current(self, name: str | None, lease: Lease | None) -> None:
        if lease is None:
            self.current.pop(name, None)
        else:
            self.current[name] = lease

    def _current_version(self, model: str) -> int | None:
        states = _states(self.entries.get(model, {}))
        return policy.current_version(states, self.pointers.use.get(model), self.pointers.staged.get(model, ()))


def with_chosen(model: str, versions: Mapping[int, Entry], pointers: Pointers) -> dict[int, Entry]:
    """Return the versions; if the version in use is missing, add a failed entry for it."""
    chosen = pointers.use.get(model)
    if chosen is None or chosen in versions:
        return dict(versions)
    missing = Entry(model, chosen, State.FOUND, packed=False)
    reason = (
        f"{POINTERS} has it in use, but it is not there; to choose another: flask models use {model} VERSION|newest"
    )
    return {**versions, chosen: missing.moved(State.FAILED, reason)}


def _states(versions: Mapping[int, Entry]) -> dict[int, State]:
    return {number: entry.state for number, entry in versions.items()}
