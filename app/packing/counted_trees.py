"""Read the trees of scikit-learn models for explanations: each leaf with the share of training rows on its path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import boosting, trees
from app.packing.exporters.tree_ensemble import LEAF, Tree


class NotExplainable(Exception):
    """A method does not explain a model; the text is the reason, as the end of a sentence."""


CountedTree = tuple[Tree, NDArray[np.float64]]
"""A fitted tree whose `values` have shape (nodes, values), and the weight of the training rows at each node."""

Counted = tuple[str, NDArray[np.float64], list[CountedTree]]
"""The output that the trees of a model add up to, its start, and the trees."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf: its values, its mean over the training rows, and its path.

    `intervals` has for each column on the path `low` and `high` (a row passes if `low < x <= high`), the share of the
    training rows that passed, and whether a missing value passes.
    """

    values: NDArray[np.float64]
    mean: NDArray[np.float64]
    intervals: dict[int, tuple[float, float, float, bool]]


def leaves_of(counted: CountedTree) -> Iterator[Leaf]:
    """Yield the leaves of a tree."""
    tree, weight = counted
    waiting: list[tuple[int, dict[int, tuple[float, float, float, bool]]]] = [(0, {})]
    while waiting:
        node, path = waiting.pop()
        if tree.left[node] == LEAF:
            yield Leaf(tree.values[node], tree.values[node] * (weight[node] / weight[0]), path)
            continue
        column, threshold = int(tree.column[node]), float(tree.threshold[node])
        low, high, share, takes_missing = path.get(column, (-np.inf, np.inf, 1.0, True))
        missing_left = bool(tree.missing_left[node])
        for child, within, takes in (
            (int(tree.left[node]), (low, min(high, threshold)), missing_left),
            (int(tree.right[node]), (max(low, threshold), high), not missing_left),
        ):
            passed = share * float(weight[child] / weight[node]) if weight[node] else 0.0
            waiting.append((child, {**path, column: (*within, passed, takes_missing and takes)}))


def _forest(est: Any) -> Counted:
    members = list(est.estimators_) if hasattr(est, "estimators_") else [est]
    is_classifier = hasattr(est, "classes_")
    if est.n_outputs_ != 1 and is_classifier:
        raise NotExplainable("it has several targets")
    counted = []
    for member in members:
        values = trees.probabilities_by_node(member) if is_classifier else member.tree_.value[:, :, 0]
        counted.append((trees.fitted_tree(member, values / len(members)), _weights(member)))
    output = "probabilities" if is_classifier else "prediction"
    return output, np.zeros(counted[0][0].values.shape[1]), counted


def _gradient_boosting(est: Any) -> Counted:
    start = boosting.constant_start(est)
    if start is None:
        raise NotExplainable("it starts from another model")
    scores = len(start)
    counted = []
    for stage, member in enumerate(est.estimators_.ravel()):
        values = np.zeros((member.tree_.node_count, scores))
        values[:, stage % scores] = est.learning_rate * member.tree_.value[:, 0, 0]
        counted.append((trees.fitted_tree(member, values), _weights(member)))
    return score_of(est), start, counted


def _histograms(est: Any) -> Counted:
    if np.any(est.is_categorical_) or type(est._loss.link).__name__ == "LogLink":
        raise NotExplainable("it has categories or a logarithmic link")
    start = np.asarray(est._baseline_prediction, dtype=np.float64).ravel()
    scores = est.n_trees_per_iteration_
    counted = []
    for stage, predictor in enumerate(each for stages in est._predictors for each in stages):
        tree = boosting.histogram_tree(predictor)
        values = np.zeros((len(tree.left), scores))
        values[:, stage % scores] = tree.values
        counted.append((replace(tree, values=values), predictor.nodes["count"].astype(np.float64)))
    return score_of(est), start, counted


def _weights(member: Any) -> NDArray[np.float64]:
    return np.asarray(member.tree_.weighted_n_node_samples, dtype=np.float64)


def score_of(est: Any) -> str:
    """Return the output that a sum of terms gives: the scores of a classifier, the prediction of a regressor."""
    return "decision_scores" if hasattr(est, "classes_") else "prediction"


FORESTS = ("DecisionTree", "ExtraTree", "ExtraTrees", "RandomForest")
TREES: dict[str, Callable[[Any], Counted]] = {
    **{name + kind: _forest for name in FORESTS for kind in ("Classifier", "Regressor")},
    **{f"GradientBoosting{kind}": _gradient_boosting for kind in ("Classifier", "Regressor")},
    **{f"HistGradientBoosting{kind}": _histograms for kind in ("Classifier", "Regressor")},
}
