"""Pack a graph that came as an `.onnx` file. It is served as it is, with the inputs of its signature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from app.packing import declared, given_graph, reading
from app.packing.artifacts.onnx_file import OnnxFile
from app.packing.artifacts.opening import Artifact
from app.packing.build import MAX_EXAMPLES, examples_of, hashed, now
from app.packing.explain import derive_explanation
from app.packing.given_graph import GivenGraph
from app.packing.graph import GRAPH
from app.packing.probe import Record
from app.packing.remarks import explanation_remark, input_remarks
from app.packing.spawn import PackRequest, Result
from app.packing.timing import artifact_cost_us
from app.runtime.environment import environment
from app.storage.manifest import Assumption, Manifest
from app.storage.repository import Repository

MAX_EXAMPLE_VALUES = 20_000
"""An array of more values is too large to be shown, and is kept once."""


def pack_graph(request: PackRequest, artifact: Artifact, file: OnnxFile) -> Result:
    """Pack an ONNX file as a new version."""
    wanted = declared.read(Path(request.inputs)) if request.inputs else ()
    declaration = declared.Declared(request.out_of_range, request.unseen, wanted)
    given, sample_notes = reading.sample_of(request, artifact, given_graph.expected_of(file, declaration))
    frame = given.frame if given else None
    repository = Repository(Path(request.models_dir))
    with repository.staging() as folder:
        graph = given_graph.derive(file, frame, declaration, folder)
        notes = tuple(Assumption("sample", note) for note in (given.notes if given else ()))
        explanation = derive_explanation(None, graph.servable, graph.signature, graph.records, folder)
        manifest = replace(_manifest(request, artifact, file, graph, folder), explanation=explanation)
        manifest = replace(manifest, examples_made_up=frame is None, assumptions=notes)
        published = repository.publish(folder, manifest, answers=not request.staged)
    remarks = [*input_remarks(published), f"outputs: {', '.join(published.signature.outputs)}", *graph.remarks]
    remarks.append(explanation_remark(published))
    remarks += ["its examples are made up; --sample takes rows like those it was trained on"] * (frame is None)
    return Result(version=published.version, remarks=(*remarks, *artifact.notes, *sample_notes))


def _manifest(request: PackRequest, artifact: Artifact, file: OnnxFile, graph: GivenGraph, folder: Path) -> Manifest:
    signature, chosen = graph.signature, _chosen(graph)
    inputs = tuple(
        replace(spec, example=chosen[0][spec.name]) if spec.width <= MAX_EXAMPLE_VALUES else spec
        for spec in signature.inputs
    )
    return Manifest(
        model=request.name,
        version=0,  # given when it is published
        created=now(),
        task=graph.task,
        estimator=f"ONNX by {file.producer}",
        format="onnx",
        artifact=GRAPH,
        files=hashed(folder),
        signature=replace(signature, inputs=inputs),
        examples=examples_of(graph.servable, signature, chosen),
        examples_made_up=True,
        environment=environment(),
        graph=GRAPH,
        proof=graph.proof,
        artifact_cost_us=artifact_cost_us(graph.servable, signature, graph.records),
        before=artifact.steps,
        after=request.after,
        card=reading.card_of(request.card),
    )


def _chosen(graph: GivenGraph) -> list[Record]:
    """Choose the records that become examples: fewer where they are large."""
    records, width = graph.records, sum(spec.width for spec in graph.signature.inputs)
    count = max(1, min(MAX_EXAMPLES, MAX_EXAMPLE_VALUES // width))
    return [records[i] for i in np.unique(np.linspace(0, len(records) - 1, count).astype(int))]
