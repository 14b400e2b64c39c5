"""Derive the graph of a version: compile it, write it, load it as serving would, and prove it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from app.errors import LoadingFailed, one_line
from app.packing.exporters.graph import Features, Graph, NotExportable, Tensor
from app.packing.probe import Record
from app.packing.prove import NotProven, prove
from app.runtime.explanation import COLUMNS
from app.runtime.graph import (
    FEATURES,
    MAX_NAMED_INPUTS,
    MAX_ROWS_AT_ONCE,
    ROWS_AT_ONCE,
    GraphServable,
    element_type,
    session_of,
)
from app.runtime.loaders import LOADERS
from app.runtime.servable import ArtifactServable, Servable
from app.signature import Signature
from app.signature.batch import Batch

GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"
MAX_ONE_FILE_BYTES = 1_900_000_000
"""The weights of larger graphs are written to a file of their own: a protocol buffer has at most 2 GiB."""


def derive_graph(
    estimator: Any,
    served: Servable,
    signature: Signature,
    records: Sequence[Record],
    folder: Path,
    limit_bytes: int,
    *,
    matrix: bool = False,
) -> dict[str, object]:
    """Write a proven graph into the folder, or nothing; return its proof, or the reason why there is no graph.

    Compare the answers of the graph with those of the estimator, and its time with that of `served`, which is served if
    there is no graph. The signature has one input for each column of the estimator; with `matrix`, the graph takes one
    matrix, because arrays or images fill it.
    """
    try:
        graph = _loaded_graph(estimator, signature, folder, limit_bytes, matrix=matrix)
        return prove(estimator, ArtifactServable(estimator, signature), graph, served, signature, records)
    except (NotExportable, NotProven, LoadingFailed) as error:
        return _remove_graph(folder, one_line(error, None))
    except OSError:  # the disk is full: nothing can be packed
        raise
    except Exception as error:  # noqa: BLE001 (an error in an exporter must not stop packing)
        return _remove_graph(folder, f"its graph could not be made ({type(error).__name__}: {one_line(error)})")


def _loaded_graph(estimator: Any, signature: Signature, folder: Path, limit_bytes: int, *, matrix: bool) -> Servable:
    """Compile a graph, write it, and load it as serving would."""
    model = compile_graph(estimator, signature, matrix=matrix)
    size_bytes = model.ByteSize()
    if size_bytes > limit_bytes:
        raise NotExportable(f"its graph of {size_bytes} bytes is larger than RETORT_GRAPH_LIMIT_BYTES={limit_bytes}")
    save(model, folder)
    with (folder / GRAPH).open("rb") as stream:
        return LOADERS["onnx"](stream, signature)


def save(model: onnx.ModelProto, folder: Path) -> None:
    """Write a graph into the folder of a version."""
    is_large = model.ByteSize() > MAX_ONE_FILE_BYTES
    onnx.save_model(model, str(folder / GRAPH), save_as_external_data=is_large, location=WEIGHTS)


def _remove_graph(folder: Path, reason: str) -> dict[str, object]:
    """Remove the files of a graph; return a proof with the reason."""
    for name in (GRAPH, WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    return {"proven": False, "reason": reason}


WITHOUT_GRAPH = ("timestamp", "record")
MOST_ROWS_AT_ONCE = 1024
MAX_CELLS_AT_ONCE = 2**20
"""Rows times constants that a run may have: most graphs compute no more values for a row than they have constants."""


def compile_graph(estimator: Any, signature: Signature, *, matrix: bool = False) -> onnx.ModelProto:
    """Return a graph with the inputs and outputs of a signature.

    With `matrix` it takes all numbers as one matrix. Graphs with many inputs, all of them numbers, always do: feeding
    the inputs one by one would cost more than the model.

    Raises:
        NotExportable: There is no exact graph; the text is the reason.
    """
    graph, features = _graph_of_inputs(signature, matrix=matrix)
    outputs = _outputs(graph, estimator, features)
    missing = [name for name in signature.outputs if name not in outputs and f"{name}_0" not in outputs]
    if missing:
        raise NotExportable(f"its exporter does not give {', '.join(missing)}")
    names = signature.outputs
    model = graph.model({name: t for name, t in outputs.items() if name in names or name.rpartition("_")[0] in names})
    model.metadata_props.add(key=ROWS_AT_ONCE, value=str(_rows_at_once(model)))
    return model


def columns_graph(
    steps: Sequence[Any], signature: Signature
) -> tuple[bytes, list[set[str]], Callable[[Batch], NDArray[np.float64]]]:
    """Compile transformers.

    Returns:
        The graph, whose output is the matrix of their columns; the inputs that each column is computed from; and a
        function that computes the matrix of a batch.

    Raises:
        NotExportable: There is no exact graph.
    """
    graph, features = _graph_of_inputs(signature)
    for step in steps:
        features = graph.transform(step, features)
    sources = [graph.sources(block) for block in features for _ in range(block.width or 0)]
    compiled: bytes = graph.model({COLUMNS: graph.matrix(features)}).SerializeToString()
    servable = GraphServable(session_of(compiled), replace(signature, outputs=(COLUMNS,)))
    all_names = {spec.name for spec in signature.inputs}
    input_names = [all_names if FEATURES in names else names for names in sources]
    return compiled, input_names, lambda batch: servable.run(batch, (COLUMNS,))[COLUMNS]


def _graph_of_inputs(signature: Signature, *, matrix: bool = False) -> tuple[Graph, Features]:
    """Return a graph with the inputs of a signature and without outputs yet, and the columns of its inputs."""
    for spec in signature.inputs:
        if spec.kind in WITHOUT_GRAPH:
            raise NotExportable(f"input {spec.name!r} is of kind {spec.kind}, which a graph cannot take")
    graph = Graph()
    types = [element_type(spec) for spec in signature.inputs]
    if (matrix or len(types) > MAX_NAMED_INPUTS) and "string" not in types:
        features: Features = (graph.input(FEATURES, "float64", len(types)),)
    else:
        features = tuple(graph.input(s.name, t, 1) for s, t in zip(signature.inputs, types, strict=True))
    return graph, features


def _rows_at_once(model: onnx.ModelProto) -> int:
    """Return how many rows the graph should run at once.

    A small graph takes more than usual, because each run costs some microseconds. Trees gain nothing from that.
    """
    if any(operator.startswith("TreeEnsemble") for operator in _operators(model.graph)):
        return MAX_ROWS_AT_ONCE
    constants: int = sum(math.prod(constant.dims) for constant in model.graph.initializer)
    return max(MAX_ROWS_AT_ONCE, min(MOST_ROWS_AT_ONCE, MAX_CELLS_AT_ONCE // max(1, constants)))


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the operators of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            yield from _operators(attribute.g)


def _outputs(graph: Graph, estimator: Any, features: Features) -> dict[str, Tensor]:
    if hasattr(estimator, "predict"):
        return graph.predict(estimator, features)
    return {"prediction": graph.matrix(graph.transform(estimator, features))}
