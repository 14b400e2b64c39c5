"""Load a version as a serving process would, and compare its answers with the recorded ones.

This module imports no more than serving does, so that a graph must work without the libraries of its model.
"""

from __future__ import annotations

from pathlib import Path

from app.errors import LoadingFailed, PackingRefused
from app.packing.spawn import CheckRequest, Result, ServeRequest
from app.runtime.direct_call import call_directly
from app.runtime.environment import environment
from app.runtime.loaders import LOADERS
from app.runtime.policy import State
from app.runtime.proving import advice, prove, prove_recorded
from app.runtime.servable import Servable
from app.runtime.version_loader import VersionLoader
from app.signature.validator import Validator
from app.storage import manifest as manifests
from app.storage.manifest import Manifest, Recorded, read_recorded
from app.storage.repository import Repository
from app.storage.verification import open_verified

MAX_ROWS = 1000


def serve(request: ServeRequest) -> Result:
    """Load a staged version with the installed libraries, and compare all its recorded answers.

    Returns:
        The versions of the libraries, and how many recorded rows were compared.
    """
    folder = Path(request.folder)
    manifest = manifests.read(folder)
    file, form = (manifest.artifact, manifest.format) if manifest.graph is None else (manifest.graph, "onnx")
    try:
        with open_verified(folder, file, manifest.files[file]) as stream:
            servable = call_directly(LOADERS[form](stream, manifest.signature), manifest)
    except LoadingFailed as error:
        raise PackingRefused(f"{error.detail}; {advice(manifest)}") from None
    try:
        _, rows = proven(servable, folder, manifest)
    except LoadingFailed as error:
        raise PackingRefused(error.detail) from None
    return Result(environment=environment(), rows=rows)


def proven(servable: Servable, folder: Path, manifest: Manifest) -> tuple[Recorded | None, int]:
    """Compare a servable with the examples and the recorded rows of a version.

    Returns:
        The recorded rows, None if an older release packed the version without; and how many were compared.

    Raises:
        LoadingFailed: an answer differs.
    """
    validator = Validator(manifest.signature, MAX_ROWS)
    prove(servable, validator, manifest)
    if manifest.recorded is None:
        return None, 0
    with open_verified(folder, manifest.recorded, manifest.files[manifest.recorded]) as stream:
        answers = read_recorded(stream)
    return answers, prove_recorded(servable, validator, manifest, answers)


def check(request: CheckRequest) -> Result:
    """Verify, load and prove a published version."""
    loader = VersionLoader(
        Repository(Path(request.models_dir)), LOADERS, lambda signature: Validator(signature, MAX_ROWS)
    )
    entry = loader.tried(request.model, request.version)
    if entry.state is not State.AVAILABLE:
        raise PackingRefused(entry.reason or f"its state is {entry.state.value}")
    return Result(version=request.version)
