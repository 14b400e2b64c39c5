"""A staged version as it will be served: loaded by the installed libraries, and asked all that was recorded.

It imports no more than serving does, so that a graph is tried without the libraries of its model.
"""

from __future__ import annotations

from pathlib import Path

from app.errors import LoadingFailed, PackingRefused
from app.packing.spawn import Result, ServeRequest
from app.runtime.environment import environment
from app.runtime.lean import lean
from app.runtime.loaders import LOADERS
from app.runtime.proving import advice, prove, prove_recorded
from app.signature.schema import Validator
from app.storage import manifest as manifests
from app.storage import recorded
from app.storage.verification import open_verified

MAX_ROWS = 1000


def serve(request: ServeRequest) -> Result:
    """Loads a staged version as serving would, and compares its answers with all that are recorded.

    Raises:
        PackingRefused: it cannot be loaded here, or answers otherwise.
    """
    folder = Path(request.folder)
    manifest = manifests.read(folder)
    file, form = (manifest.artifact, manifest.format) if manifest.graph is None else (manifest.graph, "onnx")
    try:
        with open_verified(folder, file, manifest.files[file]) as stream:
            servable = lean(LOADERS[form](stream, manifest.signature), manifest)
    except LoadingFailed as error:
        raise PackingRefused(f"{error.detail}; {advice(manifest)}") from None
    validator = Validator(manifest.signature, MAX_ROWS)
    rows = 0
    try:
        prove(servable, validator, manifest)
        if manifest.recorded is not None:
            with open_verified(folder, manifest.recorded, manifest.files[manifest.recorded]) as stream:
                rows = prove_recorded(servable, validator, manifest, recorded.read(stream))
    except LoadingFailed as error:
        raise PackingRefused(error.detail) from None
    return Result(environment=environment(), rows=rows)
