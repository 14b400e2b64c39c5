"""Decision trees, forests and isolation forests, by the operator TreeEnsemble of ai.onnx.ml 5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import tree_ensemble
from app.packing.exporters.graph import Features, Graph, Outputs, Tensor, predictor, transformer
from app.packing.exporters.tree_ensemble import Tree
from app.packing.releases import class_shares, missing_goes_left


def fitted_tree(est: Any, values: NDArray[Any], columns: Sequence[int] | None = None) -> Tree:
    """Return the `tree_` of an estimator as a tree with these values by node, (nodes,) or (nodes, targets).

    `columns` are the positions of its columns in the matrix, by default all in order. `Tree.apply` compares the float32
    of a column with a float64 threshold.
    """
    tree = est.tree_
    column = tree.feature if columns is None else np.asarray(columns)[tree.feature]
    threshold = tree_ensemble.before_rounding(tree.threshold)
    return Tree(tree.children_left, tree.children_right, column, threshold, missing_goes_left(tree), values)


def probabilities_by_node(est: Any) -> NDArray[np.float64]:
    """Return `predict_proba` of a tree at each of its nodes, with the classes of all targets side by side."""
    counts = np.atleast_1d(est.n_classes_)
    values = est.tree_.value
    return np.concatenate([class_shares(values[:, target, :count]) for target, count in enumerate(counts)], axis=1)


def mean(g: Graph, total: Tensor, count: int) -> Tensor:
    """Divide a sum by the number of its terms."""
    return total if count == 1 else total / float(count)


@predictor("DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier", "RandomForestClassifier")
def tree_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """Trees and forests: `argmax` of the mean of the trees' probabilities, by target where there are several."""
    trees = [fitted_tree(member, probabilities_by_node(member)) for member in _members(est)]
    shares = mean(g, tree_ensemble.summed_rows(g, g.matrix(features), trees), len(trees))
    if est.n_outputs_ == 1:
        return {"prediction": g.labels(est.classes_, g.argmax(shares)), "probabilities": shares}
    ends = np.cumsum(est.n_classes_).tolist()
    starts = [0, *ends[:-1]]
    parts = [g.select((shares,), range(start, end))[0] for start, end in zip(starts, ends, strict=True)]
    labels = [g.labels(classes, g.argmax(part)) for classes, part in zip(est.classes_, parts, strict=True)]
    outputs = {f"probabilities_{target}": part for target, part in enumerate(parts)}
    return {"prediction": g.concat([g.column(label) for label in labels])} | outputs


@predictor("DecisionTreeRegressor", "ExtraTreeRegressor", "ExtraTreesRegressor", "RandomForestRegressor")
def tree_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """Trees and forests: the mean of the trees' predictions, (rows,) or (rows, targets)."""
    trees = [fitted_tree(member, member.tree_.value[:, :, 0]) for member in _members(est)]
    values = mean(g, tree_ensemble.summed_rows(g, g.matrix(features), trees), len(trees))
    return {"prediction": g.pick(values, 0) if est.n_outputs_ == 1 else values}


@predictor("IsolationForest")
def isolation_forest(g: Graph, est: Any, features: Features) -> Outputs:
    """`IsolationForest.decision_function`: 2 to the power of the mean depth, negative and shifted by the offset."""
    all_columns = est._max_features == est.n_features_in_
    trees = [
        fitted_tree(member, _path_lengths(member.tree_), None if all_columns else columns)
        for member, columns in zip(est.estimators_, est.estimators_features_, strict=True)
    ]
    depths = g.pick(tree_ensemble.summed(g, g.matrix(features), trees), 0)
    unit = len(trees) * _average_path_length(est.max_samples_)
    # A unit of 0 means that it was trained on one row: each power is a half.
    exponent = depths * 0.0 - 1.0 if unit == 0 else depths / -unit
    scores = -est.offset_ - 2.0**exponent
    labels = g.labels(np.array([-1, 1]), g.cast(depths >= _least_inlying_depth(unit, est.offset_), "int64"))
    return {"prediction": labels, "decision_scores": scores}


@transformer("RandomTreesEmbedding")
def random_trees_embedding(g: Graph, est: Any, features: Features) -> Features:
    """`RandomTreesEmbedding.transform`: a column for each leaf of each tree, 1 for the leaf of a row."""
    members = est.estimators_
    trees = [fitted_tree(member, np.arange(member.tree_.node_count, dtype=float)) for member in members]
    ends = tree_ensemble.each(g, g.matrix(features), trees)
    leaves = est.one_hot_encoder_.categories_
    of_tree = np.repeat(np.arange(len(leaves)), [len(nodes) for nodes in leaves])
    return (g.cast(g.take(ends, of_tree, axis=1).equal(np.concatenate(leaves)), "float64"),)


def _members(est: Any) -> list[Any]:
    return list(est.estimators_) if hasattr(est, "estimators_") else [est]


def _path_lengths(tree: Any) -> NDArray[np.float64]:
    """Return the depth of each node plus the average number of splits that its samples would still need."""
    depths = np.zeros(tree.node_count)
    inner = np.flatnonzero(tree.children_left != tree_ensemble.LEAF)
    for node in inner.tolist():  # a node comes after its parent
        depths[[tree.children_left[node], tree.children_right[node]]] = depths[node] + 1.0
    depths += [_average_path_length(samples) for samples in tree.n_node_samples.tolist()]
    return depths


def _average_path_length(samples: int) -> float:
    """`_average_path_length` of `sklearn.ensemble._iforest`: the average depth of a tree of this many samples."""
    if samples <= 2:
        return 0.0 if samples <= 1 else 1.0
    return float(2.0 * (np.log(samples - 1.0) + np.euler_gamma) - 2.0 * (samples - 1.0) / samples)


def _least_inlying_depth(unit: float, offset: float) -> float:
    """Return the least total depth at which the decision function is not negative, computed with NumPy's power.

    A training row may lie exactly at the offset, where a power that differs in the last bit would change its label.
    """

    def is_inlier(depth: float) -> bool:
        exponents = -np.divide([depth], [unit], out=np.ones(1), where=[unit != 0])
        return bool(-(2**exponents)[0] - offset >= 0)

    low, high = -1.0, 1.0
    while not is_inlier(high) and high < 1e300:
        low, high = high, high * 2
    if not is_inlier(high):
        return np.inf
    if is_inlier(low):
        return -np.inf
    while (middle := low + (high - low) / 2) not in (low, high):
        low, high = (low, middle) if is_inlier(middle) else (middle, high)
    return high
