"""Start packing: find the training environment of an artifact, and pack with a Python that has it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from app.errors import PackingRefused
from app.packing import environments, spawn
from app.packing.artifacts.folders import located
from app.packing.spawn import PackRequest, RepackRequest, Result
from app.packing.stages import NoProgress, Progress
from app.packing.trained_with import LIBRARIES, SCIKIT_LEARN, Training, find
from app.runtime.environment import environment
from app.storage.manifest import Manifest
from app.storage.repository import Repository
from app.storage.verification import verify_files

Packing = TypeVar("Packing", PackRequest, RepackRequest)


def add(
    request: PackRequest,
    timeout_s: float,
    trained_with: str | None = None,
    python: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Pack an artifact in an environment like that of its training.

    `trained_with` is the training environment as the user names it, and `python` the user's own Python that has it.
    `progress` receives the making of an environment, which `timeout_s` does not count, and the stages of packing.
    """
    spawn.require_name(request.name)
    artifact, *beside = [located(name).file for name in (request.artifact, *request.beside)]
    spawn.require_files([artifact, *beside])
    spawn.require_files([Path(request.sample)] if request.sample else [], "sample")
    spawn.require_files([Path(request.inputs)] if request.inputs else [])
    spawn.require_files([Path(request.card)] if request.card else [], "the card")
    training = find(artifact, trained_with, beside)
    files = [str(path) for path in (artifact, *beside, request.sample) if path]
    return _pack_in(training, request, timeout_s, files, python, progress or NoProgress())


def repack(
    request: RepackRequest,
    timeout_s: float,
    trained_with: str | None = None,
    python: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Pack the artifact of a version again, in an environment like that of its training; arguments as for `add`.

    Raises:
        InvalidRepository: a file of the version is missing or damaged.
    """
    repository = Repository(Path(request.models_dir))
    folder = repository.folder(request.model, request.version)
    manifest = repository.manifest(request.model, request.version)
    verify_files(folder, manifest)
    artifact = folder / manifest.artifact
    training = training_of(manifest, artifact, trained_with)
    return _pack_in(training, request, timeout_s, [str(artifact)], python, progress or NoProgress())


def training_of(manifest: Manifest, artifact: Path, trained_with: str | None = None) -> Training:
    """Return the training environment of a version: as the user names it, else as it is recorded.

    If a version was packed by another Python and its artifact names no libraries, the training environment is that of
    packing. A version of an older release may record nothing; then the artifact is read.
    """
    if trained_with is not None:
        return find(artifact, trained_with)
    if manifest.trained_with:
        return replace(find(artifact, ",".join(manifest.trained_with)), source=manifest.trained_with_source)
    if manifest.served_by:
        used = manifest.environment
        pins = ",".join(f"{name}=={used[name]}" for name in LIBRARIES if name in used)
        return replace(find(artifact, pins), source="the version that is packed again")
    return find(artifact)


def _pack_in(
    training: Training, request: Packing, timeout_s: float, files: Sequence[str], python: str | None, progress: Progress
) -> Result:
    """Run a request with a Python that has the training environment: this one, the user's, or one that is made."""
    interpreter = environments.interpreter_for(training, files, python, progress)
    known = tuple(f"{name}{specifier}" for name, specifier in training.requirements.items())
    request = replace(request, trained_with=known, trained_with_source=training.source, training_notes=training.remarks)
    if interpreter is None:
        return spawn.run(request, timeout_s, progress)
    try:
        return spawn.run(replace(request, served_by=sys.executable), timeout_s, progress, interpreter)
    except PackingRefused as error:
        raise PackingRefused(error.detail + _both_versions(training, error.detail)) from None


def _both_versions(training: Training, detail: str) -> str:
    """Name the release of training and the installed one, as the end of a refusal that does not."""
    trained, here = training.requirements.get(SCIKIT_LEARN, ""), environment().get(SCIKIT_LEARN, "none")
    if not trained or (trained.removeprefix("==") in detail and here in detail):
        return ""
    return f"; it was trained with {training.shown()} (says {training.source}), and {here} of scikit-learn is installed"
