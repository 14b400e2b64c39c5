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
from app.packing.spawn import RepackRequest, Result
from app.runtime.proving import prove, prove_recorded
from app.runtime.servable import ArtifactServable, frame_of
from app.signature import Input
from app.signature.validator import Validator
from app.storage.manifest import Manifest, Recorded, read_recorded
from app.storage.repository import Repository
from app.storage.verification import open_verified, verify_files


def repack(request: RepackRequest) -> Result:
    """Make a new version of a stored one: the same artifact, signature and examples, with a new graph and proof.

    The artifact must still give the answers that are recorded in the stored version.
    """
    repository = Repository(Path(request.models_dir))
    stored, before = repository.folder(request.model, request.version), f"version {request.version}"
    manifest = repository.manifest(request.model, request.version)
    verify_files(stored, manifest)
    if manifest.format == "onnx":
        raise PackingRefused(f"{before} is a graph that came as a file: there is nothing to compile again")
    stages.enter("reading the artifact")
    estimator = opening.read(stored / manifest.artifact, manifest.format)
    answers = _recorded(stored, manifest)
    try:
        equal = _compare(estimator, manifest, answers)
    except LoadingFailed as error:
        raise PackingRefused(f"{before} does not answer as it did: {error.detail}") from None
    with repository.staging() as folder:
        shutil.copyfile(stored / manifest.artifact, folder / manifest.artifact)
        model, known = _model(estimator, manifest, answers), _known(request, manifest)
        published, verdict = publish(repository, folder, model, known, request, answers)
    same = f"it answers the {equal} of {before} as that did"
    remarks = (*request.training_notes, same, *graph_remarks(published.proof))
    return Result(version=published.version, remarks=remarks, verdict=verdict)


def _recorded(folder: Path, manifest: Manifest) -> Recorded | None:
    """Read the recorded rows of a version; None if an older release packed it without."""
    if manifest.recorded is None:
        return None
    with open_verified(folder, manifest.recorded, manifest.files[manifest.recorded]) as stream:
        return read_recorded(stream)


def _compare(estimator: Any, manifest: Manifest, answers: Recorded | None) -> str:
    """Compare the answers of an estimator with the recorded ones; return what was compared, for a sentence.

    Raises:
        LoadingFailed: an answer differs.
    """
    servable = ArtifactServable(estimator, manifest.signature)
    validator = Validator(manifest.signature, MAX_SAMPLE_ROWS)
    prove(servable, validator, manifest)
    compared = f"{len(manifest.examples)} examples"
    if answers is None:
        return compared
    return f"{compared} and {prove_recorded(servable, validator, manifest, answers)} recorded rows"


def _known(request: RepackRequest, manifest: Manifest) -> Manifest:
    """Return the manifest with the training environment of the request."""
    others = tuple(assumption for assumption in manifest.assumptions if assumption.about != "training environment")
    return replace(
        manifest,
        trained_with=request.trained_with,
        trained_with_source=request.trained_with_source,
        served_by={},
        assumptions=(*training_assumptions(request), *others),
    )


def _model(estimator: Any, manifest: Manifest, answers: Recorded | None) -> Model:
    """Put the estimator, its signature and the rows that were seen in training together."""
    signature = manifest.signature
    records = list(_seen(manifest, answers))
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


def _seen(manifest: Manifest, answers: Recorded | None) -> Iterator[Record]:
    """Yield the examples, and the recorded rows whose numbers are within the range of the sample.

    The other recorded rows were made up to be far outside.
    """
    examples = [example.instance for example in manifest.examples]
    yield from examples
    inputs = manifest.signature.inputs
    for row in answers.instances if answers else ():
        if row not in examples and all(_is_seen(row.get(spec.name), spec, examples) for spec in inputs):
            yield row


def _is_seen(value: object, spec: Input, examples: Sequence[Record]) -> bool:
    if spec.shape is not None or not isinstance(value, int | float) or isinstance(value, bool):
        return True
    if spec.minimum is None or spec.maximum is None:
        return any(value == example.get(spec.name) for example in examples)
    return spec.minimum <= value <= spec.maximum
