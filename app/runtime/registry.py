"""The registry: the servables of this process, with their states; it hands out leases."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from app.errors import (
    InvalidRepository,
    LoadingFailed,
    ModelNotFound,
    ModelQuarantined,
    ModelUnavailable,
    RetortError,
    VersionNotFound,
)
from app.runtime import policy
from app.runtime.batching import BatchingServable
from app.runtime.environment import changed
from app.runtime.lean import lean
from app.runtime.loaders import Loader
from app.runtime.pipeline import Pipeline, PipelineFor, without_steps
from app.runtime.policy import MOVES, State
from app.runtime.proving import Validates, advice, prove, prove_recorded
from app.runtime.servable import Compose, Servable
from app.signature import Signature
from app.storage import recorded
from app.storage.choices import POINTERS, Pointers
from app.storage.manifest import Manifest
from app.storage.repository import Repository
from app.storage.verification import open_verified, verify_files
from app.telemetry import mark_progress

log = logging.getLogger(__name__)

QUICK_US = 1000.0
REQUEST_US, BYTE_US = 20.0, 0.4
"""Estimates of the time for one more request in a run, and for each byte of its body, without the model's."""

ValidatorFor = Callable[[Signature], Validates]
PackStray = Callable[[Path, str], None]
"""Packs a stray artifact under a name, or raises with the reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One version as this process has it. Immutable: a move makes a new entry.

    `digest` is the hash of its content: under the same number the repository may have other content by now.
    """

    model: str
    version: int
    state: State
    reason: str | None = None
    manifest: Manifest | None = None
    digest: str = ""
    servable: Servable | None = None
    validator: Validates | None = None
    runtime: str = "artifact"
    packed: bool = True
    pipeline: Pipeline | None = None

    @property
    def quick(self) -> bool:
        """Whether one row takes the graph less than `QUICK_US`, as measured at packing, and a short body is soon read.

        That of an image is not: a kilobyte may be millions of pixels.
        """
        return self.pipeline is None and self.runs_quickly

    @property
    def runs_quickly(self) -> bool:
        """Whether that is true without the steps of the model."""
        if self.runtime != "graph" or self.manifest is None:
            return False
        taken_us = self.manifest.proof.get("graph_us")
        images = any(spec.image is not None for spec in self.manifest.signature.inputs)
        return isinstance(taken_us, float) and taken_us < QUICK_US and not images

    def moved(self, state: State, reason: str | None = None) -> Entry:
        """The entry in its next state; what cannot serve keeps nothing in memory."""
        if state not in MOVES[self.state]:
            raise AssertionError(f"{self.model} {self.version}: {self.state} to {state} is not a legal move")
        if state is State.FAILED:
            log.error("model %s version %d failed: %s", self.model, self.version, reason)
            return replace(self, state=state, reason=reason, servable=None, validator=None, pipeline=None)
        return replace(self, state=state)


