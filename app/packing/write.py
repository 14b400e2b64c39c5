"""Packing from start to end: read the artifact, infer its signature, record examples, hash, move into place."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.errors import LoadingFailed, PackingRefused
from app.packing import declared, inspect, sample
from app.packing.assume import Notes
from app.packing.graph import GRAPH, derive_graph
from app.packing.infer import infer
from app.packing.lean import lean_servable
from app.packing.prove import artifact_cost_us
from app.packing.seen import as_trained, records_of, told_by
from app.packing.spawn import CheckRequest, PackRequest, Result
from app.packing.trial import MAX_SAMPLE_ROWS, Record, attempt
from app.runtime.environment import environment
from app.runtime.loaders import FORMAT_OF_SUFFIX, LOADERS, READERS
from app.runtime.policy import State
from app.runtime.proving import same
from app.runtime.registry import Registry
from app.runtime.servable import ArtifactServable, call
from app.signature import Input, Layout, Signature
from app.signature.batch import json_values
from app.signature.schema import Validator
from app.storage.manifest import Example, Manifest
from app.storage.repository import Repository, is_slug
from app.storage.verification import sha256_of

MAX_EXAMPLES = 5
MAX_REMARKED_INPUTS = 20
SUSPECT = 10
"""A pixel may be so many times what the sample has: more looks like a `divisor` that was forgotten."""
_OTHERS = {"reject": "", "warn": " (others accepted with a warning)", "accept": " (others accepted)"}


def pack(request: PackRequest) -> Result:
    """Packs an artifact as a new version of a model; nothing is left behind where it is refused.

    Raises:
        PackingRefused: with the reason, in one sentence.
    """
    artifact = Path(request.artifact)
    if not is_slug(request.name):
        raise PackingRefused(
            f"name {request.name!r} cannot stand in a URL: 1 to 64 letters, digits, '.', '_' or '-', "
            "a letter or digit at both ends"
        )
    estimator = read_artifact(artifact)
    inspect.require_model(estimator)
    frame, labels, told, notes = None, None, set[str](), Notes()
    if request.sample:
        path = Path(request.sample)
        frame, told = told_by(path, sample.read(path, request.target))
        labels = sample.read(path, None)[request.target] if request.target else None
    wanted = declared.read(Path(request.inputs)) if request.inputs else ()
    said = declared.Declared(request.out_of_range, request.unseen, wanted)
    by_column, rows = infer(estimator, frame, said, told, labels, notes)
    if frame is not None and by_column.layout is not Layout.RECORDS:
        _require_fidelity(estimator, by_column, said.cast(frame))
    signature, records = said.folded(by_column, rows)
    chosen = (
        [records[i] for i in np.unique(np.linspace(0, len(records) - 1, MAX_EXAMPLES).astype(int))] if records else []
    )
    chosen += notes.telling[:MAX_EXAMPLES]
    repository = Repository(Path(request.models_dir))
    with repository.staging() as folder:
        name = f"model{artifact.suffix.lower()}"
        shutil.copyfile(artifact, folder / name)
        lean = lean_servable(estimator, lambda: read_artifact(folder / name), signature, records)
        served = lean or ArtifactServable(estimator, signature)
        timed = ArtifactServable(estimator, by_column) if said.fills else served
        proof = derive_graph(estimator, timed, by_column, rows, folder, request.graph_limit_bytes, matrix=said.fills)
        manifest = Manifest(
            model=request.name,
            version=0,  # given when it is published
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            task=inspect.task_of(estimator),
            estimator=inspect.describe(estimator),
            format=FORMAT_OF_SUFFIX[artifact.suffix.lower()],
            artifact=name,
            files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
            signature=signature,
            examples=_examples(estimator, signature, chosen),
            examples_made_up=frame is None,
            environment=environment(),
            graph=GRAPH if (folder / GRAPH).exists() else None,
            proof=proof,
            artifact_cost_us=artifact_cost_us(served, signature, records),
            lean=lean.call if lean else None,
            before=request.before,
            after=request.after,
        )
        published = repository.publish(folder, manifest)
    return Result(version=published.version, remarks=(*_remarks(published, said), *notes.assumptions))


def read_artifact(path: Path) -> Any:
    """The object in an artifact.

    Raises:
        PackingRefused: it is not there, is of no known format, or cannot be read.
    """
    loader = READERS.get(FORMAT_OF_SUFFIX.get(path.suffix.lower(), ""))
    if loader is None:
        raise PackingRefused(f"{path} must end in one of: {', '.join(FORMAT_OF_SUFFIX)}")
    try:
        with path.open("rb") as stream:
            return loader(stream)
    except OSError as error:
        raise PackingRefused(f"{path} cannot be read: {error.strerror}") from None
    except LoadingFailed as error:
        raise PackingRefused(f"{path} cannot be loaded: {error.detail}") from None


def check(request: CheckRequest) -> Result:
    """Verifies, loads and proves one version, as a serving process would.

    Raises:
        PackingRefused: with the reason why it could not be served.
    """
    registry = Registry(
        Repository(Path(request.models_dir)), LOADERS, lambda signature: Validator(signature, MAX_SAMPLE_ROWS)
    )
    entry = registry.tried(request.model, request.version)
    if entry.state is not State.AVAILABLE:
        raise PackingRefused(entry.reason or f"its state is {entry.state.value}")
    return Result(version=request.version)


def _require_fidelity(estimator: Any, signature: Signature, frame: pd.DataFrame) -> None:
    """Compares what is served on the sample, row by row as JSON, with what the estimator gives on the sample itself.

    Raises:
        PackingRefused: they differ, so that serving would not give what the notebook gives.
    """
    frame = sample.fitted_to(frame, None if signature.layout is not Layout.FRAME else signature.names, None)
    frame = frame.dropna() if attempt(estimator, signature, records_of(frame, signature.names)) else frame
    frame = frame[:MAX_SAMPLE_ROWS]
    if frame.empty or attempt(estimator, signature, records_of(frame, signature.names)):
        return
    batch = Validator(signature, MAX_SAMPLE_ROWS).validate(records_of(frame, signature.names))
    frame = as_trained(frame, signature)
    served = json_values(ArtifactServable(estimator, signature).run(batch, ["prediction"])["prediction"])
    features = {
        Layout.FRAME: frame,
        Layout.MATRIX: np.ascontiguousarray(frame),
        Layout.SEQUENCE: frame.iloc[:, 0].to_numpy(),
    }
    try:
        wanted = json_values(np.asarray(call(estimator, "prediction", features[signature.layout])))
    except Exception:  # noqa: BLE001 (around run: a file may hold other types than training did, NaN for None)
        return
    for row, (was, now) in enumerate(zip(wanted, served, strict=True)):
        if not same(was, now):
            raise PackingRefused(
                f"through JSON the model gives {str(now)[:80]} for row {row} of the sample, on the sample itself "
                f"{str(was)[:80]}: the sample's types or its index cannot be sent as JSON"
            )


def _examples(estimator: Any, signature: Signature, records: list[Record]) -> tuple[Example, ...]:
    """The records with what the model gives for them, through the very path that serves."""
    if not records:
        return ()
    batch = Validator(signature, MAX_SAMPLE_ROWS).validate(records)
    try:
        outputs = ArtifactServable(estimator, signature).run(batch, signature.defaults)
    except Exception as error:  # whatever a model may raise
        raise PackingRefused(f"the model fails on its own examples ({type(error).__name__}: {error})") from error
    values = {name: json_values(array) for name, array in outputs.items()}
    return tuple(Example(record, {name: values[name][row] for name in values}) for row, record in enumerate(records))


def _remarks(manifest: Manifest, said: declared.Declared) -> list[str]:
    """What whoever packs should know: what was inferred, and what was asked for in vain."""
    signature = manifest.signature
    remarks = [f"{manifest.task}: {manifest.estimator}"]
    for spec in signature.inputs[:MAX_REMARKED_INPUTS]:
        known = (
            "" if spec.minimum is None or spec.maximum is None else f", {spec.minimum:.6g} to {spec.maximum:.6g} seen"
        )
        known += f", one of {', '.join(map(str, spec.categories[:10]))}" if spec.categories else ""
        known += _OTHERS[spec.unseen] if spec.categories else ""
        known = f"{_shape_remark(spec)}{known}"
        remarks.append(f"input {spec.name}: {spec.kind}{known}{', may be missing' if spec.nullable else ''}")
    if len(signature.inputs) > MAX_REMARKED_INPUTS:
        remarks.append(
            f"and {len(signature.inputs) - MAX_REMARKED_INPUTS} more inputs: flask models show {manifest.model}"
        )
    remarks += [
        f"input {spec.name}: the sample's values end at {spec.maximum:.6g}, a pixel's at {top:.6g}: "
        "is the divisor right?"
        for spec in signature.inputs
        if spec.image and spec.maximum is not None
        if spec.maximum * SUSPECT < (top := 255 / spec.image.divisor + spec.image.offset)
    ]
    remarks += [
        f"--unseen {wish} changes nothing for {', '.join(names)}: the model fails on values that it has never seen, so "
        "they stay refused (its encoder decides, by handle_unknown)"
        for wish, names in said.unheeded(signature).items()
    ]
    remarks.append(f"outputs: {', '.join(signature.outputs)}")
    remarks.append(_graph_remark(manifest.proof))
    if manifest.examples_made_up:
        remarks.append("its examples are made up from what the estimator knows; --sample takes rows it was trained on")
    return remarks


def _shape_remark(spec: Input) -> str:
    """The shape of an array; of an image what it is turned into, and what becomes of a pixel."""
    if spec.image is None:
        return f" of shape {' x '.join(map(str, spec.shape))}" if spec.shape else ""
    picture = spec.image
    scale = f" / {picture.divisor:g}" if picture.divisor != 1 else ""
    shift = f" {'-' if picture.offset < 0 else '+'} {abs(picture.offset):g}" if picture.offset else ""
    return (
        f" of mode {picture.mode}, {picture.width} x {picture.height}, "
        f"pixels 0 to 255{scale}{shift or ('' if scale else ' as they are')}"
    )


def _graph_remark(proof: dict[str, object]) -> str:
    if not proof.get("proven"):
        return f"served as the artifact: {proof.get('reason')}"
    return (
        f"served as a graph, equal to the artifact on {proof['rows']} rows "
        f"(largest relative difference {proof['largest_difference']:.1e}); "
        f"one row takes {proof['graph_us']} µs, with the artifact {proof['artifact_us']} µs; "
        f"1,000 rows take {proof['graph_1000_us']} µs, with the artifact {proof['artifact_1000_us']} µs"
    )
