"""Histogram gradient boosting: float64 thresholds, missing values and categories."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import tree_ensemble
from app.packing.exporters.boosting import binary, multiclass
from app.packing.exporters.categories import GOES_LEFT, GOES_RIGHT, IS_MISSING, THRESHOLD, Sides, in_bitset
from app.packing.exporters.graph import Features, Graph, Outputs, Predict, Tensor
from app.packing.exporters.links import expit
from app.packing.exporters.tree_ensemble import LEAF, Tree
from app.packing.releases import boosting_encoder, histograms_compare_shares


def histogram_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`HistGradientBoostingClassifier`: the second of two classes above a raw score of 0, else the greatest score."""
    raw = _raw(g, est, features)
    if est.n_trees_per_iteration_ > 1:
        return multiclass(g, est.classes_, raw)
    score = g.pick(raw, 0)
    above = score > 0.0
    second = None if histograms_compare_shares() else above
    return binary(g, est.classes_, second, expit(g, raw)) | {"decision_scores": score}


def histogram_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`HistGradientBoostingRegressor`: the raw score, or its exponential for losses with a logarithmic link."""
    raw = g.pick(_raw(g, est, features), 0)
    has_log_link = type(est._loss.link).__name__ == "LogLink"
    return {"prediction": raw.exp() if has_log_link else raw}


def _raw(g: Graph, est: Any, features: Features) -> Tensor:
    """`BaseHistGradientBoosting._raw_predict`, shape (rows, scores)."""
    matrix = _preprocessed(g, est, features)
    known, rank = est._bin_mapper.make_known_categories_bitsets()
    categorical = np.flatnonzero(est._bin_mapper.is_categorical_)
    known_of = {int(column): in_bitset(known[rank[column]], 256) for column in categorical}
    sides = Sides(matrix.width or 0, dict.fromkeys(known_of, 256))
    predictors = [predictor for stage in est._predictors for predictor in stage]
    splits = [_categorical_splits(predictor, sides, known_of) for predictor in predictors]
    stages = [_tree(predictor, sides, found) for predictor, found in zip(predictors, splits, strict=True)]
    scores = est.n_trees_per_iteration_
    targets = [stage % scores for stage in range(len(stages))]
    return tree_ensemble.summed(g, sides.extended(g, matrix), stages, targets, est._baseline_prediction)


def _preprocessed(g: Graph, est: Any, features: Features) -> Tensor:
    """`_preprocess_X`: categorical columns, encoded, come first."""
    encoder = boosting_encoder(est)
    if encoder is None:
        return g.matrix(features)
    categorical = np.flatnonzero(est.is_categorical_).tolist()
    numerical = np.flatnonzero(~est.is_categorical_).tolist()
    encoded = g.transform(encoder, g.select(features, categorical))
    return g.matrix((*encoded, *g.select(features, numerical)))


def _categorical_splits(
    predictor: Any, sides: Sides, known_of: dict[int, NDArray[np.bool_]]
) -> dict[int, tuple[int, int]]:
    """Return the splits by category of a tree, by node; unknown categories go where missing values go."""
    nodes = predictor.nodes
    splits = {}
    for number in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~nodes["is_leaf"].astype(bool)).tolist():
        column = int(nodes["feature_idx"][number])
        left = in_bitset(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][number]], 256)
        side = np.where(left, GOES_LEFT, np.where(known_of[column], GOES_RIGHT, IS_MISSING))
        splits[number] = sides.column(column, np.append(side, IS_MISSING))
    return splits


def fitted_tree(predictor: Any) -> Tree:
    """Return a `TreePredictor` without splits by category as a tree."""
    return _tree(predictor, Sides(0, {}), {})


def _tree(predictor: Any, sides: Sides, splits: dict[int, tuple[int, int]]) -> Tree:
    """Return a `TreePredictor` as a tree; its comparisons are in float64."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    column, threshold = nodes["feature_idx"].astype(np.int64), nodes["num_threshold"].copy()
    for number, split in splits.items():
        column[number], threshold[number] = sides.place(split), THRESHOLD
    left = np.where(leaf, LEAF, nodes["left"].astype(np.int64))
    right = np.where(leaf, LEAF, nodes["right"].astype(np.int64))
    return Tree(left, right, column, threshold, nodes["missing_go_to_left"].astype(bool), nodes["value"])


PREDICTORS: dict[str, Predict] = {
    "HistGradientBoostingClassifier": histogram_classifier,
    "HistGradientBoostingRegressor": histogram_regressor,
}
