"""Packing from start to end: read the artifact, infer its signature, record examples, hash, move into place."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from app.errors import PackingRefused
from app.packing import declared, given_graph, inspect, sample, stages
from app.packing.agreement import agreement
from app.packing.artifacts import opening
from app.packing.artifacts.onnx_file import OnnxFile
from app.packing.artifacts.opening import Artifact
from app.packing.artifacts.parts import Choice
from app.packing.assume import Notes
from app.packing.durations import written
from app.packing.graph import GRAPH, derive_graph
from app.packing.infer import infer, outputs_lost
from app.packing.lean import lean_servable
from app.packing.prove import artifact_cost_us
from app.packing.record import record
from app.packing.sample.expected import Expected, expected_of
from app.packing.seen import as_trained, records_of, told_by
from app.packing.spawn import CheckRequest, Interpreter, PackRequest, Result, ServeRequest, run
from app.packing.trial import MAX_SAMPLE_ROWS, Record, attempt
from app.packing.verdict import Agreement, Verdict
from app.runtime.environment import environment
from app.runtime.loaders import LOADERS
from app.runtime.policy import State
from app.runtime.proving import same
from app.runtime.registry import Registry
from app.runtime.servable import ArtifactServable, Servable, call
from app.signature import Input, Layout, Signature
from app.signature.batch import json_values
from app.signature.schema import Validator
from app.storage import manifest as manifests
from app.storage import recorded
from app.storage.manifest import Example, Manifest
from app.storage.recorded import RECORDED
from app.storage.repository import Repository, is_slug
from app.storage.verification import sha256_of

MAX_EXAMPLES = 5
MAX_EXAMPLE_VALUES = 20_000
"""An array of more values is too large to be shown, and is kept once."""

SERVE_TIMEOUT_S = 600.0
MAX_REMARKED_INPUTS = 20
SUSPECT = 10
"""A pixel may be so many times what the sample has: more looks like a `divisor` that was forgotten."""
_OTHERS = {"reject": "", "warn": " (others accepted with a warning)", "accept": " (others accepted)"}


def pack(request: PackRequest) -> Result:
    """Packs an artifact as a new version of a model; nothing is left behind where it is refused.

    Raises:
        PackingRefused: with the reason, in one sentence.
    """
    if not is_slug(request.name):
        raise PackingRefused(
            f"name {request.name!r} cannot stand in a URL: 1 to 64 letters, digits, '.', '_' or '-', "
            "a letter or digit at both ends"
        )
    stages.enter("reading the artifact")
    artifact = _opened(request)
    _require_steps(artifact, request)
    if isinstance(artifact.estimator, OnnxFile):
        return _pack_graph(request, artifact, artifact.estimator)
    estimator = artifact.estimator
    inspect.require_model(estimator)
    wanted = declared.read(Path(request.inputs)) if request.inputs else ()
    columns = artifact.columns if inspect.names_of(estimator) is None and not inspect.takes_text(estimator) else None
    given, read_notes = _sample_of(request, artifact, expected_of(estimator, wanted, columns))
    frame, told = (None, set()) if given is None else told_by(_sample_file(request, artifact), given.frame)
    if frame is not None and columns is not None:
        frame = sample.fitted_to(frame, columns, None)
    said = declared.Declared(request.out_of_range, request.unseen, wanted, columns or ())
    stages.enter("finding out what the model takes")
    notes = Notes()
    by_column, rows = infer(estimator, frame, said, told, given.target if given else None, notes)
    if frame is not None and by_column.layout is not Layout.RECORDS:
        _require_fidelity(estimator, by_column, said.cast(frame))
    signature, records = said.folded(by_column, rows)
    chosen = (
        [records[i] for i in np.unique(np.linspace(0, len(records) - 1, MAX_EXAMPLES).astype(int))] if records else []
    )
    chosen += notes.telling[:MAX_EXAMPLES]
    repository = Repository(Path(request.models_dir))
    with repository.staging() as folder:
        name = artifact.stored_name
        if artifact.file is None:
            joblib.dump(estimator, folder / name)
        else:
            shutil.copyfile(artifact.file, folder / name)
        stages.enter("looking for the quickest way to call the artifact")
        leanest = lean_servable(estimator, lambda: opening.read(folder / name, artifact.format), signature, records)
        servable = leanest or ArtifactServable(estimator, signature)
        timed = ArtifactServable(estimator, by_column) if said.fills else servable
        stages.enter("recording its answers")
        answered = record(estimator, signature, records)
        if answered is not None:
            recorded.write(folder, answered)
        stages.enter("compiling the graph")
        proof = derive_graph(estimator, timed, by_column, rows, folder, request.graph_limit_bytes, matrix=said.fills)
        manifest = Manifest(
            model=request.name,
            version=0,  # given when it is published
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            task=inspect.task_of(estimator),
            estimator=inspect.describe(estimator),
            format=artifact.format,
            artifact=name,
            files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
            signature=signature,
            examples=_examples(estimator, signature, chosen),
            examples_made_up=frame is None,
            environment=environment(),
            graph=GRAPH if (folder / GRAPH).exists() else None,
            proof=proof,
            artifact_cost_us=artifact_cost_us(servable, signature, records),
            lean=leanest.call if leanest else None,
            before=artifact.steps,
            after=request.after,
            trained_with=request.trained_with,
            trained_with_source=request.trained_with_source,
            recorded=RECORDED if answered else None,
        )
        served = Result(environment=environment(), rows=len(answered.instances) if answered else 0)
        if request.served_by is not None:
            served = _served_elsewhere(request.served_by, folder, manifest)
            manifest = replace(manifest, served_by=served.environment)
        published = repository.publish(folder, manifest, answers=not request.staged)
    lost = outputs_lost(estimator, by_column, rows)
    compared, difference = proof.get("rows"), proof.get("largest_difference")
    verdict = Verdict(
        published.trained_with,
        published.trained_with_source,
        published.environment,
        served.environment,
        published.runtime,
        largest_difference=difference if isinstance(difference, float) else None,
        equal_rows=compared if isinstance(compared, int) else served.rows,
        agreement=_agreement(estimator, by_column, given, frame, said),
    )
    return Result(
        version=published.version,
        remarks=(*_remarks(published, said), *artifact.notes, *read_notes, *notes.assumptions, *lost),
        verdict=verdict,
    )


def _pack_graph(request: PackRequest, artifact: Artifact, file: OnnxFile) -> Result:
    """Packs a graph that came as a file: it is served with the inputs of its signature, and is its own proof."""
    said = declared.Declared(
        request.out_of_range, request.unseen, declared.read(Path(request.inputs)) if request.inputs else ()
    )
    given, told = _sample_of(request, artifact, given_graph.expected_of(file, said))
    frame = given.frame if given else None
    repository = Repository(Path(request.models_dir))
    with repository.staging() as folder:
        graph = given_graph.derive(file, frame, said, folder)
        records = graph.records
        width = sum(spec.width for spec in graph.signature.inputs)
        count = max(1, min(MAX_EXAMPLES, MAX_EXAMPLE_VALUES // width))
        chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, count).astype(int))]
        examples = _answered(graph.servable, graph.signature, chosen)
        shown = [spec.name for spec in graph.signature.inputs if spec.width <= MAX_EXAMPLE_VALUES]
        inputs = tuple(
            replace(spec, example=chosen[0][spec.name]) if spec.name in shown else spec
            for spec in graph.signature.inputs
        )
        manifest = Manifest(
            model=request.name,
            version=0,  # given when it is published
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            task=graph.task,
            estimator=f"ONNX by {file.producer}",
            format="onnx",
            artifact=GRAPH,
            files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
            signature=replace(graph.signature, inputs=inputs),
            examples=examples,
            examples_made_up=frame is None,
            environment=environment(),
            graph=GRAPH,
            proof=graph.proof,
            artifact_cost_us=artifact_cost_us(graph.servable, graph.signature, records),
            before=artifact.steps,
            after=request.after,
        )
        published = repository.publish(folder, manifest, answers=not request.staged)
    remarks = [*_input_remarks(published), f"outputs: {', '.join(published.signature.outputs)}", *graph.remarks]
    remarks += ["its examples are made up; --sample takes rows like those it was trained on"] * (frame is None)
    return Result(version=published.version, remarks=(*remarks, *artifact.notes, *told))


def _require_steps(artifact: Artifact, request: PackRequest) -> None:
    """Refuses a name in `--before` that is neither a part of the artifact nor a step.

    Raises:
        PackingRefused: naming the steps that there are.
    """
    known = request.known_steps if request.known_steps is not None or not artifact.parts else ()
    unknown = [name for name in artifact.steps if known is not None and name not in known]
    if unknown:
        there = f"the parts are: {', '.join(artifact.parts)}; " if artifact.parts else ""
        raise PackingRefused(
            f"--before {unknown[0]}: it is neither a part of the artifact nor a step of RETORT_STEPS; "
            f"{there}the steps are: {', '.join(known or ()) or 'none'}"
        )


def _sample_file(request: PackRequest, artifact: Artifact) -> Path | None:
    """The file that the sample is read from; None where it came with the artifact as a frame."""
    if request.sample is not None:
        return Path(request.sample)
    return artifact.example if isinstance(artifact.example, Path) else None


def _sample_of(
    request: PackRequest, artifact: Artifact, expected: Expected
) -> tuple[sample.Sample | None, tuple[str, ...]]:
    """The sample, or else the example rows that the artifact brings, with notes on it."""
    if request.sample is not None:
        given = sample.read(Path(request.sample), request.target, expected)
        return given, given.notes
    if isinstance(artifact.example, pd.DataFrame):
        return sample.Sample(artifact.example), ("its examples are those of its folder",)
    if artifact.example is None:
        return None, ()
    try:
        given = sample.read(artifact.example, None, expected)
    except PackingRefused as error:
        return None, (f"its own examples are not taken: {error.detail}",)
    return given, (f"its examples are those in {artifact.example.name}", *given.notes)


def _opened(request: PackRequest) -> Artifact:
    """The model of a request, saved with the libraries that read it, or with those that its user names.

    Raises:
        PackingRefused: it cannot be read, or scikit-learn says that it is of another version.
    """
    choice = Choice(request.use, request.before, request.columns, request.labels)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        artifact = opening.opened((request.artifact, *request.beside), choice, request.name, trust=request.trust)
    saved_with = {str(getattr(warning.message, "original_sklearn_version", "")) for warning in told} - {""}
    if saved_with and not request.trained_with:
        version = sorted(saved_with)[0]
        raise PackingRefused(
            f"{request.artifact} was saved with scikit-learn {version}, and {environment()['scikit-learn']} is "
            f"installed: --trained-with scikit-learn=={version} packs it with that one"
        )
    return artifact


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


def _served_elsewhere(python: str, folder: Path, manifest: Manifest) -> Result:
    """What the Python that will serve makes of the staged version.

    Raises:
        PackingRefused: it could not serve it, so that there is no use in publishing it.
    """
    manifests.write(folder, manifest)
    trained = ", ".join(named.replace("==", " ") for named in manifest.trained_with)
    try:
        return run(ServeRequest(str(folder)), SERVE_TIMEOUT_S, interpreter=Interpreter(python))
    except PackingRefused as error:
        why = f" ({manifest.proof['reason']})" if "reason" in manifest.proof else ""
        raise PackingRefused(
            f"it was trained with {trained} (says {manifest.trained_with_source}) and was packed there, but it has no "
            f"graph{why}, and the installed libraries cannot serve it: {error.detail}"
        ) from None


def _agreement(
    estimator: Any,
    signature: Signature,
    given: sample.Sample | None,
    frame: pd.DataFrame | None,
    said: declared.Declared,
) -> Agreement | None:
    """How well the predictions for the sample agree with its target, where it has one."""
    if given is None or frame is None or given.target is None or signature.layout is Layout.RECORDS:
        return None
    names = signature.names if signature.layout is Layout.FRAME else None
    return agreement(estimator, signature, said.cast(sample.fitted_to(frame, names, None)), given.target)


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
    return _answered(ArtifactServable(estimator, signature), signature, records) if records else ()


def _answered(servable: Servable, signature: Signature, records: list[Record]) -> tuple[Example, ...]:
    batch = Validator(signature, MAX_SAMPLE_ROWS).validate(records)
    try:
        outputs = servable.run(batch, signature.defaults)
    except Exception as error:  # whatever a model may raise
        raise PackingRefused(f"the model fails on its own examples ({type(error).__name__}: {error})") from error
    values = {name: json_values(array) for name, array in outputs.items()}
    return tuple(Example(record, {name: values[name][row] for name in values}) for row, record in enumerate(records))


def _remarks(manifest: Manifest, said: declared.Declared) -> list[str]:
    """What whoever packs should know: what was inferred, and what was asked for in vain."""
    signature = manifest.signature
    remarks = _input_remarks(manifest)
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
    remarks.append(graph_remark(manifest.proof))
    if manifest.examples_made_up:
        remarks.append("its examples are made up from what the estimator knows; --sample takes rows it was trained on")
    return remarks


def _input_remarks(manifest: Manifest) -> list[str]:
    """What the model is, and its first inputs."""
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


def graph_remark(proof: dict[str, object]) -> str:
    """What serves a version, and how long it takes."""
    if not proof.get("proven"):
        return f"served as the artifact: {proof.get('reason')}"
    took = {name: written(value) for name, value in proof.items() if name.endswith("_us") and isinstance(value, float)}
    return (
        f"served as a graph, equal to the artifact on {proof['rows']} rows "
        f"(largest relative difference {proof['largest_difference']:.1e}); "
        f"one row takes {took['graph_us']}, with the artifact {took['artifact_us']}; "
        f"1,000 rows take {took['graph_1000_us']}, with the artifact {took['artifact_1000_us']}"
    )
