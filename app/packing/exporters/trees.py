"""Decision trees and their ensembles: forests, isolation forests, bagging and AdaBoost.

Decision trees, the usual members of bagging, become one tree ensemble, because the contribution of each leaf is known.
Other members are exported one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import tree_ensemble
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor, transformer
from app.packing.exporters.links import reduced, softmax, total
from app.packing.exporters.tree_ensemble import Tree
from app.packing.releases import class_shares, missing_goes_left, other_vote, votes_by_shares


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
    trees = [fitted_tree(member, probabilities_by_node(member)) for member in members_of(est)]
    shares = mean(g, tree_ensemble.summed_rows(g, g.matrix(features), trees), len(trees))
    if est.n_outputs_ == 1:
        return {"prediction": g.labels(est.classes_, g.argmax(shares)), "probabilities": shares}
    ends = np.cumsum(est.n_classes_).tolist()
    starts = [0, *ends[:-1]]
    parts = [g.select((shares,), range(start, end))[0] for start, end in zip(starts, ends, strict=True)]
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
    ends = tree_ensemble.tree_values(g, g.matrix(features), trees)
    leaves = est.one_hot_encoder_.categories_
    of_tree = np.repeat(np.arange(len(leaves)), [len(nodes) for nodes in leaves])
    return (g.cast(g.take(ends, of_tree, axis=1).equal(np.concatenate(leaves)), "float64"),)


def members_of(est: Any) -> list[Any]:
    """Return the trees of a forest, or the tree itself."""
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


TREE_CLASSIFIERS = ("DecisionTreeClassifier", "ExtraTreeClassifier")
TREE_REGRESSORS = ("DecisionTreeRegressor", "ExtraTreeRegressor")

EPSILON = float(np.finfo(np.float64).eps)
"""`AdaBoostClassifier` takes the logarithm of probabilities of at least this."""


@predictor("BaggingClassifier")
def bagging_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`BaggingClassifier`: the mean of the members' probabilities, or the share of votes where they have none."""
    pairs = list(zip(est.estimators_, est.estimators_features_, strict=True))
    classes = len(est.classes_)
    if _all_are(est, TREE_CLASSIFIERS):
        members = [fitted_tree(m, probabilities_by_node(m) @ _places(m, classes), columns) for m, columns in pairs]
        return _bagged(g, est, tree_ensemble.summed_rows(g, g.matrix(features), members))
    shares: list[Tensor] = []
    scores: list[Tensor] = []
    for member, columns in pairs:
        outputs = g.predict(member, g.select(features, columns))
        shares.append(_shares(g, member, outputs, classes))
        if hasattr(est, "decision_function"):
            scores.append(outputs["decision_scores"])
    bagged = _bagged(g, est, total(g, shares))
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
        answers = [g.predict(m, g.select(features, columns))["prediction"] for m, columns in pairs]
        values = total(g, [g.cast(answer, "float64") for answer in answers])
    return {"prediction": mean(g, values, est.n_estimators)}