class Lease:
    """Keeps a servable alive during one request: while it is held, the entry's memory is not freed."""

    __slots__ = ("byte_us", "is_quick", "manifest", "pipeline", "servable", "validator")

    def __init__(
        self,
        manifest: Manifest,
        servable: Servable,
        validator: Validates,
        pipeline: Pipeline | None = None,
        is_quick: bool = False,
    ) -> None:
        self.manifest = manifest
        self.servable = servable
        self.validator = validator
        self.pipeline = pipeline
        self.is_quick = is_quick
        one_us, many_us = manifest.proof.get("graph_us"), manifest.proof.get("graph_1000_us")
        row_us = many_us / 1000 if isinstance(many_us, float) else one_us if isinstance(one_us, float) else 0.0
        self.byte_us = BYTE_US + row_us / (2 * max(1, len(manifest.signature.inputs)))
        """An estimate of the time for each byte of a JSON body; a row has two bytes for each input at least."""

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Registry:
    """The versions of the repository in this process. Lives as long as the process; safe to call from many threads.

    `load` belongs before the fork, so that workers share the memory; `prove`, which runs models, after it (a model
    that ran before `fork()` may hang in the child). A process that never called them (`flask run`, a test) does both
    at the first question.
    """

    def __init__(
        self,
        repository: Repository,
        loaders: Mapping[str, Loader],
        validator_for: ValidatorFor,
        default_model: str = "",
        pack_stray: PackStray | None = None,
        graphs: bool = True,
        compose: Compose | None = None,
        pipeline_for: PipelineFor = without_steps,
    ) -> None:
        self._repository = repository
        self._loaders = loaders
        self._validator_for = validator_for
        self._wanted_default = default_model
        self._pack_stray = pack_stray
        self._graphs = graphs
        self._compose = compose
        self._pipeline_for = pipeline_for
        self._lock = threading.RLock()
        self._entries: dict[str, dict[int, Entry]] = {}
        self._current: dict[str | None, Lease] = {}
        self._quick: set[str | None] = set()
        self.with_steps: set[str | None] = set()
        """The models whose current version has steps."""
        self._pointers = Pointers()
        self._loaded = False
        self._proven_in_pid: int | None = None

    def load(self) -> None:
        """Verifies and loads every version of the repository; runs nothing. A second call does nothing.

        Raises:
            InvalidRepository: `repository.json` cannot be read.
        """
        with self._lock:
            if not self._loaded:
                self._read()

    def reload(self) -> None:
        """Read the repository again: load what is new or has changed, keep the rest, forget what is gone. Runs nothing.

        For the master, which has proven nothing: its next workers do. The workers that it has are left alone.

        Raises:
            InvalidRepository: the repository or its `repository.json` cannot be read; nothing has changed then.
        """
        if not self._repository.root.is_dir():
            raise InvalidRepository(f"there is no folder {self._repository.root}")
        with self._lock:
            self._read()

    def _read(self) -> None:
        pointers = self._repository.pointers()
        refusals = [self._refusal(path, name) for path, name in self._repository.strays()]
        entries: dict[str, dict[int, Entry]] = {}
        for model in self._repository.models():
            if numbers := self._repository.versions(model):  # else they were removed just now
                entries[model] = {v: self._same(model, v) or self._load_version(model, v) for v in numbers}
        for refusal in filter(None, refusals):
            versions = entries.setdefault(refusal.model, {})
            number = max(versions, default=0) + 1
            versions[number] = replace(refusal, version=number)
        for model, versions in entries.items():
            entries[model] = with_chosen(model, versions, pointers)
        self._entries, self._pointers, self._loaded = entries, pointers, True
        for said in self._repository.problems():
            log.error("%s", said)

    def _same(self, model: str, version: int) -> Entry | None:
        """The entry that this process has, if it can serve and the repository has the same content for it."""
        entry = self._entries.get(model, {}).get(version)
        if entry is None or entry.state not in (State.LOADED, State.AVAILABLE):
            return None
        try:
            return entry if self._repository.digest(model, version) == entry.digest else None
        except RetortError:  # to load it says why
            return None

    def summary(self) -> str:
        """Return the loaded versions in one line, each with its runtime; those that failed have lines of their own."""
        loaded = [
            f"{model}/{version} ({entry.runtime})"
            for model, versions in sorted(self._entries.items())
            for version, entry in sorted(versions.items())
            if entry.state is not State.FAILED
        ]
        return ", ".join(loaded) or "none"

    def prove(self) -> None:
        """Runs the examples of every loaded version in this process and publishes those that pass."""
        with self._lock:
            self.load()
            if self._proven_in_pid == os.getpid():
                return
            for model, versions in self._entries.items():
                for version, entry in versions.items():
                    if entry.state is State.LOADED:
                        versions[version] = self._proven(entry)
                self._publish(model, versions)
            default = self._default()
            if default in self._current:
                self._current[None] = self._current[default]
                for named in (self._quick, self.with_steps):
                    if default in named:
                        named.add(None)
            self._proven_in_pid = os.getpid()

    def tried(self, model: str, version: int) -> Entry:
        """One version, loaded and proven as `load` and `prove` would, but not published: AVAILABLE or FAILED."""
        mark_progress()
        entry = self._load_version(model, version)
        mark_progress()
        return self._proven(entry) if entry.state is State.LOADED else entry

    def lease(self, model: str | None, version: str | None = None) -> Lease:
        """A lease on the named version or alias; without one on the model's current, without a model on the default's.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
            ModelUnavailable, ModelQuarantined: it is there, but not AVAILABLE.
        """
        if version is None and (lease := self._current.get(model)) is not None:
            return lease
        entry = self.entry(model, version)
        if version is None and entry.version in self._pointers.staged.get(entry.model, ()):
            raise ModelUnavailable(entry.model, entry.version, "it is staged, and no version is in use")
        return self.lease_of(entry)

    def is_quick(self, model: str | None) -> bool:
        """Whether the current version is a graph that answers a row within `QUICK_US`, as measured at packing."""
        return model in self._quick

    def is_awaited(self, model: str | None, version: str | None = None) -> bool:
        """Whether the steps of a version or alias (None: the current one) are all async, so that it may be answered on
        an event loop; it has steps, and is in service."""
        lease = self._current.get(model)
        pipeline = None if lease is None else lease.pipeline
        if version is not None and lease is not None:
            name = lease.manifest.model
            versions = self._entries[name]
            states = {v: entry.state for v, entry in versions.items()}
            found = policy.named_version(version, states, self.aliases(name))
            pipeline = None if found is None or states[found] is not State.AVAILABLE else versions[found].pipeline
        return pipeline is not None and pipeline.is_awaited

    def estimate_us(self, model: str | None, body_bytes: int) -> float:
        """Estimate the time for a small request to the current version, as one of several in a run."""
        lease = self._current.get(model)
        return 0.0 if lease is None else REQUEST_US + body_bytes * lease.byte_us

    def gains_together(self, model: str | None) -> bool:
        """Whether the current version gains by answering several requests at once: it is quick, or shares runs."""
        if model in self._quick:
            return True
        lease = self._current.get(model)
        return lease is not None and lease.pipeline is None and isinstance(lease.servable, BatchingServable)

    def entry(self, model: str | None, version: str | None = None) -> Entry:
        """The entry of the named version, in whatever state; without a version the model's current or else its chosen.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
        """
        self.prove()
        name = self._default() if model is None else model
        if name is None or name not in self._entries:
            raise ModelNotFound(model or self._wanted_default or None, sorted(self._entries))
        versions = self._entries[name]
        states = {v: entry.state for v, entry in versions.items()}
        if version is None:
            return versions[self._current_version(name, versions) or self._pointers.chosen(name, states) or max(states)]
        aliases = self.aliases(name)
        found = policy.named_version(version, states, aliases)
        if found is None:
            there = [alias for alias, v in aliases.items() if v in states]
            raise VersionNotFound(name, version, [*map(str, states), *there], aliases.get(version))
        return versions[found]

    def entries(self) -> dict[str, list[Entry]]:
        """Every version of every model, by model name, versions ascending."""
        self.prove()
        return {model: [versions[v] for v in sorted(versions)] for model, versions in sorted(self._entries.items())}

    def aliases(self, model: str) -> Mapping[str, int]:
        """The aliases of a model."""
        return self._pointers.aliases.get(model, {})

    def default(self) -> str | None:
        """The name of the model behind `/predict`, if there is one."""
        self.prove()
        return self._default()

    def _default(self) -> str | None:
        packed = [name for name, versions in self._entries.items() if any(e.packed for e in versions.values())]
        return policy.default_model(self._wanted_default, self._pointers.default, packed)

    def _refusal(self, path: Path, name: str) -> Entry | None:
        """Packs a stray artifact where that is wanted; else, or if that fails, the entry that says why."""
        refused = Entry(name, 0, State.FOUND, packed=False)
        if self._pack_stray is None:
            place = self._repository.shown(path)
            return refused.moved(
                State.FAILED, f"{place} is not packed; to pack it: flask models add {place} --name {name}"
            )
        try:
            self._pack_stray(path, name)
        except RetortError as error:
            place = self._repository.shown(path)
            detail = error.detail.replace(str(path), place)
            return refused.moved(State.FAILED, f"{place} could not be packed: {detail}")
        return None

    def _load_version(self, model: str, version: int) -> Entry:
        entry = Entry(model, version, State.FOUND)
        try:
            manifest = self._repository.manifest(model, version)
            entry = replace(entry, manifest=manifest)
            folder = self._repository.folder(model, version)
            entry = replace(entry, digest=self._repository.digest(model, version))
            verify_files(folder, manifest)
            entry = entry.moved(State.VERIFIED)
            graph = manifest.graph if self._graphs else None
            file, format_ = (manifest.artifact, manifest.format) if graph is None else (graph, "onnx")
            if format_ not in self._loaders:
                return entry.moved(State.FAILED, f"no loader for the format {format_!r}")
            with open_verified(folder, file, manifest.files[file]) as stream:
                servable = self._loaders[format_](stream, manifest.signature)
            pipeline = self._pipeline_for(manifest)
            seen = manifest if pipeline is None else pipeline.public
            validator = self._validator_for(seen.signature)
            runtime = "artifact" if graph is None else "graph"
            servable = lean(servable, manifest)
            if self._compose is not None:
                servable = self._compose(servable, runtime, manifest)
            entry = replace(entry, manifest=seen, servable=servable, runtime=runtime, validator=validator)
            entry = replace(entry, pipeline=pipeline)
            return entry.moved(State.LOADED)
        except LoadingFailed as error:
            why = f"; {advice(entry.manifest)}" if entry.manifest and changed(entry.manifest.environment) else ""
            return entry.moved(State.FAILED, error.detail + why)
        except RetortError as error:
            return entry.moved(State.FAILED, error.detail)
        except Exception as error:  # whatever an odd model, or its disk, may raise: the other models are to be served
            log.exception("model %s version %d", model, version)
            return entry.moved(State.FAILED, f"it cannot be loaded ({type(error).__name__}); the log has the cause")

    @staticmethod
    def lease_of(entry: Entry) -> Lease:
        """A lease on an entry.

        Raises:
            ModelUnavailable, ModelQuarantined: it is not AVAILABLE.
        """
        if entry.manifest is None or entry.servable is None or entry.validator is None:
            kind = ModelQuarantined if entry.state is State.QUARANTINED else ModelUnavailable
            raise kind(entry.model, entry.version, entry.reason or f"its state is {entry.state.value}")
        return Lease(entry.manifest, entry.servable, entry.validator, entry.pipeline, entry.runs_quickly)

    def _proven(self, entry: Entry) -> Entry:
        lease = self.lease_of(entry)
        model = lease.pipeline or lease  # the examples are those of the model itself: no step is run
        try:
            prove(lease.servable, model.validator, model.manifest)
            if entry.runtime == "artifact" and changed(model.manifest.environment):
                self._prove_recorded(lease.servable, model.validator, model.manifest)
        except RetortError as error:
            return entry.moved(State.FAILED, error.detail)
        return entry.moved(State.AVAILABLE)

    def _current_version(self, model: str, versions: Mapping[int, Entry]) -> int | None:
        states = {v: entry.state for v, entry in versions.items()}
        return policy.current_version(states, self._pointers.use.get(model), self._pointers.staged.get(model, ()))

    def _prove_recorded(self, servable: Servable, validator: Validates, manifest: Manifest) -> None:
        """An artifact is served by other libraries only if it gives the recorded answers there."""
        if manifest.recorded is None:  # packed by a release that recorded no more than the examples
            return
        folder = self._repository.folder(manifest.model, manifest.version)
        with open_verified(folder, manifest.recorded, manifest.files[manifest.recorded]) as stream:
            prove_recorded(servable, validator, manifest, recorded.read(stream))

    def _publish(self, model: str, versions: Mapping[int, Entry]) -> None:
        current = self._current_version(model, versions)
        if current is not None:
            self._current[model] = self.lease_of(versions[current])
            if versions[current].quick:
                self._quick.add(model)
            if versions[current].pipeline is not None:
                self.with_steps.add(model)


def with_chosen(model: str, versions: Mapping[int, Entry], pointers: Pointers) -> dict[int, Entry]:
    """The versions, and one that failed in place of a version that was chosen to answer and is not there."""
    chosen = pointers.use.get(model)
    if chosen is None or chosen in versions:
        return dict(versions)
    missing = Entry(model, chosen, State.FOUND, packed=False)
    said = f"{POINTERS} has it in use, but it is not there; to choose another: flask models use {model} VERSION|newest"
    return {**versions, chosen: missing.moved(State.FAILED, said)}
