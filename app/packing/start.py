"""Start packing: find the training environment of an artifact, and pack with a Python that has it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from app.core.steps import load
from app.errors import PackingRefused
from app.packing import environments, spawn
from app.packing.artifacts.folders import located
from app.packing.spawn import PackRequest, RepackRequest, Result
from app.packing.stages import SILENT, Progress
from app.packing.trained_with import LIBRARIES, SCIKIT_LEARN, Training, find
from app.packing.verdict import Verdict
from app.runtime.environment import environment
from app.settings import Settings
from app.storage.manifest import Manifest
from app.storage.repository import Repository
from app.storage.verification import verify_files

Packing = TypeVar("Packing", PackRequest, RepackRequest)


def add(
    request: PackRequest,
    timeout_s: float,
    trained_with: str | None = None,
    python: str | None = None,
    progress: Progress = SILENT,
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
    return _pack_in(training, request, timeout_s, files, python, progress)


def repack(
    request: RepackRequest,
    timeout_s: float,
    trained_with: str | None = None,
    python: str | None = None,
    progress: Progress = SILENT,
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
    return _pack_in(training, request, timeout_s, [str(artifact)], python, progress)


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
    requirements = tuple(f"{name}{specifier}" for name, specifier in training.requirements.items())
    request = replace(
        request, trained_with=requirements, trained_with_source=training.source, training_notes=training.remarks
    )
    if interpreter is None:
        return spawn.run(request, timeout_s, progress)
    try:
        return spawn.run(replace(request, served_by=sys.executable), timeout_s, progress, interpreter)
    except PackingRefused as error:
        trained, installed = training.requirements.get(SCIKIT_LEARN, ""), environment().get(SCIKIT_LEARN, "none")
        if not trained or (trained.removeprefix("==") in error.detail and installed in error.detail):
            raise
        raise PackingRefused(
            f"{error.detail}; it was trained with {training.shown()} (says {training.source}), and {installed} of "
            "scikit-learn is installed"
        ) from None


@dataclass(frozen=True, slots=True, repr=False)
class PackedVersion:
    """A version that was packed. A notebook shows it as `flask models add` prints it.

    Attributes:
        name: the name of the model.
        version: the number of the version.
        path: the folder of the version.
        runtime: "graph" or "artifact".
        proof: how the graph was compared with the artifact, as in `GET /models/<name>`.
        remarks: sentences about the inferred facts.
        verdict: what it was trained, packed and served with; None for an ONNX file, which is served as it is.
    """

    name: str
    version: int
    path: Path
    runtime: str
    proof: Mapping[str, object]
    remarks: tuple[str, ...]
    verdict: Verdict | None

    @classmethod
    def of(cls, repository: Repository, name: str, result: Result, more_remarks: Sequence[str] = ()) -> PackedVersion:
        """Return the version that a request has added to the repository."""
        version = result.version
        if version is None:
            raise ValueError("the request has packed nothing")
        manifest, path = repository.manifest(name, version), repository.folder(name, version).resolve()
        remarks = (*result.remarks, *more_remarks)
        return cls(name, version, path, manifest.runtime, manifest.proof, remarks, result.verdict)

    def lines(self) -> list[str]:
        """Write the version for people, line by line."""
        sentences = (*self.remarks, *(self.verdict.shown() if self.verdict else ()))
        return [f"{self.name} version {self.version} packed", *(f"  {sentence}" for sentence in sentences)]

    def __repr__(self) -> str:
        return "\n".join([*self.lines(), f"  stored in: {self.path}"])


def add_version(
    request: PackRequest,
    settings: Settings,
    *,
    default: bool = False,
    trained_with: str | None = None,
    python: str | None = None,
    progress: Progress = SILENT,
) -> PackedVersion:
    """Pack an artifact as a new version, after checking its steps.

    Args:
        request: what to pack, as the user asks for it; limits and known steps are taken from the settings.
        settings: the settings of the service.
        default: put the model behind `/predict`.
        trained_with: the training environment as the user names it.
        python: the user's own Python that has it.
        progress: receives the making of an environment and the stages of packing.

    Raises:
        RetortError: nothing was packed; `detail` is the reason in one sentence.
    """
    repository = Repository(Path(request.models_dir))
    repository.pointers()  # packing takes a while: an unreadable repository.json is reported now
    # Only the process that reads the artifact knows whether a name is a part of it.
    has_parts = request.use is not None or request.beside
    unchecked = _check_steps(request.after if has_parts else (*request.before, *request.after), settings.steps)
    known = tuple(sorted(load(settings.steps).steps)) if settings.steps and request.before else None
    request = replace(request, known_steps=known, graph_limit_bytes=settings.graph_limit_bytes)
    result = add(request, settings.packing_timeout_s, trained_with, python, progress)
    if default:
        repository.set_default(request.name)
    return PackedVersion.of(repository, request.name, result, unchecked)


def _check_steps(steps: Sequence[str], module: str) -> list[str]:
    """Return a remark if steps are named and no module of steps is set to check them.

    Raises:
        PackingRefused: the module has no step of one of these names.
    """
    if not steps or not module:
        return ["its steps are not checked, since RETORT_STEPS is not set"] if steps else []
    step_names = load(module).steps
    unknown = [name for name in dict.fromkeys(steps) if name not in step_names]
    if unknown:
        listed = ", ".join(sorted(step_names)) or "none"
        raise PackingRefused(f"{module} has no step {' or '.join(map(repr, unknown))}; there are: {listed}")
    return []
