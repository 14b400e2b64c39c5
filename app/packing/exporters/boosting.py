"""Gradient boosting: the sum of an initial prediction and of trees, trained on exact values or on histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import tree_ensemble, trees
from app.packing.exporters.formulas import classified, expit, reduced, softmax
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.tree_ensemble import (
    GOES_LEFT,
    GOES_RIGHT,
    IS_MISSING,
    LEAF,
    THRESHOLD,
    CategoricalSplits,
    Tree,
    in_bitset,
)
from app.packing.releases import (
    HISTOGRAMS_COMPARE_PROBABILITIES,
    INITS_CENTERED,
    LEAST_PROBABILITY,
    boosting_compares_probabilities,
    boosting_encoder,
)

FLOAT32_INITS = ("DecisionTree", "ExtraTree", "RandomForest", "GradientBoosting", "HistGradientBoosting")
"""Prefixes of the classes that predict the same for a float32 and for the same number in float64."""


@predictor("GradientBoostingClassifier")
def gradient_boosting_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`GradientBoostingClassifier`: of two classes, the second if its raw score is at least 0."""
    raw = _gradient_boosting(g, est, features)
    if (raw.width or 0) > 1:
        return _multiclass(g, est.classes_, raw)
    score = g.pick(raw, 0)
    probability = expit(g, raw * 2.0 if est.loss == "exponential" else raw)
    return _binary(g, est.classes_, score, None if boosting_compares_probabilities(est) else score >= 0.0, probability)


@predictor("GradientBoostingRegressor")
def gradient_boosting_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`GradientBoostingRegressor`: the raw score, for every loss."""
    return {"prediction": g.pick(_gradient_boosting(g, est, features), 0)}


def _multiclass(g: Graph, classes: Any, raw: Tensor) -> Outputs:
    return classified(g, classes, raw) | {"probabilities": softmax(g, raw)}


def _binary(g: Graph, classes: Any, score: Tensor, second: Tensor | None, probability: Tensor) -> Outputs:
    """Return the outputs for two classes, from the score and the probability of the second class, shape (rows, 1).

    `second` is whether each row is of the second class, shape (rows,); None stands for the more probable class.
    """
    both = g.concat([1.0 - probability, probability])
    index = g.argmax(both) if second is None else g.cast(second, "int64")
    return {"prediction": g.labels(classes, index), "probabilities": both, "decision_scores": score}


def _gradient_boosting(g: Graph, est: Any, features: Features) -> Tensor:
    """`BaseGradientBoosting._raw_predict`, shape (rows, scores)."""
    scores = est.estimators_.shape[1]
    matrix = g.matrix(features)
    stages = [
        trees.fitted_tree(member, est.learning_rate * member.tree_.value[:, 0, 0]) for member in est.estimators_.ravel()
    ]
    if (constant := constant_start(est)) is not None:
        return tree_ensemble.summed(g, matrix, stages, [stage % scores for stage in range(len(stages))], constant)
    start = _raw_init(g, est, matrix)
    terms = g.concat([start, tree_ensemble.tree_values(g, matrix, stages)])
    count = len(est.estimators_) + 1
    by_stage = g.node("Reshape", [terms, g.constant([0, count, scores], "int64")], "float64", scores)
    return tree_ensemble.last_of_sums(g, by_stage, count)


def constant_start(est: Any) -> NDArray[np.float64] | None:
    """Return the raw scores before the first tree, shape (scores,); None if an init estimator predicts them."""
    if isinstance(est.init_, str) or type(est.init_).__name__ in ("DummyClassifier", "DummyRegressor"):
        start: NDArray[np.float64] = est._raw_predict_init(np.zeros((1, est.n_features_in_)))[0]
        return start
    return None


def _raw_init(g: Graph, est: Any, matrix: Tensor) -> Tensor:
    """`_init_raw_predictions` of an init estimator, which takes float32: shape (rows, scores)."""
    name = type(est.init_).__name__
    if not name.startswith(FLOAT32_INITS):
        raise NotExportable(f"its init estimator, {name}, computes in float32")
    outputs = g.predict(est.init_, (g.cast(g.cast(matrix, "float32"), "float64"),))
    if "probabilities" not in outputs:
        return outputs["prediction"].unsqueeze(1)
    probabilities = outputs["probabilities"]
    if est.estimators_.shape[1] == 1:
        probability = g.pick(probabilities, 1).unsqueeze(1).clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        logit = (probability / (1.0 - probability)).log()
        return logit * 0.5 if est.loss == "exponential" else logit
    log = probabilities.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).log()
    return log - reduced(g, "ReduceMean", log) if INITS_CENTERED else log


@predictor("HistGradientBoostingClassifier")
def histogram_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`HistGradientBoostingClassifier`: of two classes, the second if its raw score is above 0."""
    raw = _raw(g, est, features)
    if est.n_trees_per_iteration_ > 1:
        return _multiclass(g, est.classes_, raw)
    score = g.pick(raw, 0)
    return _binary(g, est.classes_, score, None if HISTOGRAMS_COMPARE_PROBABILITIES else score > 0.0, expit(g, raw))


