"""Graphs as servables."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from app.errors import LoadingFailed
from app.runtime.graph import FEATURES, MAX_ROWS_AT_ONCE, MISSING_TEXT, GraphServable, element_type, session_of
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch

NUMBER = Input("x", "number", "float64")
WORD = Input("w", "text", "str", nullable=True)


def servable(inputs: tuple[Input, ...], graph_inputs: dict[str, int], *nodes: object, **outputs: int) -> GraphServable:
    """Return a servable of a graph of these nodes. Each input is (rows, 1), each output of the given element type."""
    made = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, type_, ["rows", None]) for name, type_ in graph_inputs.items()],
        [helper.make_tensor_value_info(name, type_, None) for name, type_ in outputs.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    names = tuple(dict.fromkeys(name.removesuffix("_0").removesuffix("_1") for name in outputs))
    return GraphServable(session_of(model.SerializeToString()), Signature(inputs, names, names, Layout.FRAME))


@pytest.mark.parametrize(
    ("spec", "type_"),
    [
        (NUMBER, "float64"),
        (WORD, "string"),
        (Input("x", "integer", "int64"), "int64"),
        (Input("x", "integer", "int64", nullable=True), "float64"),
        (Input("x", "boolean", "bool"), "int64"),
        (Input("x", "category", "str", categories=("a",)), "string"),
        (Input("x", "category", "int64", categories=(1, 2)), "int64"),
        (Input("x", "unused", "float64", nullable=True), "float64"),
    ],
)
def test_each_kind_has_an_element_type(spec: Input, type_: str) -> None:
    assert element_type(spec) == type_


def test_a_missing_string_becomes_a_marker() -> None:
    graph = servable(
        (WORD,), {"w": TensorProto.STRING}, helper.make_node("Identity", ["w"], ["y"]), y=TensorProto.STRING
    )
    words = np.array(["a", None, np.nan], dtype=object)
    assert graph.run(Batch({"w": words}, 3), ["y"])["y"].tolist() == [["a"], [MISSING_TEXT], [MISSING_TEXT]]


def test_more_rows_than_run_at_once_are_all_answered_in_order() -> None:
    graph = servable(
        (NUMBER,), {"x": TensorProto.DOUBLE}, helper.make_node("Add", ["x", "x"], ["y"]), y=TensorProto.DOUBLE
    )
    rows = 2 * MAX_ROWS_AT_ONCE + 1
    values = np.arange(rows, dtype=np.float64)
    assert (graph.run(Batch({"x": values}, rows), ["y"])["y"][:, 0] == 2 * values).all()


def test_many_numbers_are_one_matrix() -> None:
    graph = servable(
        (NUMBER,), {FEATURES: TensorProto.DOUBLE}, helper.make_node("Neg", [FEATURES], ["y"]), y=TensorProto.DOUBLE
    )
    assert graph.run(Batch.of_matrix(np.array([[1.0, 2.0]]), ("x", "z")), ["y"])["y"].tolist() == [[-1.0, -2.0]]


def test_the_probabilities_of_several_targets_are_lists_by_row() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["p_0"]), helper.make_node("Neg", ["x"], ["p_1"])]
    graph = servable((NUMBER,), {"x": TensorProto.DOUBLE}, *nodes, p_0=TensorProto.DOUBLE, p_1=TensorProto.DOUBLE)
    assert graph.run(Batch({"x": np.array([1.0, 2.0])}, 2), ["p"])["p"].tolist() == [[[1.0], [-1.0]], [[2.0], [-2.0]]]


def test_a_file_that_is_no_graph_is_refused_with_a_reason() -> None:
    with pytest.raises(LoadingFailed, match="ONNX Runtime does not take the graph"):
        session_of(b"not a graph")
