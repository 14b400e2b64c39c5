"""Run the graph of a tree model on batches of thousands of rows. `app.runtime.tree_sums` evaluates the trees."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.runtime.bit_trees import Columns, Ensemble, NotEvaluable
from app.runtime.graph import FEATURES, GraphServable, element_type, session_of
from app.runtime.onnx_messages import Node, OnnxGraph
from app.runtime.servable import Servable
from app.runtime.tree_sums import evaluator_of
from app.signature import Signature
from app.signature.batch import Batch, Coded, CodedOutputs, Outputs

log = logging.getLogger(__name__)

LESS_OR_EQUAL, SUM = 0, 1
COMPARED_ROWS = 2048
SEED = 0
ROWS_OF_A_TEXT = 4
"""Nodes that read texts run once per combination of texts if it occurs in at least this number of rows on average."""
DTYPE_OF_TYPE = {"tensor(double)": "float64", "tensor(float)": "float32", "tensor(int64)": "int64"}
NO_TENSORS: Mapping[str, NDArray[Any]] = {}


class BulkGraph:
    """Servable that runs the nodes before the trees, the trees, and the nodes after them.

    It is safe to call from many threads. `whole` computes outputs that do not come from the trees.
    """

    def __init__(self, model: bytes, whole: Servable, signature: Signature) -> None:
        graph = OnnxGraph(model)
        if not {*graph.inputs} <= {FEATURES, *signature.names}:  # other inputs are counts of terms in texts
            raise NotEvaluable
        node = _trees_of(graph)
        ensemble = _ensemble_of(node)
        dtype = ensemble.split.dtype.name
        [matrix], [trees] = node.inputs, node.outputs
        table, sums = _table_of(graph, trees)
        self._evaluate = evaluator_of(ensemble, table)
        self._signature = signature
        self._whole = whole
        self._sums = sums
        self._after = session_of(graph.model_from(sums, dtype if table is None else table.dtype.name))
        self._output_names = {output.name for output in self._after.get_outputs()}
        self._before: _NodesBeforeTrees | None = None
        if matrix not in graph.inputs or any(spec.shape is not None for spec in signature.inputs):
            self._before = _NodesBeforeTrees(graph, matrix, dtype, signature)

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the requested outputs, equal to those of the whole graph."""
        if not self._output_names.issuperset(outputs):
            return self._whole.run(batch, outputs)
        columns = [*batch.columns.values()] if self._before is None else [*self._before.run(batch).T]
        return self._evaluate_columns(columns, outputs)

    def _evaluate_columns(self, columns: Columns, outputs: Sequence[str]) -> Outputs:
        """Return outputs for the input columns of the trees. Convert equal sums of many rows only once."""
        sums = self._evaluate(columns)
        if not isinstance(sums, Coded):
            return dict(zip(outputs, self._after.run(list(outputs), {self._sums: sums}), strict=True))
        values = self._after.run(list(outputs), {self._sums: sums.values})
        return CodedOutputs(dict(zip(outputs, values, strict=True)), sums.places)

    def equals(self, model: bytes) -> bool:
        """Return whether the graph in `model` has equal outputs for random numbers at and beside the splits."""
        graph = OnnxGraph(model)
        node = _trees_of(graph)
        [matrix] = node.inputs
        splits = node.attributes["nodes_splits"]
        rows = _rows_around(splits, node.attributes["nodes_featureids"])
        names = sorted(self._output_names)
        whole = session_of(graph.model_from(matrix, splits.dtype.name))
        expected = whole.run(names, {matrix: rows})
        return all(map(_are_equal, self._evaluate_columns([*rows.T], names).values(), expected))


def _trees_of(graph: OnnxGraph) -> Node:
    [node] = [node for node in graph.nodes if node.kind == "TreeEnsemble"]
    return node


def _rows_around(splits: NDArray[Any], features: NDArray[np.int64]) -> NDArray[Any]:
    """Return random rows: each number is a split of its column, the next smaller or larger number, or NaN.

    Columns without splits are zero.
    """
    random = np.random.default_rng(SEED)
    rows = np.zeros((COMPARED_ROWS, features.max() + 1), splits.dtype)
    for feature in np.unique(features):
        own_splits = splits[features == feature]
        lower, upper = np.nextafter(own_splits, -np.inf), np.nextafter(own_splits, np.inf)
        around = np.concatenate([own_splits, lower, upper, [np.nan]])
        rows[:, feature] = random.choice(around.astype(splits.dtype), COMPARED_ROWS)
    return rows


