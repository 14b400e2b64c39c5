"""Pack an `.onnx` file: give its graph the inputs of a signature, and prove that its answers stay the same.

There is no estimator: inputs and outputs are those of the file, and serving gives the answers of its graph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.errors import LoadingFailed, PackingRefused, one_line
from app.packing import reading
from app.packing.artifacts.onnx_file import Feeds, OnnxFile, adapted, feed_of
from app.packing.artifacts.opening import Artifact
from app.packing.build import MAX_EXAMPLES, examples_of, hashed, now
from app.packing.declared import Declared, read
from app.packing.explain import derive_explanation
from app.packing.given_inputs import MADE_UP_ROWS, expected_of, feeds_of, public_name, records_for, row_shape
from app.packing.graph import GRAPH, save
from app.packing.probe import BATCH_SIZES, Record, small_batches, spread
from app.packing.remarks import explanation_remark, input_remarks
from app.packing.sample import Sample
from app.packing.spawn import PackRequest, Result
from app.packing.timing import artifact_cost_us, timed_us
from app.runtime.environment import environment
from app.runtime.graph import GraphServable, session_of
from app.runtime.loaders import LOADERS
from app.signature import Layout, Signature
from app.signature.validator import Validator
from app.storage.manifest import Assumption, Manifest
from app.storage.repository import Repository

MAX_EXAMPLE_VALUES = 20_000
"""Larger arrays have no example in the signature, and only one in the manifest."""
MAX_COLUMNS_TRIED = 200
PROBABILITY_SUM_TOLERANCE = 1e-3
"""The sum of the probabilities of a row differs from 1 by less than this."""


def pack_graph(request: PackRequest, artifact: Artifact, file: OnnxFile) -> Result:
    """Pack an ONNX file as a new version."""
    inputs = read(Path(request.inputs)) if request.inputs else ()
    declaration = Declared(request.out_of_range, request.unseen, inputs)
    given, sample_notes = reading.sample_of(request, artifact, expected_of(file, declaration))
    frame = given.frame if given else None
    repository = Repository(Path(request.models_dir))
    with repository.staging() as folder:
        graph = _derive(file, frame, declaration, folder)
        manifest = _manifest(request, artifact, file, graph, given, folder)
        published = repository.publish(folder, replace(manifest, files=hashed(folder)), answers=not request.staged)
    remarks = [*input_remarks(published), f"outputs: {', '.join(published.signature.outputs)}", *graph.remarks]
    remarks.append(explanation_remark(published))
    remarks += ["its examples are made up; --sample takes rows like those it was trained on"] * (frame is None)
    return Result(version=published.version, remarks=(*remarks, *artifact.notes, *sample_notes))


def _manifest(
    request: PackRequest, artifact: Artifact, file: OnnxFile, graph: _GivenGraph, given: Sample | None, folder: Path
) -> Manifest:
    signature, width = graph.signature, sum(spec.width for spec in graph.signature.inputs)
    chosen = spread(graph.records, max(1, min(MAX_EXAMPLES, MAX_EXAMPLE_VALUES // width)))
    batch = Validator(signature, 1).validate(graph.records[:1])
    inputs = tuple(
        replace(spec, example=chosen[0][spec.name]) if spec.width <= MAX_EXAMPLE_VALUES else spec
        for spec in signature.inputs
    )
    return Manifest(
        model=request.name,
        version=0,  # given when it is published
        created=now(),
        task="classifier" if "probabilities" in signature.outputs else "model",
        estimator=f"ONNX by {file.producer}",
        format="onnx",
        artifact=GRAPH,
        files={},
        signature=replace(signature, inputs=inputs),
        examples=examples_of(graph.servable, signature, chosen),
        examples_made_up=given is None,
        environment=environment(),
        graph=GRAPH,
        proof={
            "proven": True,
            "rows": graph.rows,
            "largest_difference": 0.0,
            "graph_us": timed_us(partial(graph.servable.run, batch, signature.defaults)),
        },
        explanation=derive_explanation(None, graph.servable, signature, graph.records, folder),
        artifact_cost_us=artifact_cost_us(graph.servable, signature, graph.records),
        before=artifact.steps,
        after=request.after,
        assumptions=tuple(Assumption("sample", note) for note in (given.notes if given else ())),
        card=reading.card_of(request.card),
    )


@dataclass(frozen=True, slots=True)
class _GivenGraph:
    """A proven graph, with the number of rows on which it equals the file."""

    signature: Signature
    records: list[Record]
    rows: int
    servable: GraphServable
    remarks: tuple[str, ...]


def _derive(file: OnnxFile, frame: pd.DataFrame | None, declared: Declared, folder: Path) -> _GivenGraph:
    """Write the graph, with the inputs and outputs of its signature, into the folder of the version, and prove it.

    Refuse it if its inputs are not known well enough, or if it fails on the rows.
    """
    feeds = feeds_of(file, frame, declared)
    records = records_for(feeds, frame)
    original = _Original(file, feeds)
    one_by_one = original.takes_one_row(records)
    answers = original.run(records[: 1 if one_by_one else MADE_UP_ROWS])
    outputs, classes, lost = _outputs(file, answers)
    if not outputs:
        raise PackingRefused(f"none of its outputs has a value for each row; they are: {', '.join(file.outputs)}")
    flat = [name for name, of in outputs.items() if name != "probabilities" and answers[of].shape[1:] == (1,)]
    model = adapted(file, feeds, outputs, original.shapes, flat=flat, one_by_one=one_by_one)
    save(model, folder)
    signature = Signature(
        tuple(spec for _, specs in feeds for spec in specs),
        tuple(outputs),
        tuple(name for name in outputs if name in ("prediction", "probabilities")),
        Layout.MATRIX,
        classes if "probabilities" in outputs else None,
        out_of_range=declared.out_of_range,
    )
    signature = _with_nulls(folder, signature, records[0])
    servable = _load(folder, signature)
    rows = _count_equal_rows(original, servable, signature, records, outputs, one_by_one=one_by_one)
    remarks = (
        f"ONNX model by {file.producer}, served as it is: the same to the last bit on {rows} rows",
        *["it takes one row at once"] * one_by_one,
        *(f"output {name}: {of} of the file" for name, of in outputs.items() if name != of),
        *(f"no output {name}: it has no value for each row" for name in lost),
    )
    return _GivenGraph(signature, records, rows, servable, remarks)


class _Original:
    """The graph as it is in the file. `shapes` are the shapes of one row of its inputs."""

    def __init__(self, file: OnnxFile, feeds: Feeds) -> None:
        self._feeds, self._names = feeds, file.outputs
        self.shapes = {given.name: row_shape(given, specs) for given, specs in feeds}
        try:
            self._session = session_of(file.model.SerializeToString())
        except LoadingFailed as error:
            raise PackingRefused(one_line(error.detail, 400)) from None

    def run(self, records: Sequence[Record]) -> dict[str, NDArray[Any]]:
        """Return the outputs that are tensors, by name; refuse rows on which the graph fails."""
        feed = {}
        for given, specs in self._feeds:
            flat = [np.concatenate([np.ravel(np.array(row[s.name], dtype=object)) for s in specs]) for row in records]
            feed[given.name] = feed_of(given, np.array(flat, dtype=object), self.shapes[given.name])
        try:
            outputs = self._session.run(list(self._names), feed)
        except Exception as error:  # the exceptions of ONNX Runtime have no other common base class
            raise PackingRefused(f"it fails on its rows ({one_line(error, 300)})") from error
        return {name: value for name, value in zip(self._names, outputs, strict=True) if isinstance(value, np.ndarray)}

    def takes_one_row(self, records: Sequence[Record]) -> bool:
        """Return whether the graph takes only one row at once; refuse a graph with another fixed number of rows."""
        rows = {given.rows for given, _ in self._feeds} - {None}
        if rows - {1}:
            raise PackingRefused(
                f"it takes {max(filter(None, rows))} rows at once: export it with a dynamic first axis"
            )
        if rows:
            return True
        self.run(records[:1])
        try:
            several = self.run([records[0]] * 2)
        except PackingRefused:
            return True
        return any(value.shape[:1] != (2,) for value in several.values() if value.shape[:1] != (1,))


def _outputs(
    file: OnnxFile, answers: dict[str, NDArray[Any]]
) -> tuple[dict[str, str], tuple[object, ...] | None, list[str]]:
    """Name the outputs of the file.

    Returns:
        The outputs of the file by their names in the signature; the class labels; the outputs that cannot be served.
    """
    rows = max((len(value) for value in answers.values() if value.ndim), default=0)
    by_row = {name: value for name, value in answers.items() if value.ndim and len(value) == rows}
    lost = [name for name in file.outputs if name not in by_row]
    labels = [n for n, v in by_row.items() if v.dtype.kind in "iuOUS" and v.shape[1:] in ((), (1,))]
    matrices = {n: v for n, v in by_row.items() if v.dtype.kind == "f" and v.ndim == 2 and v.shape[1] > 1}
    scores = [
        n for n, v in matrices.items() if (abs(v.sum(axis=1) - 1) < PROBABILITY_SUM_TOLERANCE).all() and (v >= 0).all()
    ]
    if len(labels) == 1 and len(scores) == 1:
        (label,), (score,) = labels, scores
        width = by_row[score].shape[1]
        classes = file.classes if file.classes is not None and len(file.classes) == width else None
        if classes is None and by_row[label].dtype.kind in "iu":
            classes = tuple(range(width))
        if classes is not None:
            others = [name for name in by_row if name not in (label, score)]
            return {"prediction": label, "probabilities": score} | _further_outputs(others), classes, lost
    names = list(by_row)
    return ({"prediction": names[0]} | _further_outputs(names[1:]) if names else {}), None, lost


def _further_outputs(names: Sequence[str]) -> dict[str, str]:
    """Name further outputs as in the file; change names that are taken or not valid in an answer."""
    outputs: dict[str, str] = {}
    for name in names:
        public = re.sub(r"\W+", "_", public_name(name)).strip("_") or "output"
        while public in (*outputs, "prediction", "probabilities", "model", "version", "classes"):
            public += "_"
        outputs[public] = name
    return outputs


def _with_nulls(folder: Path, signature: Signature, record: Record) -> Signature:
    """Mark the numbers that may be missing: the graph still gives finite numbers if they are NaN."""
    floats = [s.name for s in signature.inputs if s.kind == "number"]
    if not floats or len(floats) > MAX_COLUMNS_TRIED:
        return signature
    nullable = replace(signature, inputs=tuple(replace(s, nullable=s.name in floats) for s in signature.inputs))
    servable, validator = _load(folder, nullable), Validator(nullable, 1)

    def answers(name: str) -> bool:
        try:
            outputs = servable.run(validator.validate([record | {name: None}]), signature.outputs)
        except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
            return False
        return all(value.dtype.kind != "f" or bool(np.isfinite(value).all()) for value in outputs.values())

    nullable_names = {name for name in floats if answers(name)}
    return replace(signature, inputs=tuple(replace(s, nullable=s.name in nullable_names) for s in signature.inputs))


def _load(folder: Path, signature: Signature) -> GraphServable:
    try:
        with (folder / GRAPH).open("rb") as stream:
            servable = LOADERS["onnx"](stream, signature)
    except LoadingFailed as error:
        raise PackingRefused(one_line(error.detail, 400)) from None
    if not isinstance(servable, GraphServable):
        raise AssertionError("the loader of graphs gives graphs")
    return servable


def _count_equal_rows(
    original: _Original,
    servable: GraphServable,
    signature: Signature,
    records: Sequence[Record],
    outputs: dict[str, str],
    *,
    one_by_one: bool,
) -> int:
    """Compare the adapted graph with the graph of the file; return the number of equal rows, or refuse a difference."""
    rows = 0
    validator = Validator(signature, 10**6)
    for batch in small_batches(records, (1,) if one_by_one else BATCH_SIZES):
        if any(None in record.values() for record in batch):
            continue
        expected = original.run(batch)
        actual = servable.run(validator.validate(batch), signature.outputs)
        for name, of in outputs.items():
            equal_nan = expected[of].dtype.kind == "f"
            if not np.array_equal(np.ravel(expected[of]), np.ravel(actual[name]), equal_nan=equal_nan):
                raise PackingRefused(f"with the inputs of its signature it gives another {name}")
        rows += len(batch)
    return rows
