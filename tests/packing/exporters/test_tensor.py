import numpy as np
import pytest

from app.packing.exporters.graph import Graph
from app.runtime.graph import session_of

ROWS = np.array([[1.0, 5.0], [-3.0, 2.0], [100.0, 0.5]])
SCALES = np.array([2.0, 4.0])


def answer(formula):
    graph = Graph()
    found = formula(graph.input("x", "float64", 2))
    return session_of(graph.model({"y": found}).SerializeToString()).run(None, {"x": ROWS})[0]


@pytest.mark.parametrize(
    "formula",
    [
        lambda x: (x - SCALES) / SCALES,
        lambda x: SCALES - x,
        lambda x: 2.0**x * -1.0,
        lambda x: x @ np.array([[1.0], [0.5]]),
        lambda x: abs(-x) ** 0.5,
        lambda x: (x > 1.0) & (x <= SCALES),
    ],
)
def test_operators_mean_what_they_mean_for_arrays(formula):
    np.testing.assert_array_equal(answer(formula), formula(ROWS))


def test_functions_are_those_of_numpy():
    assert answer(lambda x: x.clip(0.0, 2.0)).tolist() == np.clip(ROWS, 0.0, 2.0).tolist()
    assert answer(lambda x: x.maximum(SCALES)).tolist() == np.maximum(ROWS, SCALES).tolist()
    assert answer(lambda x: abs(x).sqrt()).tolist() == np.sqrt(np.abs(ROWS)).tolist()
    assert answer(lambda x: x.graph.where(x.equal(1.0), 7.0, x)).tolist() == np.where(ROWS == 1.0, 7.0, ROWS).tolist()
    assert answer(lambda x: x.graph.take(x, [1], axis=1)).tolist() == ROWS[:, [1]].tolist()


def test_the_width_is_that_of_the_widest_operand():
    x = Graph().input("x", "float64", 1)
    assert (x * SCALES).width == 2
    assert (x + 1.0).width == 1
    assert (x @ np.ones((1, 3))).width == 3
    assert x.unsqueeze(2).width == 1
    assert (x > 0.0).type == "bool"