@predictor("HistGradientBoostingRegressor")
def histogram_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`HistGradientBoostingRegressor`: the raw score, or its exponential for losses with a logarithmic link."""
    raw = g.pick(_raw(g, est, features), 0)
    has_log_link = type(est._loss.link).__name__ == "LogLink"
    return {"prediction": raw.exp() if has_log_link else raw}


def _raw(g: Graph, est: Any, features: Features) -> Tensor:
    """`BaseHistGradientBoosting._raw_predict`, shape (rows, scores)."""
    if (encoder := boosting_encoder(est)) is not None:  # `_preprocess_X` puts the encoded columns first
        encoded = g.transform(encoder, g.select(features, np.flatnonzero(est.is_categorical_).tolist()))
        features = (*encoded, *g.select(features, np.flatnonzero(~est.is_categorical_).tolist()))
    matrix = g.matrix(features)
    known, rank = est._bin_mapper.make_known_categories_bitsets()
    columns = np.flatnonzero(est._bin_mapper.is_categorical_).tolist()
    known_of = {column: in_bitset(known[rank[column]], 256) for column in columns}
    splits = CategoricalSplits(matrix.width or 0, dict.fromkeys(known_of, 256))
    predictors = [predictor for stage in est._predictors for predictor in stage]
    keys = [_add_splits(predictor, splits, known_of) for predictor in predictors]
    stages = [_tree(predictor, splits, of_tree) for predictor, of_tree in zip(predictors, keys, strict=True)]
    scores = est.n_trees_per_iteration_
    targets = [stage % scores for stage in range(len(stages))]
    return tree_ensemble.summed(g, splits.append_columns(g, matrix), stages, targets, est._baseline_prediction)


def _add_splits(
    predictor: Any, splits: CategoricalSplits, known_of: dict[int, NDArray[np.bool_]]
) -> dict[int, tuple[int, int]]:
    """Add the categorical splits of a tree, return their keys by node; unknown categories count as missing."""
    nodes = predictor.nodes
    keys = {}
    for number in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~nodes["is_leaf"].astype(bool)).tolist():
        column = int(nodes["feature_idx"][number])
        left = in_bitset(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][number]], 256)
        side = np.where(left, GOES_LEFT, np.where(known_of[column], GOES_RIGHT, IS_MISSING))
        keys[number] = splits.add(column, np.append(side, IS_MISSING))
    return keys


def histogram_tree(predictor: Any) -> Tree:
    """Convert a `TreePredictor` without categorical splits to a tree."""
    return _tree(predictor, CategoricalSplits(0, {}), {})


def _tree(predictor: Any, splits: CategoricalSplits, keys: dict[int, tuple[int, int]]) -> Tree:
    """Convert a `TreePredictor` to a tree; it compares in float64."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    column, threshold = nodes["feature_idx"].astype(np.int64), nodes["num_threshold"].copy()
    for number, key in keys.items():
        column[number], threshold[number] = splits.column_of(key), THRESHOLD
    left = np.where(leaf, LEAF, nodes["left"].astype(np.int64))
    right = np.where(leaf, LEAF, nodes["right"].astype(np.int64))
    return Tree(left, right, column, threshold, nodes["missing_go_to_left"].astype(bool), nodes["value"])
