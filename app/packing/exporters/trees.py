"""Decision trees and their ensembles: forests, isolation forests, bagging and AdaBoost.

Decision trees as members of bagging or AdaBoost become one tree ensemble, because the contribution of each leaf is
known. Other members are exported one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import tree_ensemble
from app.packing.exporters.formulas import mean, most_probable, reduced, softmax, total
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor, transformer
from app.packing.exporters.tree_ensemble import Tree
from app.packing.releases import class_probabilities, missing_goes_left, other_vote, votes_by_probabilities


def fitted_tree(est: Any, values: NDArray[Any], columns: Sequence[int] | None = None) -> Tree:
    """Convert the `tree_` of an estimator to a tree with these values by node, (nodes,) or (nodes, targets).

    `columns` are the positions of its columns in the matrix, by default all in order. `Tree.apply` compares the float32
    of a column with a float64 threshold.
    """
    tree = est.tree_
    column = tree.feature if columns is None else np.asarray(columns)[tree.feature]
    threshold = tree_ensemble.before_rounding(tree.threshold)
    return Tree(tree.children_left, tree.children_right, column, threshold, missing_goes_left(tree), values)


def probabilities_by_node(est: Any) -> NDArray[np.float64]:
    """Return `predict_proba` of a tree at each of its nodes, with the classes of all targets side by side."""
    counts, values = np.atleast_1d(est.n_classes_), est.tree_.value
    parts = [class_probabilities(values[:, target, :count]) for target, count in enumerate(counts)]
    return np.concatenate(parts, axis=1)


@predictor("DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier", "RandomForestClassifier")
def tree_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """Trees and forests: the mean of the trees' probabilities, for each target."""
    trees = [fitted_tree(member, probabilities_by_node(member)) for member in members_of(est)]
    probabilities = mean(g, tree_ensemble.summed_rows(g, g.matrix(features), trees), len(trees))
    if est.n_outputs_ == 1:
        return most_probable(g, est.classes_, probabilities)
    ends = np.cumsum(est.n_classes_).tolist()
    starts = [0, *ends[:-1]]
    parts = [g.select((probabilities,), range(start, end))[0] for start, end in zip(starts, ends, strict=True)]
    labels = [g.labels(classes, g.argmax(part)) for classes, part in zip(est.classes_, parts, strict=True)]
    outputs = {f"probabilities_{target}": part for target, part in enumerate(parts)}
    return {"prediction": g.concat([label.unsqueeze(1) for label in labels])} | outputs


@predictor("DecisionTreeRegressor", "ExtraTreeRegressor", "ExtraTreesRegressor", "RandomForestRegressor")
def tree_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """Trees and forests: the mean of the trees' predictions, (rows,) or (rows, targets)."""
    trees = [fitted_tree(member, member.tree_.value[:, :, 0]) for member in members_of(est)]
    values = mean(g, tree_ensemble.summed_rows(g, g.matrix(features), trees), len(trees))
    return {"prediction": g.pick(values, 0) if est.n_outputs_ == 1 else values}


@predictor("IsolationForest")
def isolation_forest(g: Graph, est: Any, features: Features) -> Outputs:
    """`IsolationForest.decision_function`: `-offset_ - 2 ** (-depth)`, with the mean depth relative to the average."""
    all_columns = est._max_features == est.n_features_in_
    trees = [
        fitted_tree(member, _path_lengths(member.tree_), None if all_columns else columns)
        for member, columns in zip(est.estimators_, est.estimators_features_, strict=True)
    ]
    depths = g.pick(tree_ensemble.summed(g, g.matrix(features), trees), 0)
    unit = len(trees) * _average_path_length(est.max_samples_)
    # A unit of 0 means that there was one training row: scikit-learn takes 1/2 for each power.
    exponent = depths * 0.0 - 1.0 if unit == 0 else depths / -unit
    scores = -est.offset_ - 2.0**exponent
    labels = g.labels(np.array([-1, 1]), g.cast(depths >= _least_inlier_depth(unit, est.offset_), "int64"))
    return {"prediction": labels, "decision_scores": scores}


