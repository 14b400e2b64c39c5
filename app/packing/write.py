"""Pack an artifact: read it, infer its signature, build the version in a staging folder, and publish it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from app.packing import declared, inspect, reading, sample, spawn, stages
from app.packing.agreement import TargetRows, profile_of, require_fidelity, target_rows
from app.packing.artifacts.onnx_file import OnnxFile
from app.packing.artifacts.opening import Artifact
from app.packing.assume import Notes
from app.packing.build import MAX_EXAMPLES, Model, examples_of, publish, training_assumptions
from app.packing.declared import Declared
from app.packing.given_graph import pack_graph
from app.packing.infer import infer, outputs_lost
from app.packing.probe import spread
from app.packing.remarks import remarks_on
from app.packing.sample.expected import expected_of
from app.packing.spawn import PackRequest, Result
from app.runtime.servable import ArtifactServable
from app.signature import Layout
from app.storage.manifest import Assumption, Manifest
from app.storage.repository import Repository


def pack(request: PackRequest) -> Result:
    """Pack an artifact as a new version of a model; leave nothing behind if it is refused."""
    spawn.require_name(request.name)
    stages.enter("reading the artifact")
    artifact = reading.open_requested(request)
    reading.require_steps(artifact, request)
    if isinstance(artifact.estimator, OnnxFile):
        return pack_graph(request, artifact, artifact.estimator)
    inspect.require_model(artifact.estimator)
    inferred = _infer(request, artifact)
    repository = Repository(Path(request.models_dir))
    stages.enter("scoring the predictions for the sample")
    rows = inferred.target_rows()
    manifest = _manifest(request, artifact, inferred)
    if rows is not None and not inferred.model.has_arrays and (importance := rows.importance()):
        manifest = replace(manifest, profile={**manifest.profile, "importance": importance})
    with repository.staging() as folder:
        if artifact.file is None:  # it was put together from parts
            joblib.dump(artifact.estimator, folder / artifact.stored_name)
        else:
            shutil.copyfile(artifact.file, folder / artifact.stored_name)
        published, verdict = publish(repository, folder, inferred.model, manifest, request)
    lost_outputs = outputs_lost(artifact.estimator, inferred.model.by_column, inferred.model.rows)
    return Result(
        version=published.version,
        remarks=(
            *request.training_notes,
            *remarks_on(published, inferred.declared),
            *artifact.notes,
            *inferred.sample_notes,
            *(assumption.text for assumption in inferred.notes.assumptions),
            *lost_outputs,
        ),
        verdict=replace(verdict, agreement=rows.agreement() if rows is not None else None),
    )


@dataclass(frozen=True, slots=True)
class _Inferred:
    """The facts from the artifact, the sample and the declared inputs.

    `file_notes` say how the file of the sample was read; `sample_notes` add where the sample is from.
    """

    model: Model
    declared: Declared
    notes: Notes
    frame: pd.DataFrame | None
    target: pd.Series[Any] | None
    sample_notes: tuple[str, ...]
    file_notes: tuple[str, ...]

    def target_rows(self) -> TargetRows | None:
        """Return the rows of the sample with their targets; None if there is no target."""
        signature = self.model.by_column
        if self.frame is None or self.target is None or signature.layout is Layout.RECORDS:
            return None
        frame = sample.fitted_to(self.frame, signature.names if signature.layout is Layout.FRAME else None, None)
        return target_rows(self.model.estimator, signature, self.declared.cast(frame), self.target)


def _infer(request: PackRequest, artifact: Artifact) -> _Inferred:
    """Read the sample, infer the signature, and check that the sample can be sent as JSON."""
    estimator = artifact.estimator
    inputs = declared.read(Path(request.inputs)) if request.inputs else ()
    columns = artifact.columns if inspect.names_of(estimator) is None and not inspect.takes_text(estimator) else None
    rows_read, sample_notes = reading.sample_of(request, artifact, expected_of(estimator, inputs, columns))
    frame, typed_columns = reading.with_dtypes(request, artifact, rows_read)
    if frame is not None and columns is not None:
        frame = sample.fitted_to(frame, columns, None)
    declaration = Declared(request.out_of_range, request.unseen, inputs, columns or ())
    stages.enter("finding out what the model takes")
    notes, target = Notes(), rows_read.target if rows_read else None
    by_column, rows = infer(estimator, frame, declaration, typed_columns, target, notes)
    if frame is not None and by_column.layout is not Layout.RECORDS:
        require_fidelity(estimator, by_column, declaration.cast(frame))
    signature, records = declaration.folded(by_column, rows)
    model = Model(estimator, signature, records, by_column, rows)
    return _Inferred(model, declaration, notes, frame, target, sample_notes, rows_read.notes if rows_read else ())


def _manifest(request: PackRequest, artifact: Artifact, inferred: _Inferred) -> Manifest:
    """Return the manifest as far as it is known before the version is built."""
    estimator, signature = artifact.estimator, inferred.model.signature
    # Some rows of the sample, and those that prove how the model treats a missing value.
    examples = [*spread(inferred.model.records, MAX_EXAMPLES), *inferred.notes.missing_value_records[:MAX_EXAMPLES]]
    return Manifest(
        model=request.name,
        version=0,  # given when it is published
        created="",
        task=inspect.task_of(estimator),
        estimator=inspect.describe(estimator),
        format=artifact.format,
        artifact=artifact.stored_name,
        files={},
        signature=signature,
        examples=examples_of(ArtifactServable(estimator, signature), signature, examples),
        examples_made_up=inferred.frame is None,
        environment={},
        before=artifact.steps,
        after=request.after,
        trained_with=request.trained_with,
        trained_with_source=request.trained_with_source,
        assumptions=(
            *training_assumptions(request),
            *(Assumption("sample", note) for note in inferred.file_notes),
            *inferred.notes.assumptions,
        ),
        card=reading.card_of(request.card),
        profile=profile_of(estimator, signature, inferred.model.records) if inferred.frame is not None else {},
    )
