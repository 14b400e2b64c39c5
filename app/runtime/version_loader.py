"""Load versions of the repository, and prove that they give the answers that packing recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from app.errors import LoadingFailed, RetortError
from app.runtime.direct_call import call_directly
from app.runtime.entry import Entry, Lease, StepsFor, without_steps
from app.runtime.environment import changed
from app.runtime.explanation import explained, offering
from app.runtime.large_batches import LargeBatches
from app.runtime.loaders import Loader
from app.runtime.policy import State
from app.runtime.proving import InstanceValidator, advice, prove, prove_recorded
from app.runtime.servable import Compose, Servable
from app.runtime.version_table import with_chosen
from app.signature import Signature
from app.storage.choices import Pointers
from app.storage.manifest import Manifest, read_recorded
from app.storage.repository import Repository
from app.storage.repository import strays as artifact_strays
from app.storage.verification import open_verified, verify_files
from app.telemetry import mark_progress
from app.telemetry.metrics import SharedMetrics

log = logging.getLogger(__name__)

ValidatorFor = Callable[[Signature], InstanceValidator]
PackStray = Callable[[Path, str], None]
"""Packs a stray artifact under a name, or raises with the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class VersionLoader:
    """The loader of versions, which makes their entries and keeps none. Safe to call from many threads.

    With `graphs`, a version's graph is served instead of its artifact. `compose` wraps each servable, and `steps_for`
    plans the steps of a manifest. Without `pack_stray`, stray artifacts in the repository are refused. `metrics` counts
    loads and proofs.
    """

    repository: Repository
    loaders: Mapping[str, Loader]
    validator_for: ValidatorFor
    graphs: bool = True
    compose: Compose | None = None
    steps_for: StepsFor = without_steps
    pack_stray: PackStray | None = None
    metrics: SharedMetrics | None = None

    def read(self, present: Mapping[str, Mapping[int, Entry]], pointers: Pointers) -> dict[str, dict[int, Entry]]:
        """Load every version of the repository, and keep present entries whose content is unchanged."""
        strays = [self._stray_entry(path, name) for path, name in artifact_strays(self.repository)]
        entries: dict[str, dict[int, Entry]] = {}
        for model in self.repository.models():
            if numbers := self.repository.versions(model):  # none if they were removed just now
                before = present.get(model, {})
                entries[model] = {v: self.kept(before.get(v)) or self.load(model, v) for v in numbers}
        for stray in filter(None, strays):
            versions = entries.setdefault(stray.model, {})
            number = max(versions, default=0) + 1
            versions[number] = replace(stray, version=number)
        for problem in self.repository.problems():
            log.error("%s", problem)
        return {model: with_chosen(model, versions, pointers) for model, versions in entries.items()}

    def kept(self, entry: Entry | None) -> Entry | None:
        """Return an entry if it can serve and its content in the repository is unchanged; else None."""
        if entry is None or entry.state not in (State.LOADED, State.AVAILABLE):
            return None
        try:
            return entry if self.repository.digest(entry.model, entry.version) == entry.digest else None
        except RetortError:  # loading it again finds the reason
            return None

    def load(self, model: str, version: int) -> Entry:
        """Verify and load a version without running it. The entry is LOADED, or FAILED with the reason."""
        began_s = time.monotonic()
        entry = self._load(model, version)
        if self.metrics is not None:
            self.metrics.loaded(model, version, entry.state is State.LOADED, time.monotonic() - began_s)
        return entry

    def _load(self, model: str, version: int) -> Entry:
        entry = Entry(model, version, State.FOUND)
        try:
            manifest = self.repository.manifest(model, version)
            entry = replace(entry, manifest=manifest)
            folder = self.repository.folder(model, version)
            entry = replace(entry, digest=self.repository.digest(model, version))
            verify_files(folder, manifest)
            entry = entry.moved(State.VERIFIED)
            graph = manifest.graph if self.graphs else None
            runtime = "artifact" if graph is None else "graph"
            file, format_ = (manifest.artifact, manifest.format) if graph is None else (graph, "onnx")
            if format_ not in self.loaders:
                return entry.moved(State.FAILED, f"no loader for the format {format_!r}")
            servable = self._servable(folder, manifest, file, format_)
            if self.compose is not None:
                servable = self.compose(servable, runtime, manifest)
            if manifest.explanation is not None:
                manifest = offering(manifest)
            steps = self.steps_for(manifest)
            public = manifest if steps is None else steps.public
            validator = self.validator_for(public.signature)
            lease = Lease(public, servable, validator, steps, runtime)
            return replace(entry, manifest=public, lease=lease, runtime=runtime).moved(State.LOADED)
        except LoadingFailed as error:
            why = f"; {advice(entry.manifest)}" if entry.manifest and changed(entry.manifest.environment) else ""
            return entry.moved(State.FAILED, error.detail + why)
        except RetortError as error:
            return entry.moved(State.FAILED, error.detail)
        except Exception as error:  # a model or its disk may raise anything; the other models must be served
            log.exception("model %s version %d", model, version)
            return entry.moved(State.FAILED, f"it cannot be loaded ({type(error).__name__}); the log has the cause")

    def _servable(self, folder: Path, manifest: Manifest, file: str, format_: str) -> Servable:
        with open_verified(folder, file, manifest.files[file]) as stream:
            servable = call_directly(self.loaders[format_](stream, manifest.signature), manifest)
        if file == manifest.graph:
            servable = LargeBatches(servable, partial(_content, folder, file, manifest), manifest.signature)
        if (explanation := manifest.explanation) is None:
            return servable
        validate = self.validator_for(manifest.signature).validate
        with open_verified(folder, explanation.file, manifest.files[explanation.file]) as stream:
            return explained(stream, servable, explanation, manifest.signature, validate)

    def prove(self, entry: Entry) -> Entry:
        """Run the recorded examples of a LOADED version without its steps. The entry is AVAILABLE or FAILED.

        If the installed libraries differ from those of packing, an artifact must also give the recorded answers.
        """
        entry = self._prove(entry)
        if self.metrics is not None:
            self.metrics.proved(entry.model, entry.version, entry.state is State.AVAILABLE)
        return entry

    def _prove(self, entry: Entry) -> Entry:
        lease = entry.required_lease()
        model = lease.steps or lease  # the examples belong to the model itself
        manifest = model.manifest
        try:
            prove(lease.servable, model.validator, manifest)
            # Older releases recorded only the examples.
            if entry.runtime == "artifact" and changed(manifest.environment) and manifest.recorded is not None:
                folder = self.repository.folder(manifest.model, manifest.version)
                with open_verified(folder, manifest.recorded, manifest.files[manifest.recorded]) as stream:
                    prove_recorded(lease.servable, model.validator, manifest, read_recorded(stream))
        except RetortError as error:
            return entry.moved(State.FAILED, error.detail)
        return entry.moved(State.AVAILABLE)

    def tried(self, model: str, version: int) -> Entry:
        """Load and prove one version. The entry is AVAILABLE or FAILED."""
        mark_progress()
        entry = self.load(model, version)
        mark_progress()
        return self.prove(entry) if entry.state is State.LOADED else entry

    def _stray_entry(self, path: Path, name: str) -> Entry | None:
        """Pack a stray artifact. If that is disabled or fails, return an entry with the reason."""
        place, entry = self.repository.shown(path), Entry(name, 0, State.FOUND, packed=False)
        if self.pack_stray is None:
            reason = f"{place} is not packed; to pack it: flask models add {place} --name {name}"
            return entry.moved(State.FAILED, reason)
        try:
            self.pack_stray(path, name)
        except RetortError as error:
            detail = error.detail.replace(str(path), place)
            return entry.moved(State.FAILED, f"{place} could not be packed: {detail}")
        return None


def _content(folder: Path, file: str, manifest: Manifest) -> bytes:
    """Return the content of a verified file."""
    with open_verified(folder, file, manifest.files[file]) as stream:
        return stream.read()
