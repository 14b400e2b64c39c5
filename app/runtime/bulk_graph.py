"""The graph of a model of trees, for batches of thousands of rows: `app.runtime.bit_trees` evaluates the trees."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.runtime.bit_trees import Ensemble, NotEvaluable, evaluator_of
from app.runtime.graph import GraphServable, session_of
from app.runtime.onnx_messages import Node, OnnxGraph
from app.runtime.servable import Servable
from app.signature import Signature
from app.signature.batch import Batch, Outputs

log = logging.getLogger(__name__)

LESS_OR_EQUAL, SUM = 0, 1
COMPARED_ROWS = 2048
SEED = 0


class BulkGraph:
    """Runs the nodes before the trees, the trees, and the nodes after them. Safe to call from many threads.

    `whole` runs outputs that come from other nodes.
    """

    def __init__(self, model: bytes, whole: Servable, signature: Signature) -> None:
        graph = OnnxGraph(model)
        node = _trees_of(graph)
        ensemble = _ensemble_of(node)
        dtype = ensemble.split.dtype.name
        [matrix], [trees] = node.inputs, node.outputs
        table, sums = _table_of(graph, trees)
        self._evaluate = evaluator_of(ensemble, table)
        self._signature = signature
        self._whole = whole
        self._sums = sums
        self._after = session_of(graph.since(sums, dtype if table is None else table.dtype.name))
        self._names = {output.name for output in self._after.get_outputs()}
        self._before: _Before | None = None
        if matrix not in graph.inputs or any(spec.shape is not None for spec in signature.inputs):
            self._before = _Before(session_of(graph.until(matrix, dtype)), matrix, signature)

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the requested outputs, equal to those of the graph."""
        if not self._names.issuperset(outputs):
            return self._whole.run(batch, outputs)
        columns = [*batch.columns.values()] if self._before is None else [*self._before.run(batch).T]
        values = self._after.run(list(outputs), {self._sums: self._evaluate(columns)})
        return dict(zip(outputs, values, strict=True))

    def equals(self, model: bytes) -> bool:
        """Return whether the graph of these bytes gives the same for rows of numbers on both sides of each split."""
        graph = OnnxGraph(model)
        node = _trees_of(graph)
        [matrix] = node.inputs
        splits = node.attributes["nodes_splits"]
        rows = _around(splits, node.attributes["nodes_featureids"])
        names = sorted(self._names)
        whole = session_of(graph.since(matrix, splits.dtype.name))
        wanted = whole.run(names, {matrix: rows})
        found = self._after.run(names, {self._sums: self._evaluate([*rows.T])})
        return all(map(_same, found, wanted))


def _trees_of(graph: OnnxGraph) -> Node:
    [node] = [node for node in graph.nodes if node.kind == "TreeEnsemble"]
    return node


def _around(splits: NDArray[Any], features: NDArray[np.int64]) -> NDArray[Any]:
    """Return a matrix of numbers that are a split of their column, one of its neighbors, zero or NaN."""
    random = np.random.default_rng(SEED)
    rows = np.zeros((COMPARED_ROWS, features.max() + 1), splits.dtype)
    for feature in np.unique(features):
        own = splits[features == feature]
        around = np.concatenate([own, np.nextafter(own, -np.inf), np.nextafter(own, np.inf), [np.nan]])
        rows[:, feature] = random.choice(around.astype(splits.dtype), COMPARED_ROWS)
    return rows


def _same(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    return found.dtype == wanted.dtype and np.array_equal(found, wanted, equal_nan=found.dtype.kind == "f")


class _Before:
    """The nodes before the trees."""

    def __init__(self, session: ort.InferenceSession, matrix: str, signature: Signature) -> None:
        self._graph = GraphServable(session, signature)
        self._session = session
        self._matrix = matrix

    def run(self, batch: Batch) -> NDArray[Any]:
        """Return the matrix that the trees take."""
        found: NDArray[Any] = self._session.run([self._matrix], self._graph.feed(batch))[0]
        return found


def bulk_graph(model: bytes, whole: Servable, signature: Signature) -> BulkGraph | None:
    """Return the servable of a graph with one ensemble of trees, if it gives the same; None for any other graph."""
    try:
        bulk = BulkGraph(model, whole, signature)
        is_equal = bulk.equals(model)
    except (NotEvaluable, ValueError, LookupError, TypeError):
        return None
    if not is_equal:
        log.error("the trees of a graph give other numbers bit by bit, so large batches are run by the graph")
    return bulk if is_equal else None


def _ensemble_of(node: Node) -> Ensemble:
    attributes = node.attributes
    splits = attributes["nodes_splits"]
    if (attributes["nodes_modes"] != LESS_OR_EQUAL).any() or attributes["aggregate_function"] != SUM:
        raise NotEvaluable
    missing = attributes.get("nodes_missing_value_tracks_true")
    return Ensemble(
        attributes["nodes_featureids"],
        splits,
        attributes["nodes_truenodeids"],
        attributes["nodes_falsenodeids"],
        attributes["nodes_trueleafs"].astype(np.bool_),
        attributes["nodes_falseleafs"].astype(np.bool_),
        np.zeros(len(splits), np.bool_) if missing is None else missing.astype(np.bool_),
        attributes["leaf_weights"],
        attributes["leaf_targetids"],
        attributes["tree_roots"],
        int(attributes["n_targets"]),
    )


def _table_of(graph: OnnxGraph, trees: str) -> tuple[NDArray[Any] | None, str]:
    """Return the table whose rows the trees name, and the tensor of their sum; or None, and the trees' own output.

    Packing writes this as Cast, Gather (from the table), CumSum, Gather (the last sum).
    """
    names, table = trees, None
    for at, kind in enumerate(("Cast", "Gather", "CumSum", "Gather")):
        readers = graph.readers(names)
        if len(readers) != 1 or readers[0].kind != kind:
            return None, trees
        node = readers[0]
        if at == 1:
            table = graph.constant(node.inputs[0])
            if table is None or table.ndim != 2 or node.inputs[1] != names:
                return None, trees
        [names] = node.outputs
    return table, names