@transformer("RandomTreesEmbedding")
def random_trees_embedding(g: Graph, est: Any, features: Features) -> Features:
    """`RandomTreesEmbedding.transform`: a column for each leaf of each tree, 1 if the row ends in the leaf."""
    members = est.estimators_
    trees = [fitted_tree(member, np.arange(member.tree_.node_count, dtype=float)) for member in members]
    ends = tree_ensemble.tree_values(g, g.matrix(features), trees)
    leaves = est.one_hot_encoder_.categories_
    of_tree = np.repeat(np.arange(len(leaves)), [len(nodes) for nodes in leaves])
    return (g.cast(g.take(ends, of_tree, axis=1).equal(np.concatenate(leaves)), "float64"),)


def members_of(est: Any) -> list[Any]:
    """Return the trees of a forest, or the tree itself."""
    return list(est.estimators_) if hasattr(est, "estimators_") else [est]


def _path_lengths(tree: Any) -> NDArray[np.float64]:
    """Return the depth of each node plus the average depth of a tree of its samples."""
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


def _least_inlier_depth(unit: float, offset: float) -> float:
    """Return the least total depth at which the decision function is not negative, computed with NumPy's power.

    A training row may score exactly the offset; then a power that differs in the last bit would change its label.
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


TREE_CLASSIFIERS = ("DecisionTreeClassifier", "ExtraTreeClassifier")
TREE_REGRESSORS = ("DecisionTreeRegressor", "ExtraTreeRegressor")

EPSILON = float(np.finfo(np.float64).eps)
"""`AdaBoostClassifier` clips probabilities to at least this before it takes logarithms."""


@predictor("BaggingClassifier")
def bagging_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`BaggingClassifier`: the mean of the members' probabilities, or of their votes if they have none."""
    pairs = list(zip(est.estimators_, est.estimators_features_, strict=True))
    classes = len(est.classes_)
    if _all_are(est, TREE_CLASSIFIERS):
        by_node = [probabilities_by_node(member) @ _class_matrix(member, classes) for member, _ in pairs]
        members = [fitted_tree(m, values, columns) for values, (m, columns) in zip(by_node, pairs, strict=True)]
        summed = tree_ensemble.summed_rows(g, g.matrix(features), members)
        return most_probable(g, est.classes_, mean(g, summed, est.n_estimators))
    probabilities: list[Tensor] = []
    scores: list[Tensor] = []
    for member, columns in pairs:
        outputs = g.predict(member, g.select(features, columns))
        probabilities.append(_probabilities(g, member, outputs, classes))
        if hasattr(est, "decision_function"):
            scores.append(outputs["decision_scores"])
    bagged = most_probable(g, est.classes_, mean(g, total(g, probabilities), est.n_estimators))
    if len({score.width for score in scores}) == 1:
        bagged["decision_scores"] = mean(g, total(g, scores), est.n_estimators)
    return bagged


@predictor("BaggingRegressor")
def bagging_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`BaggingRegressor`: the mean of the members' predictions."""
    pairs = list(zip(est.estimators_, est.estimators_features_, strict=True))
    if _all_are(est, TREE_REGRESSORS):
        members = [fitted_tree(member, member.tree_.value[:, :, 0], columns) for member, columns in pairs]
        values = tree_ensemble.summed_rows(g, g.matrix(features), members)
        values = g.pick(values, 0) if values.width == 1 else values
    else:
        predictions = [g.predict(m, g.select(features, columns))["prediction"] for m, columns in pairs]
        values = total(g, [g.cast(prediction, "float64") for prediction in predictions])
    return {"prediction": mean(g, values, est.n_estimators)}


