"""Models go into service and out of it while the process runs: in this worker at once, in the others at their next
question. What takes its workers down goes out of it by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from app.errors import InvalidRepository, ModelNotFound, ModelUnavailable
from app.runtime.board import WishBoard
from app.runtime.policy import MOVES, State
from app.runtime.quarantine import QUARANTINED, Deaths, ModelVersion
from app.runtime.registry import Entry, Lease, Registry, with_chosen
from app.storage.choices import Pointers
from app.telemetry import check_deadline

log = logging.getLogger(__name__)

LOOKED_AT_EVERY_S = 1.0
UNLOADED = "it was taken out of service by hand; loading it serves it again"


class LiveRegistry(Registry):
    """A registry whose models can be loaded and unloaded, in all processes that were forked after it was made.

    Whoever loads or unloads writes it on a board that all of them see; a lease looks at it (one read of memory). What
    is unloaded is out at the next lease of anything; what is to be loaded is loaded by the first that asks for it, in
    its own thread, so that nobody who asks for other models waits.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Takes what `Registry` takes."""
        super().__init__(*arguments, **named)
        self._board = WishBoard()
        self._changes = self._board.changes
        self._seen = 0
        self._to_load: dict[str, int] = {}
        self._loading = threading.Lock()
        self._deaths = Deaths()

    def load_model(self, model: str) -> None:
        """Serves every version of a model that is in the repository, those that failed or were unloaded anew.

        Raises:
            ModelNotFound: it is neither here nor in the repository.
            ModelUnavailable: none of its versions can be served, or the default model and the aliases cannot be read;
                then nothing changes.
        """
        if not self._repository.versions(model) and model not in super().entries():
            raise ModelNotFound(model, sorted({*super().entries(), *self._repository.models()}))
        try:
            for said in self._repository.problems():  # before the wish: after it, workers go on with what they have
                log.error("%s", said)
        except InvalidRepository as error:
            log.error("model %s is not loaded: %s", model, error.detail)
            raise ModelUnavailable(model, None, error.detail) from None
        self._board.wish(model, served=True)
        entry = self.entry(model)
        if entry.state is not State.AVAILABLE:
            raise ModelUnavailable(model, None, entry.reason or entry.state.value)
        log.info("model %s version %d is loaded and served", model, entry.version)

    def unload_model(self, model: str) -> None:
        """Takes a model out of service; requests that hold a lease are answered.

        Raises:
            ModelNotFound: naming those there are.
        """
        self._look()
        if model not in super().entries() and model not in self._to_load:
            raise ModelNotFound(model, sorted(super().entries()))
        self._board.wish(model, served=False)
        self._look()
        log.info("model %s is unloaded", model)

    def died_in(self, ran: Mapping[ModelVersion, float]) -> None:
        """For the master: a worker died while it ran these versions, each of which has run so often in all.

        One that this happens to too often is quarantined, in all workers, until its model is loaded again.
        """
        found = self._deaths.count(ran, time.monotonic())
        if found is not None:
            model, version = found
            beside = ", ".join(f"{other} version {number}" for other, number in sorted(ran) if (other, number) != found)
            also = f" (beside it ran {beside})" if beside else ""
            log.error("model %s version %d is quarantined: %s%s", model, version, QUARANTINED, also)
            try:
                self._board.quarantine(model, version)
            except InvalidRepository:  # the board is full; without its master the whole server would go
                log.exception("model %s version %d is not quarantined", model, version)

    def lease(self, model: str | None, version: str | None = None) -> Lease:
        """As in `Registry`, of what is in service now."""
        if self._changes[0] != self._seen or self._to_load:
            self._look()
            self._follow(model, waits=version is not None)
        if version is None and (lease := self._current.get(model)) is not None:
            return lease  # as the base class has it: a call less on the way of every request
        return super().lease(model, version)

    def is_quick(self, model: str | None) -> bool:
        """As in `Registry`; never where the asker might have to load it first."""
        return not self._may_load(model) and super().is_quick(model)

    def is_awaited(self, model: str | None, version: str | None = None) -> bool:
        """As in `Registry`; never where the asker might have to load it first."""
        return not self._may_load(model) and super().is_awaited(model, version)

    def _may_load(self, model: str | None) -> bool:
        """Whether the next lease of a model may have to load it."""
        if self._changes[0] != self._seen:
            return True
        return bool(self._to_load) and (self._default() if model is None else model) in self._to_load

    def entry(self, model: str | None, version: str | None = None) -> Entry:
        """As in `Registry`, of what is in service now."""
        self._look()
        self._follow(model, waits=True)
        return super().entry(model, version)

    def entries(self) -> dict[str, list[Entry]]:
        """As in `Registry`, of what is in service now."""
        self._look()
        for model in list(self._to_load):
            self._follow(model, waits=True)
        return super().entries()

    def default(self) -> str | None:
        """As in `Registry`, of what is in service now."""
        self._look()
        self._follow(None, waits=True)
        return super().default()

    def _look(self) -> None:
        """Follows what is new on the board: takes out of service, and notes what to load."""
        if self._changes[0] == self._seen:
            return
        self.prove()
        with self._lock:
            changes, wishes = self._board.read()
            for model, wish in wishes.items():
                if wish.change > self._seen and wish.served:
                    self._to_load[model] = wish.change
                elif wish.change > self._seen:
                    self._to_load.pop(model, None)
                    self._withdraw(model, State.RETIRED, UNLOADED)
                for version, change in wish.quarantined.items():
                    if change > self._seen:
                        self._withdraw(model, State.QUARANTINED, QUARANTINED, version)
            self._seen = changes

    def _follow(self, model: str | None, waits: bool) -> None:
        """Loads what is asked for, where that is wanted. Who asks for what is served already need not wait for another
        who is loading."""
        name = self._default() if model is None else model
        if name is None:
            for each in list(self._to_load):  # it may be the default one
                self._follow(each, waits)
            return
        if name not in self._to_load:
            return
        while not self._loading.acquire(timeout=LOOKED_AT_EVERY_S if waits or name not in self._current else 0.0):
            if not waits and name in self._current:
                return
            check_deadline()  # else a request that waits for a long load would be taken for one that hangs
        try:
            while (change := self._to_load.get(name)) is not None:  # again, if it was asked for again meanwhile
                self._read_again(name, change)
        finally:
            self._loading.release()

    def _read_again(self, model: str, change: int) -> None:
        """Loads and proves the versions of a model that are not in service, or of which the content has changed, and
        publishes what it has then."""
        pointers, numbers = self._pointers_now(), self._repository.versions(model)
        versions = {v: self._same(model, v) or self.tried(model, v) for v in numbers}
        with self._lock:
            if self._to_load.get(model) != change:  # it was unloaded, or asked for again, in the meantime
                return
            del self._to_load[model]
            # Of other models nothing is read again, and nothing changes.
            self._pointers = pointers.of(model, self._pointers)
            if versions:
                versions = with_chosen(model, versions, pointers)
            # Those that were quarantined meanwhile: whoever looked at the board saw the versions of before.
            for version in self._quarantined(model) & versions.keys():
                versions[version] = _withdrawn(versions[version], State.QUARANTINED, QUARANTINED)
            if versions:
                self._entries = {**self._entries, model: versions}
            self._republish(model)

    def _pointers_now(self) -> Pointers:
        """The default model and the aliases as the repository has them; those of before where that cannot be read."""
        try:
            return self._repository.pointers()
        except InvalidRepository as error:  # damaged after the wish: no reason to take a model down that is served
            log.error("the default model and the aliases stay as they were: %s", error.detail)
            return self._pointers

    def _proven(self, entry: Entry) -> Entry:
        """As in `Registry`; what is quarantined is not run, not even on its examples, in which it may have died."""
        if entry.version in self._quarantined(entry.model):
            return _withdrawn(entry, State.QUARANTINED, QUARANTINED)
        return super()._proven(entry)

    def _quarantined(self, model: str) -> Set[int]:
        """The versions of a model that are not to be run, as the board has it now."""
        wish = self._board.read()[1].get(model) if self._changes[0] else None
        return frozenset() if wish is None else wish.quarantined.keys()

    def _withdraw(self, model: str, state: State, reason: str, version: int | None = None) -> None:
        """Takes a version, or every one, out of service, where the model is here."""
        if model not in self._entries:  # it came and went elsewhere before anybody here asked for it
            return
        versions = {
            v: _withdrawn(entry, state, reason) if version in (None, v) else entry
            for v, entry in self._entries[model].items()
        }
        self._entries = {**self._entries, model: versions}
        self._republish(model)

    def _republish(self, model: str) -> None:
        """What is current for a model, and for the default one, after its versions changed."""
        versions = self._entries.get(model, {})
        current = self._current_version(model, versions)
        for named in (self._quick, self.with_steps):
            named.discard(model)
            named.discard(None)
        if current is None:
            self._current.pop(model, None)
        else:
            self._publish(model, versions)
        default = self._default()
        if default in self._current:
            self._current[None] = self._current[default]
            for named in (self._quick, self.with_steps):
                if default in named:
                    named.add(None)
        else:
            self._current.pop(None, None)


def _withdrawn(entry: Entry, state: State, reason: str) -> Entry:
    """The entry in a state in which it is not served; one that cannot come to it stays as it is."""
    if state not in MOVES[entry.state]:
        return entry
    return replace(entry.moved(state), reason=reason, servable=None, validator=None)
