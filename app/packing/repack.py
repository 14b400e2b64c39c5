"""Pack the stored artifact of a version again, as a new version."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.errors import LoadingFailed, PackingRefused
from app.packing import stages
from app.packing.artifacts import opening
from app.packing.build import Model, publish, training_assumptions
from app.packing.probe import MAX_SAMPLE_ROWS, Record
from app.packing.remarks import graph_remarks
from app.packing.serve import proven
from app.packing.spawn import RepackRequest, Result
from app.runtime.servable import ArtifactServable, frame_of
from app.signature import Input
from app.signature.validator import Validator
from app.storage.manifest import Manifest, Recorded
from app.storage.repository import Repository
from app.storage.verification import verify_files


def repack(request: RepackRequest) -> Result:
    """Make a new version of a stored one: the same artifact, signature and examples, with a new graph and proof.

    The artifact must still give the answers that are recorded in the stored version.
    """
    repository = Repository(Path(request.models_dir))
    stored, version = repository.folder(request.model, request.version), f"version {request.version}"
    manifest = repository.manifest(request.model, request.version)
    verify_files(stored, manifest)
    if manifest.format == "onnx":
        raise PackingRefused(f"{version} is a graph that came as a file: there is nothing to compile again")
    stages.enter("reading the artifact")
    estimator = opening.read(stored / manifest.artifact, manifest.format)
    try:
        answers, rows = proven(ArtifactServable(estimator, manifest.signature), stored, manifest)
    except LoadingFailed as error:
        raise PackingRefused(f"{version} no longer gives its recorded answers: {error.detail}") from None
    with repository.staging() as folder:
        shutil.copyfile(stored / manifest.artifact, folder / manifest.artifact)
        others = tuple(note for note in manifest.assumptions if note.about != "training environment")
        draft = replace(
            manifest,
            trained_with=request.trained_with,
            trained_with_source=request.trained_with_source,
            served_by={},
            assumptions=(*training_assumptions(request), *others),
        )
        model = _model(estimator, manifest, answers)
        published, verdict = publish(repository, folder, model, draft, request, answers)
    compared = f"{len(manifest.examples)} examples" + (f" and {rows} recorded rows" if answers else "")
    comparison = f"it gives the same answers as {version} on {compared}"
    remarks = (*request.training_notes, comparison, *graph_remarks(published.proof))
    return Result(version=published.version, remarks=remarks, verdict=verdict)


def _model(estimator: Any, manifest: Manifest, answers: Recorded | None) -> Model:
    """Return the estimator with its signature, the examples, and the recorded rows within the range of the sample."""
    signature = manifest.signature
    records = list(_rows_in_range(manifest, answers))
    if not records:
        raise PackingRefused(f"version {manifest.version} has no example to compare a new graph on")
    if all(spec.shape is None for spec in signature.inputs):
        return Model(estimator, signature, records, signature, records)
    by_column = replace(signature, inputs=tuple(column for spec in signature.inputs for column in _columns(spec)))
    matrix = frame_of(Validator(signature, MAX_SAMPLE_ROWS).validate(records), signature)
    rows = [dict(zip(by_column.names, row, strict=True)) for row in matrix.tolist()]
    return Model(estimator, signature, records, by_column, rows)


def _columns(spec: Input) -> list[Input]:
    """Return one input for each column of the estimator's matrix that an input fills."""
    if spec.shape is None:
        return [spec]
    dtype = spec.dtype if spec.dtype.startswith("float") else "float64"
    column = replace(spec, kind="number", dtype=dtype, shape=None, image=None, example=None)
    return [replace(column, name=f"{spec.name}[{place}]") for place in range(spec.width)]


def _rows_in_range(manifest: Manifest, answers: Recorded | None) -> Iterator[Record]:
    """Yield the examples, and the recorded rows whose numbers are within the range of the sample.

    Packing made the others up, far outside that range.
    """
    examples = [example.instance for example in manifest.examples]
    yield from examples
    inputs = manifest.signature.inputs
    for row in answers.instances if answers else ():
        if row not in examples and all(_is_in_range(row.get(spec.name), spec, examples) for spec in inputs):
            yield row


def _is_in_range(value: object, spec: Input, examples: Sequence[Record]) -> bool:
    """Return whether a number is within the range of the sample, or in an example if there is no range; else True."""
    if spec.shape is not None or not isinstance(value, int | float) or isinstance(value, bool):
        return True
    if spec.minimum is None or spec.maximum is None:
        return any(value == example.get(spec.name) for example in examples)
    return spec.minimum <= value <= spec.maximum