@predictor("AdaBoostClassifier")
def adaboost_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`AdaBoostClassifier`: the weighted votes of the members; a vote for one class counts against the others."""
    classes = est.n_classes_
    if classes == 1:
        raise NotExportable("it knows one class only")
    by_shares = votes_by_shares(est)
    weights = est.estimator_weights_[: len(est.estimators_)]
    votes = [_halved(np.where(np.eye(classes) == 1, weight, other_vote(est) * weight)) for weight in weights]
    if _all_are(est, TREE_CLASSIFIERS):
        by_node = [probabilities_by_node(member) for member in est.estimators_]
        ballots = [
            _vote_of(share) if by_shares else vote[np.searchsorted(est.classes_, m.classes_)[share.argmax(axis=1)]]
            for share, vote, m in zip(by_node, votes, est.estimators_, strict=True)
        ]
        members = [fitted_tree(m, ballot) for m, ballot in zip(est.estimators_, ballots, strict=True)]
        summed = tree_ensemble.summed_rows(g, g.matrix(features), members)
    else:
        named = "probabilities" if by_shares else "prediction"
        answers = [g.predict(member, features)[named] for member in est.estimators_]
        if by_shares:
            summed = total(g, [_logs(g, answer) for answer in answers])
        else:
            classes_of = [g.argmax(g.cast(answer.unsqueeze(1).equal(est.classes_), "int64")) for answer in answers]
            summed = total(g, [g.take(vote, index) for vote, index in zip(votes, classes_of, strict=True)])
    scores = summed / est.estimator_weights_.sum()
    if classes > 2:
        shares, labels = softmax(g, scores / (classes - 1.0)), g.labels(est.classes_, g.argmax(scores))
        return {"prediction": labels, "probabilities": shares, "decision_scores": scores}
    score = g.pick(scores + scores, 0)
    shares = softmax(g, g.concat([-scores, scores]))
    labels = g.labels(est.classes_, g.cast(score > 0.0, "int64"))
    return {"prediction": labels, "probabilities": shares, "decision_scores": score}


@predictor("AdaBoostRegressor")
def adaboost_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`AdaBoostRegressor`: the weighted median of the members' predictions, which is the prediction of one of them."""
    count = len(est.estimators_)
    if _all_are(est, TREE_REGRESSORS):
        members = [fitted_tree(member, member.tree_.value[:, 0, 0]) for member in est.estimators_]
        answers = tree_ensemble.tree_values(g, g.matrix(features), members)
    else:
        outputs = [g.predict(member, features)["prediction"] for member in est.estimators_]
        answers = g.concat([g.cast(output, "float64").unsqueeze(1) for output in outputs])
    kinds: list[tuple[str, int | None]] = [("float64", count), ("int64", count)]
    ordered, order = g.node_outputs("TopK", [answers, g.constant([count], "int64")], kinds, axis=1, largest=0, sorted=1)
    weights = g.take(est.estimator_weights_[:count], order)
    sums = g.node("CumSum", [weights, g.constant(1, "int64")], "float64", count)
    reached = g.cast(sums >= g.select((sums,), [count - 1])[0] * 0.5, "int64")
    median = g.node("GatherElements", [ordered, g.argmax(reached).unsqueeze(1)], "float64", 1, axis=1)
    return {"prediction": g.pick(median, 0)}


def _all_are(est: Any, names: tuple[str, ...]) -> bool:
    """Whether all members are of these classes of scikit-learn, not of classes derived from them."""
    kinds = {type(member) for member in est.estimators_}
    return all(kind.__name__ in names and kind.__module__ == "sklearn.tree._classes" for kind in kinds)


def _bagged(g: Graph, est: Any, shares: Tensor) -> Outputs:
    probabilities = mean(g, shares, est.n_estimators)
    return {"prediction": g.labels(est.classes_, g.argmax(probabilities)), "probabilities": probabilities}


def _places(member: Any, classes: int) -> NDArray[np.float64]:
    """Return the matrix that maps the classes of a member, which may be some of them only, to all classes.

    Members are trained on the numbers of the classes.
    """
    known: NDArray[np.int64] = np.asarray(member.classes_).astype(np.int64)
    return np.eye(classes)[known]


def _shares(g: Graph, member: Any, outputs: Outputs, classes: int) -> Tensor:
    """Return the probabilities, or the vote, of a member, shape (rows, classes)."""
    if not hasattr(member, "predict_proba"):
        return g.take(np.eye(classes), g.cast(outputs["prediction"], "int64"))
    shares = g.cast(outputs["probabilities"], "float64")
    if len(member.classes_) == classes:
        return shares
    return shares @ _places(member, classes)


def _vote_of(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """`_samme_proba`: the logarithms of the probabilities, less their mean; (nodes, classes)."""
    logs = np.log(np.maximum(shares, EPSILON))
    classes = shares.shape[1]
    return _halved((classes - 1) * (logs - (1.0 / classes) * logs.sum(axis=1, keepdims=True)))


def _logs(g: Graph, shares: Tensor) -> Tensor:
    """`_vote_of` as graph nodes with the same rounding, because members with probabilities of 0 or 1 often tie."""
    classes = shares.width or 0
    logs = shares.maximum(EPSILON).log()
    votes = logs - reduced(g, "ReduceSum", logs) * (1.0 / classes)
    if classes > 2:
        return votes * (classes - 1.0)
    return votes @ [[-0.5], [0.5]]


def _halved(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep half the difference of the votes for two classes: the other column would be its negative."""
    return (votes[:, 1:] - votes[:, :1]) / 2 if votes.shape[1] == 2 else votes