@predictor("AdaBoostClassifier")
def adaboost_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`AdaBoostClassifier`: the weighted votes of the members; a vote for one class is negative for the others."""
    classes = est.n_classes_
    if classes == 1:
        raise NotExportable("it knows one class only")
    by_probabilities = votes_by_probabilities(est)
    weights = est.estimator_weights_[: len(est.estimators_)]
    votes = [_halved(np.where(np.eye(classes) == 1, weight, other_vote(est) * weight)) for weight in weights]
    if _all_are(est, TREE_CLASSIFIERS):
        by_node = [probabilities_by_node(member) for member in est.estimators_]
        values = [
            _samme_r_vote(p) if by_probabilities else vote[np.searchsorted(est.classes_, m.classes_)[p.argmax(axis=1)]]
            for p, vote, m in zip(by_node, votes, est.estimators_, strict=True)
        ]
        members = [fitted_tree(member, value) for member, value in zip(est.estimators_, values, strict=True)]
        summed = tree_ensemble.summed_rows(g, g.matrix(features), members)
    elif by_probabilities:
        outputs = [g.predict(member, features)["probabilities"] for member in est.estimators_]
        summed = total(g, [_samme_r_nodes(g, output) for output in outputs])
    else:
        outputs = [g.predict(member, features)["prediction"] for member in est.estimators_]
        positions = [g.argmax(g.cast(output.unsqueeze(1).equal(est.classes_), "int64")) for output in outputs]
        summed = total(g, [g.take(vote, position) for vote, position in zip(votes, positions, strict=True)])
    scores = summed / est.estimator_weights_.sum()
    if classes > 2:
        probabilities, labels = softmax(g, scores / (classes - 1.0)), g.labels(est.classes_, g.argmax(scores))
        return {"prediction": labels, "probabilities": probabilities, "decision_scores": scores}
    score = g.pick(scores + scores, 0)
    probabilities = softmax(g, g.concat([-scores, scores]))
    labels = g.labels(est.classes_, g.cast(score > 0.0, "int64"))
    return {"prediction": labels, "probabilities": probabilities, "decision_scores": score}


@predictor("AdaBoostRegressor")
def adaboost_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`AdaBoostRegressor`: the weighted median of the members' predictions."""
    count = len(est.estimators_)
    if _all_are(est, TREE_REGRESSORS):
        members = [fitted_tree(member, member.tree_.value[:, 0, 0]) for member in est.estimators_]
        predictions = tree_ensemble.tree_values(g, g.matrix(features), members)
    else:
        outputs = [g.predict(member, features)["prediction"] for member in est.estimators_]
        predictions = g.concat([g.cast(output, "float64").unsqueeze(1) for output in outputs])
    operands = [predictions, g.constant([count], "int64")]
    kinds: list[tuple[str, int | None]] = [("float64", count), ("int64", count)]
    ordered, order = g.node_outputs("TopK", operands, kinds, axis=1, largest=0, sorted=1)
    weights = g.take(est.estimator_weights_[:count], order)
    sums = g.node("CumSum", [weights, g.constant(1, "int64")], "float64", count)
    reached = g.cast(sums >= g.select((sums,), [count - 1])[0] * 0.5, "int64")
    median = g.node("GatherElements", [ordered, g.argmax(reached).unsqueeze(1)], "float64", 1, axis=1)
    return {"prediction": g.pick(median, 0)}


def _all_are(est: Any, names: tuple[str, ...]) -> bool:
    """Return whether all members are of exactly these classes of scikit-learn."""
    kinds = {type(member) for member in est.estimators_}
    return all(kind.__name__ in names and kind.__module__ == "sklearn.tree._classes" for kind in kinds)


def _class_matrix(member: Any, classes: int) -> NDArray[np.float64]:
    """Return the matrix from the classes of a member to all classes; a member may not have seen all of them.

    Members are trained on the positions of the classes.
    """
    known: NDArray[np.int64] = np.asarray(member.classes_).astype(np.int64)
    return np.eye(classes)[known]


def _probabilities(g: Graph, member: Any, outputs: Outputs, classes: int) -> Tensor:
    """Return the probabilities or the vote of a member, shape (rows, classes)."""
    if not hasattr(member, "predict_proba"):
        return g.take(np.eye(classes), g.cast(outputs["prediction"], "int64"))
    probabilities = g.cast(outputs["probabilities"], "float64")
    if len(member.classes_) == classes:
        return probabilities
    return probabilities @ _class_matrix(member, classes)


def _samme_r_vote(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """`_samme_proba`: the logarithms of the probabilities minus their mean, shape (nodes, classes)."""
    logs = np.log(np.maximum(probabilities, EPSILON))
    classes = probabilities.shape[1]
    return _halved((classes - 1) * (logs - (1.0 / classes) * logs.sum(axis=1, keepdims=True)))


def _samme_r_nodes(g: Graph, probabilities: Tensor) -> Tensor:
    """`_samme_r_vote` as graph nodes, rounded the same, because members with probabilities of 0 or 1 often tie."""
    classes = probabilities.width or 0
    logs = probabilities.maximum(EPSILON).log()
    votes = logs - reduced(g, "ReduceSum", logs) * (1.0 / classes)
    if classes > 2:
        return votes * (classes - 1.0)
    return votes @ [[-0.5], [0.5]]


def _halved(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """For two classes, return half the difference of their votes, because its negative is the other column."""
    return (votes[:, 1:] - votes[:, :1]) / 2 if votes.shape[1] == 2 else votes
