"""Add a version to the repository. `flask models add` and `pack` both call `add_version`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.core.steps import load
from app.errors import PackingRefused
from app.packing import start
from app.packing.spawn import PackRequest, Result
from app.packing.stages import Progress
from app.packing.verdict import Verdict
from app.settings import Settings
from app.storage.repository import Repository


@dataclass(frozen=True, slots=True, repr=False)
class PackedVersion:
    """A version that was packed. A notebook shows it as `flask models add` prints it.

    Attributes:
        name: the name of the model.
        version: the number of the version.
        path: the folder of the version.
        runtime: "graph" or "artifact".
        proof: how the graph was compared with the artifact, as in `GET /models/<name>`.
        remarks: sentences on what packing found out.
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
        """Return the version that a request to pack has added to the repository."""
        version = result.version
        if version is None:
            raise ValueError("the request has packed nothing")
        manifest, path = repository.manifest(name, version), repository.folder(name, version).resolve()
        remarks = (*result.remarks, *more_remarks)
        return cls(name, version, path, manifest.runtime, manifest.proof, remarks, result.verdict)

    def lines(self) -> list[str]:
        """Write the version for people, line by line."""
        said = (*self.remarks, *(self.verdict.shown() if self.verdict else ()))
        return [f"{self.name} version {self.version} packed", *(f"  {each}" for each in said)]

    def __repr__(self) -> str:
        return "\n".join([*self.lines(), f"  stored in: {self.path}"])


def add_version(
    request: PackRequest,
    settings: Settings,
    *,
    default: bool = False,
    trained_with: str | None = None,
    python: str | None = None,
    progress: Progress | None = None,
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
    unchecked = _unchecked(request.after if has_parts else (*request.before, *request.after), settings.steps)
    known = tuple(sorted(load(settings.steps).steps)) if settings.steps and request.before else None
    request = replace(request, known_steps=known, graph_limit_bytes=settings.graph_limit_bytes)
    result = start.add(request, settings.packing_timeout_s, trained_with, python, progress)
    if default:
        repository.set_default(request.name)
    return PackedVersion.of(repository, request.name, result, unchecked)


def _unchecked(steps: Sequence[str], module: str) -> list[str]:
    """Return a remark if steps are named and no module of steps is set to check them.

    Raises:
        PackingRefused: the module has no step of one of these names.
    """
    if not steps or not module:
        return ["its steps are not checked, since RETORT_STEPS is not set"] if steps else []
    known = load(module).steps
    unknown = [name for name in dict.fromkeys(steps) if name not in known]
    if unknown:
        there = ", ".join(sorted(known)) or "none"
        raise PackingRefused(f"{module} has no step {' or '.join(map(repr, unknown))}; there are: {there}")
    return []