def _are_equal(actual: NDArray[Any], expected: NDArray[Any]) -> bool:
    return actual.dtype == expected.dtype and np.array_equal(actual, expected, equal_nan=actual.dtype.kind == "f")


class _NodesBeforeTrees:
    """The nodes before the trees. Nodes that read only texts run once for each distinct combination of texts."""

    def __init__(self, graph: OnnxGraph, matrix: str, dtype: str, signature: Signature) -> None:
        self._whole = _Subgraph(graph, {}, {matrix: dtype}, signature)
        self._texts = [spec.name for spec in signature.inputs if element_type(spec) == "string"]
        tensors = graph.tensors_computed_from(self._texts, matrix)
        self._of_texts: _Subgraph | None = None
        if tensors and {*tensors}.isdisjoint(self._texts):
            of_texts = _Subgraph(graph, {}, dict.fromkeys(tensors, ""), signature)
            if all(dtypes := of_texts.dtypes()):
                self._of_texts = of_texts
                self._others = _Subgraph(graph, dict(zip(tensors, dtypes, strict=True)), {matrix: dtype}, signature)

    def run(self, batch: Batch) -> NDArray[Any]:
        """Return the input matrix of the trees."""
        coded = [batch.coded[name] for name in self._texts if name in batch.coded]
        shape = tuple(len(column.values) for column in coded)
        distinct = math.prod(shape)
        if self._of_texts is None or len(coded) < len(self._texts) or ROWS_OF_A_TEXT * distinct > batch.rows:
            [matrix] = self._whole.run(batch)
            return matrix
        rows = np.unravel_index(np.arange(distinct), shape)
        texts = {name: column.values[at] for name, column, at in zip(self._texts, coded, rows, strict=True)}
        places = np.ravel_multi_index(tuple(column.places for column in coded), shape)
        tensors = [tensor[places] for tensor in self._of_texts.run(Batch(texts, distinct))]
        [matrix] = self._others.run(batch, dict(zip(self._of_texts.outputs, tensors, strict=True)))
        return matrix


class _Subgraph:
    """A part of a graph that computes the tensors named in `outputs`."""

    def __init__(
        self, graph: OnnxGraph, given: Mapping[str, str], outputs: Mapping[str, str], signature: Signature
    ) -> None:
        self._session = session_of(graph.model_between(given, outputs))
        self._graph = GraphServable(self._session, signature)
        self.outputs = [*outputs]

    def run(self, batch: Batch, given: Mapping[str, NDArray[Any]] = NO_TENSORS) -> list[NDArray[Any]]:
        """Return the tensors. Axis 0 is the row."""
        tensors: list[NDArray[Any]] = self._session.run(self.outputs, {**self._graph.feed(batch), **given})
        return tensors

    def dtypes(self) -> list[str]:
        """Return the dtype of each tensor; an empty string for texts and rare types."""
        return [DTYPE_OF_TYPE.get(output.type, "") for output in self._session.get_outputs()]


def bulk_graph(model: bytes, whole: Servable, signature: Signature) -> BulkGraph | None:
    """Return the BulkGraph of a graph with one tree ensemble; None if it is not supported or its outputs differ."""
    try:
        bulk = BulkGraph(model, whole, signature)
        is_equal = bulk.equals(model)
    except (NotEvaluable, ValueError, LookupError, TypeError):
        return None
    if not is_equal:
        log.error("the fast evaluation of a graph's trees has different results, so the graph runs large batches")
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
    """Return the table whose rows the leaf weights index, and the name of the summed tensor.

    Packing writes such a table as Cast, Gather (from the table), CumSum, Gather (the last sum). Without it, return None
    and the output of the trees.
    """
    tensor, table = trees, None
    for at, kind in enumerate(("Cast", "Gather", "CumSum", "Gather")):
        readers = graph.readers(tensor)
        if len(readers) != 1 or readers[0].kind != kind:
            return None, trees
        node = readers[0]
        if at == 1:
            table = graph.constant(node.inputs[0])
            if table is None or table.ndim != 2 or node.inputs[1] != tensor:
                return None, trees
        [tensor] = node.outputs
    return table, tensor
