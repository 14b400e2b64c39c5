import numpy as np

from app.packing.exporters.builder import GraphBuilder
from app.runtime.graph import session_of

ROWS = np.array([[1.0, 5.0], [-3.0, 2.0], [100.0, 0.5]])


def ran(graph, outputs, rows=ROWS):
    return session_of(graph.model(outputs).SerializeToString()).run(None, {"x": rows})


def test_a_node_may_have_several_outputs():
    graph = GraphBuilder()
    x = graph.input("x", "float64", 2)
    count = graph.constant([1], "int64")
    values, places = graph.node_outputs("TopK", [x, count], [("float64", 1), ("int64", 1)], axis=1)
    greatest, place = ran(graph, {"greatest": values, "place": places})
    assert greatest.tolist() == [[5.0], [2.0], [100.0]]
    assert place.tolist() == [[1], [1], [0]]


def test_a_loop_ends_when_its_body_returns_false():
    graph = GraphBuilder()
    x = graph.input("x", "float64", 2)
    half = graph.node(
        "Mul", [graph.constant(0.5), graph.constant(1.0)], "float64", None
    )  # a value from outside the body

    def halve_the_large(state):
        large = graph.node("Greater", [state[0], graph.constant(1.0)], "bool", 2)
        halved = graph.node("Mul", [state[0], half], "float64", 2)
        going = graph.node("ReduceMax", [graph.cast(large, "int64")], "int64", None, keepdims=0)
        return [graph.cast(going, "bool"), graph.node("Where", [large, halved, state[0]], "float64", 2)]

    for limit, expected in ((50, [[1.0, 0.625], [-3.0, 1.0], [0.78125, 0.5]]), (1, [[1, 2.5], [-3, 1], [50, 0.5]])):
        (got,) = ran(graph, {"y": graph.loop(limit, [x], halve_the_large)[0]})
        assert got.tolist() == expected


def test_a_branch_computes_the_side_of_its_condition():
    graph = GraphBuilder()
    x = graph.input("x", "float64", 2)
    least = graph.node("ReduceMin", [x], "float64", None, keepdims=0)
    negative = graph.node("Less", [least, graph.constant(0.0)], "bool", None)
    [y] = graph.branch(negative, lambda: [graph.node("Abs", [x], "float64", 2)], lambda: [x])
    assert ran(graph, {"y": y})[0].tolist() == np.abs(ROWS).tolist()
    assert ran(graph, {"y": y}, ROWS[:1])[0].tolist() == ROWS[:1].tolist()


def test_nodes_that_only_a_body_reads_are_kept_and_unread_nodes_are_not():
    graph = GraphBuilder()
    x = graph.input("x", "float64", 2)
    doubled, unread = (graph.node("Mul", [x, graph.constant(factor)], "float64", 2) for factor in (2.0, 7.0))
    yes = graph.constant(True, "bool")
    [y] = graph.branch(yes, lambda: graph.branch(yes, lambda: [doubled], lambda: [x]), lambda: [x])
    names = {node.name for node in graph.model({"y": y}).graph.node}
    assert doubled.name in names
    assert unread.name not in names
    assert ran(graph, {"y": y})[0].tolist() == (ROWS * 2).tolist()
