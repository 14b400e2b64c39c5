"""Predictors by all fitted rows within a radius, and by the nearest centroid of a class."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.clusters import nearest
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict, Tensor
from app.packing.exporters.links import exp_normalized, fail_where, reduced, targets
from app.packing.exporters.search import reduced_distances
from app.packing.exporters.similarity import distances_of, expanded_squares, minkowski, power_of


def classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`RadiusNeighborsClassifier`: rows without neighbours get the outlier label, or make the run fail."""
    if est.outputs_2d_:
        raise NotExportable("it has several targets")
    classes, outlier = np.asarray(est.classes_), est.outlier_label_
    weights, lonely = _weights_within(g, est, g.matrix(features))
    votes = weights @ np.eye(len(classes))[est._y]
    labels = classes
    if outlier is None:
        votes = fail_where(g, lonely, votes)
    else:
        instead = (classes == outlier[0]).astype(float)
        votes = g.where(g.column(lonely), instead, votes)
        if not instead.any():
            labels = np.append(classes, np.asarray(outlier[:1]).astype(classes.dtype))
    total = reduced(g, "ReduceSum", votes)
    empty = total.equal(0.0)
    shares = votes / g.where(empty, 1.0, total)
    index = g.argmax(shares)
    if len(labels) > len(classes):
        index = g.where(g.pick(empty, 0), len(classes), index)
    return {"prediction": g.labels(labels, index), "probabilities": shares}


def regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`RadiusNeighborsRegressor.predict`: the weighted mean of the targets; NaN for a row without neighbours."""
    values = np.asarray(est._y).reshape(len(est._fit_X), -1)
    with warnings.catch_warnings():  # for integer targets scikit-learn converts NaN to the least integer
        warnings.simplefilter("ignore")
        nothing = np.full_like(values[0], np.nan).astype(float)
    weights, lonely = _weights_within(g, est, g.matrix(features))
    mean = g.where(g.column(lonely), nothing, weights @ values / reduced(g, "ReduceSum", weights))
    return targets(g, mean, flat=np.ndim(est._y) == 1)


def _weights_within(g: Graph, est: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of each fitted row, 0 beyond the radius, and whether a row has no neighbour.

    Returns:
        Shapes (rows, fitted rows) and (rows,).
    """
    if callable(est.weights):
        raise NotExportable("its weights are a function")
    power, radius = power_of(est), float(est.radius)
    distances = reduced_distances(g, est, x)
    limit = radius if power == np.inf else radius**power
    near = distances <= limit
    within = g.cast(near, "float64")
    lonely = reduced(g, "ReduceMax", within, None).equal(0.0)
    if est.weights != "distance":
        return within, lonely
    # If fitted rows are at distance 0, only these count.
    away = distances_of(g, distances, power)
    same = g.cast(away.equal(0.0), "float64")
    some = g.cast(reduced(g, "ReduceMax", same), "bool")
    return (g.where(some, same, g.where(near, away.reciprocal(), 0.0)), lonely)


def centroid(g: Graph, est: Any, features: Features) -> Outputs:
    """`NearestCentroid`: the class of the nearest centroid; with unequal priors the one with the best score."""
    if est.metric not in ("euclidean", "manhattan"):
        raise NotExportable(f"its metric is {est.metric}")
    x, points = g.matrix(features), np.asarray(est.centroids_, dtype=float)
    count = len(points)
    if not hasattr(est, "predict_proba"):  # until 1.5
        return {"prediction": g.labels(est.classes_, _nearest_centroid(g, est, x, points))}
    spread = np.asarray(est.within_class_std_dev_)
    scale = np.where(spread != 0, spread, 1.0)
    scaled = x / scale
    if est.metric == "euclidean":
        squares = expanded_squares(g, scaled, points / scale)
    else:
        away = minkowski(g, scaled, points / scale, 1.0)
        squares = away * away
    scores = (2.0 * np.log(est.class_prior_)) - squares
    equal = np.isclose(est.class_prior_, 1 / count).all()
    index = _nearest_centroid(g, est, x, points) if equal else g.argmax(scores)
    outputs = {"prediction": g.labels(est.classes_, index), "probabilities": exp_normalized(g, scores)}
    binary = g.pick(scores, 1) - g.pick(scores, 0) if count == 2 else scores
    return outputs | {"decision_scores": binary}


def _nearest_centroid(g: Graph, est: Any, x: Tensor, points: NDArray[np.float64]) -> Tensor:
    if est.metric == "euclidean":
        return nearest(g, est, x, points)
    away = minkowski(g, x, points, 1.0)
    return g.argmin(away)


PREDICTORS: dict[str, Predict] = {
    "NearestCentroid": centroid,
    "RadiusNeighborsClassifier": classifier,
    "RadiusNeighborsRegressor": regressor,
}
