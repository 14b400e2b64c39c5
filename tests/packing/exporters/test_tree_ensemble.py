import numpy as np
import pytest

from app.packing.exporters import tree_ensemble
from app.packing.exporters.graph import Graph
from app.packing.exporters.tree_ensemble import (
    GOES_LEFT,
    GOES_RIGHT,
    LEAF,
    CategoricalSplits,
    Tree,
    before_rounding,
    in_bitset,
)
from app.runtime.graph import session_of

RNG = np.random.default_rng(0)
SIZES = (1, 2, 31, 50, 51, 128, 129, 1000)


def run(write, matrix, type_="float64"):
    graph = Graph()
    output = write(graph, graph.input("x", type_, matrix.shape[1]))
    session = session_of(graph.model({"y": output}).SerializeToString())
    return lambda rows: session.run(None, {"x": rows.astype(type_)})[0]


def stump(column, threshold, values, missing_left=False):
    return Tree(
        np.array([1, LEAF, LEAF]),
        np.array([2, LEAF, LEAF]),
        np.array([column, 0, 0]),
        np.array([threshold, 0.0, 0.0]),
        np.array([missing_left, False, False]),
        np.array([np.zeros_like(values[0]), *values]),
    )


def test_a_threshold_before_rounding_splits_like_the_rounded_number():
    limits = RNG.normal(size=5000) * 10.0 ** RNG.integers(-45, 38, 5000)
    whole = limits.astype(np.float32).astype(float)
    edges = np.array([0.0, -0.0, 3.4028234663852886e38, -3.4028234663852886e38, np.inf, -np.inf, 1e-46, -1e-46])
    limits = np.concatenate([limits, whole, np.nextafter(whole, np.inf), np.nextafter(whole, -np.inf), edges])
    found = before_rounding(limits)
    with np.errstate(over="ignore"):
        for values in (found, np.nextafter(found, np.inf), np.nextafter(found, -np.inf), limits):
            np.testing.assert_array_equal(values <= found, values.astype(np.float32) <= limits)


@pytest.mark.parametrize("type_", ["float64", "float32"])
@pytest.mark.parametrize("count", [1, 10, 79, 80, 81, 300])
@pytest.mark.parametrize("targets", [1, 3])
def test_sums_are_rounded_in_the_order_of_the_trees(count, targets, type_):
    rows = RNG.normal(size=(1000, 4))
    values = (RNG.normal(size=(count, 2)) * 10.0 ** RNG.integers(-8, 8, (count, 2))).astype(type_).astype(float)
    trees = [stump(number % 4, RNG.normal(), pair) for number, pair in enumerate(values)]
    of_tree = [number % targets for number in range(count)]
    start = np.arange(targets) / 7
    answer = run(lambda g, x: tree_ensemble.summed(g, x, trees, of_tree, start), rows, type_)
    expected = np.tile(start.astype(type_), (1000, 1))
    for number, tree in enumerate(trees):
        left = rows[:, number % 4].astype(type_) <= np.asarray(tree.threshold[0]).astype(type_)
        expected[:, of_tree[number]] += np.where(left, *values[number]).astype(type_)
    for size in SIZES:
        np.testing.assert_array_equal(answer(rows[:size]), expected[:size])


@pytest.mark.parametrize("count", [1, 2, 100, 300])
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("pure", [False, True])
def test_sums_of_rows_are_rounded_in_the_order_of_the_trees(count, width, pure):
    rows = RNG.normal(size=(1000, 4))
    values = RNG.normal(size=(count, 2, width)) * 10.0 ** RNG.integers(-8, 8, (count, 2, width))
    if pure:
        values *= np.eye(width)[RNG.integers(width, size=(count, 2))]
    trees = [stump(number % 4, 0.0, pair) for number, pair in enumerate(values)]
    answer = run(lambda g, x: tree_ensemble.summed_rows(g, x, trees), rows)
    expected = np.zeros((1000, width))
    for number, (left, right) in enumerate(values):
        expected += np.where(rows[:, [number % 4]] <= 0.0, left, right)
    for size in SIZES:
        np.testing.assert_array_equal(answer(rows[:size]), expected[:size])


def test_trees_of_one_leaf_and_children_with_one_number_are_evaluated():
    left_leaf = Tree(
        np.array([1, LEAF, 3, LEAF, LEAF]),
        np.array([2, LEAF, 4, LEAF, LEAF]),
        np.array([0, 0, 1, 0, 0]),
        np.array([0.0, 0.0, 0.0, 0.0, 0.0]),
        np.zeros(5, dtype=bool),
        np.array([0.0, 1.0, 0.0, 2.0, 3.0]),
    )
    rows = np.array([[-1.0, 0.0], [1.0, -1.0], [1.0, 1.0], [np.nan, np.nan]])
    for trees in (
        [left_leaf],
        [left_leaf] * 3,
        [tree_ensemble.constant_tree(0.5), left_leaf, tree_ensemble.constant_tree(1.5)],
    ):
        answer = run(lambda g, x, trees=trees: tree_ensemble.tree_values(g, x, trees), rows)
        columns = {5: [1.0, 2.0, 3.0, 3.0]}
        expected = [columns.get(len(tree.left), [tree.values[0]] * 4) for tree in trees]
        np.testing.assert_array_equal(answer(rows), np.transpose(expected))


def test_missing_values_go_to_the_side_of_the_tree():
    trees = [stump(0, 0.0, (1.0, 2.0), missing_left) for missing_left in (True, False)]
    rows = np.array([[np.nan], [-1.0], [1.0]])
    answer = run(lambda g, x: tree_ensemble.tree_values(g, x, trees), rows)
    np.testing.assert_array_equal(answer(rows), [[1.0, 2.0], [1.0, 1.0], [2.0, 2.0]])


def test_categories_go_to_their_sides():
    splits = CategoricalSplits(3, {0: 3, 2: 40})
    first = splits.add(0, np.array([GOES_LEFT, GOES_RIGHT, GOES_LEFT, np.nan]))
    other = splits.add(2, np.append(np.where(in_bitset([2, 1 << 7], 40), GOES_LEFT, GOES_RIGHT), GOES_RIGHT))
    assert splits.add(0, np.array([GOES_LEFT, GOES_RIGHT, GOES_LEFT, np.nan])) == first
    rows = np.array([[0.0, 9, 1], [1, 9, 39], [2, 9, 38], [3, 9, 40], [-1, 9, -1], [np.nan, 9, np.nan], [2.7, 9, 1e12]])
    extended = run(splits.append_columns, rows)(rows)
    np.testing.assert_array_equal(extended[:, :3], rows)
    np.testing.assert_array_equal(extended[:, splits.column_of(first)], [0, 1, 0, np.nan, np.nan, np.nan, 0])
    np.testing.assert_array_equal(extended[:, splits.column_of(other)], [0, 0, 1, 1, 1, 1, 1])
