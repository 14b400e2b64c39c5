"""A stored artifact is packed once more, by the libraries that are installed now."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from app.errors import LoadingFailed, PackingRefused
from app.packing.artifacts import opening
from app.packing.graph import GRAPH, WEIGHTS, derive_graph
from app.packing.lean import lean_servable
from app.packing.record import record
from app.packing.remarks import graph_remarks
from app.packing.spawn import RepackRequest, Result
from app.packing.timing import artifact_cost_us
from app.packing.trial import MAX_SAMPLE_ROWS
from app.runtime.environment import environment
from app.runtime.proving import prove
from app.runtime.servable import ArtifactServable
from app.signature.schema import Validator
from app.storage import recorded
from app.storage.recorded import RECORDED
from app.storage.repository import Repository
from app.storage.verification import sha256_of, verify_files


def repack(request: RepackRequest) -> Result:
    """Make a new version of a stored one: the same artifact, signature and examples, another graph and environment.

    The recorded answers are those that it had: it is not packed again where it does not give them any more.

    Raises:
        PackingRefused: with the reason, in one sentence.
    """
    repository = Repository(Path(request.models_dir))
    stored, before = repository.folder(request.model, request.version), f"version {request.version}"
    manifest = repository.manifest(request.model, request.version)
    verify_files(stored, manifest)
    signature = manifest.signature
    if manifest.format == "onnx":
        raise PackingRefused(f"{before} is a graph that came as a file: there is nothing to compile again")
    if manifest.served_by:
        raise PackingRefused(
            f"{before} was packed in its training environment ({', '.join(manifest.trained_with)}): "
            f"flask models add {stored / manifest.artifact} --name {request.model} packs it there again"
        )
    estimator = opening.read(stored / manifest.artifact, manifest.format)
    try:
        prove(ArtifactServable(estimator, signature), Validator(signature, MAX_SAMPLE_ROWS), manifest)
    except LoadingFailed as error:
        raise PackingRefused(f"{before} does not answer as it did: {error.detail}") from None
    records = [example.instance for example in manifest.examples]
    with repository.staging() as folder:
        artifact = folder / manifest.artifact
        shutil.copyfile(stored / manifest.artifact, artifact)
        lean = lean_servable(estimator, lambda: opening.read(artifact, manifest.format), signature, records)
        answered = record(estimator, signature, records)
        if answered is not None:
            recorded.write(folder, answered)
        served = lean or ArtifactServable(estimator, signature)
        proof = manifest.proof
        if any(spec.shape is not None or spec.image is not None for spec in signature.inputs):
            # The columns that such inputs fill are not in the manifest. The graph stays the one that was proven.
            for name in {GRAPH, WEIGHTS} & manifest.files.keys():
                shutil.copyfile(stored / name, folder / name)
        else:
            limit_bytes = request.graph_limit_bytes
            proof = derive_graph(estimator, served, signature, records, folder, limit_bytes)
        again = replace(
            manifest,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
            environment=environment(),
            graph=GRAPH if (folder / GRAPH).exists() else None,
            proof=proof,
            artifact_cost_us=artifact_cost_us(served, signature, records),
            lean=lean.call if lean else None,
            recorded=RECORDED if answered else None,
        )
        published = repository.publish(folder, again, answers=not request.staged)
    remarks = (f"it answers the {len(records)} recorded examples of {before} as that did", *graph_remarks(proof))
    return Result(version=published.version, remarks=remarks)
