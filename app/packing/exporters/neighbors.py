"""Predictors by the nearest fitted rows, by all rows within a radius, and by the nearest centroid of a class."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.clusters import nearest
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.links import exp_normalized, fail_where, reduced, signs, targets
from app.packing.exporters.search import kneighbors, reduced_distances
from app.packing.exporters.similarity import distances_of, expanded_squares, minkowski, named, power_of


@predictor("KNeighborsClassifier")
def classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`KNeighborsClassifier`: each neighbour votes for its class, by its weight."""
    codes = np.asarray(est._y).reshape(len(est._fit_X), -1)
    weigh = _weighing(est)
    targets = None if weigh else codes
    indices, distances = kneighbors(g, est, g.matrix(features), est.n_neighbors, targets)
    weights = _weights(g, distances) if weigh else None
    all_classes = est.classes_ if est.outputs_2d_ else [est.classes_]
    outputs: Outputs = {}
    predictions = []
    for target, classes in enumerate(all_classes):
        votes = _votes(g, indices, weights, np.eye(len(classes))[codes[:, target]])
        predictions.append(g.labels(classes, g.argmax(votes)))
        share = votes / reduced(g, "ReduceSum", votes)
        outputs[f"probabilities_{target}" if est.outputs_2d_ else "probabilities"] = share
    if not est.outputs_2d_:
        return outputs | {"prediction": predictions[0]}
    if len({prediction.type for prediction in predictions}) > 1:
        raise NotExportable("its targets are of several types")
    return outputs | {"prediction": g.concat([prediction.unsqueeze(1) for prediction in predictions])}


@predictor("KNeighborsRegressor")
def regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`KNeighborsRegressor.predict`: the mean of the neighbours' targets, by their weights."""
    values = np.asarray(est._y, dtype=float).reshape(len(est._fit_X), -1)
    weigh = _weighing(est)
    indices, distances = kneighbors(g, est, g.matrix(features), est.n_neighbors, None if weigh else values)
    width = values.shape[1]
    if weigh:
        weights = _weights(g, distances)
        mean = _votes(g, indices, weights, values) / reduced(g, "ReduceSum", weights)
    else:
        mean = reduced(g, "ReduceMean", g.take(values, indices), None)
    return targets(g, replace(mean, width=width), flat=np.ndim(est._y) == 1)


@predictor("LocalOutlierFactor")
def local_outlier_factor(g: Graph, est: Any, features: Features) -> Outputs:
    """`LocalOutlierFactor(novelty=True)`: the density around the neighbours relative to that around the row."""
    farthest = est._distances_fit_X_[:, est.n_neighbors_ - 1]
    known = np.column_stack([farthest, est._lrd])
    indices, distances = kneighbors(g, est, g.matrix(features), est.n_neighbors_, known)
    reach = reduced(g, "ReduceMean", distances.maximum(g.take(farthest, indices)))
    ratio = reduced(g, "ReduceMean", g.take(est._lrd, indices) / (reach + 1e-10).reciprocal(), None)
    score = -ratio - est.offset_
    outlier = score < 0.0
    return signs(g, ~outlier) | {"decision_scores": score}


@predictor("LabelPropagation", "LabelSpreading")
def propagated(g: Graph, est: Any, features: Features) -> Outputs:
    """`LabelPropagation` and `LabelSpreading`: the label distributions of the fitted rows, weighted by a kernel."""
    distributions = np.asarray(est.label_distributions_)
    x, points = g.matrix(features), np.asarray(est.X_, dtype=float)
    if est.kernel == "knn":
        indices, _ = kneighbors(g, est.nn_fit, x, est.n_neighbors, distributions)
        total = _votes(g, indices, None, distributions)
    elif est.kernel == "rbf":
        total = named(g, "rbf", x, points, gamma=est.gamma) @ distributions
    else:
        raise NotExportable("its kernel is a function")
    shares = total / reduced(g, "ReduceSum", total)
    return {"prediction": g.labels(est.classes_, g.argmax(shares)), "probabilities": shares}


def _weighing(est: Any) -> bool:
    """Whether neighbours are weighted by their distance."""
    if callable(est.weights):
        raise NotExportable("its weights are a function")
    return bool(est.weights == "distance")


def _weights(g: Graph, distances: Tensor) -> Tensor:
    """`_get_weights`: inverse distances; in a row with infinite ones, 1 for these and 0 for the others."""
    inverse = distances.reciprocal()
    infinite = g.cast(inverse.isinf(), "float64")
    return g.where(g.cast(reduced(g, "ReduceMax", infinite), "bool"), infinite, inverse)


def _votes(g: Graph, indices: Tensor, weights: Tensor | None, table: NDArray[Any]) -> Tensor:
    """Sum the rows of a table at the indices, times their weights, one after the other: shape (rows, columns)."""
    width = table.shape[1]
    near = g.take(table, indices)
    if weights is None:
        return replace(reduced(g, "ReduceSum", near, None), width=width)
    return g.node("Squeeze", [weights.unsqueeze(1) @ near, g.constant([1], "int64")], "float64", width)


@predictor("RadiusNeighborsClassifier")
def radius_classifier(g: Graph, est: Any, features: Features) -> Outputs:
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
        votes = g.where(lonely.unsqueeze(1), instead, votes)
        if not instead.any():
            labels = np.append(classes, np.asarray(outlier[:1]).astype(classes.dtype))
    total = reduced(g, "ReduceSum", votes)
    empty = total.equal(0.0)
    shares = votes / g.where(empty, 1.0, total)
    index = g.argmax(shares)
    if len(labels) > len(classes):
        index = g.where(g.pick(empty, 0), len(classes), index)
    return {"prediction": g.labels(labels, index), "probabilities": shares}


@predictor("RadiusNeighborsRegressor")
def radius_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`RadiusNeighborsRegressor.predict`: the weighted mean of the targets; NaN for a row without neighbours."""
    values = np.asarray(est._y).reshape(len(est._fit_X), -1)
    with warnings.catch_warnings():  # for integer targets scikit-learn converts NaN to the least integer
        warnings.simplefilter("ignore")
        nothing = np.full_like(values[0], np.nan).astype(float)
    weights, lonely = _weights_within(g, est, g.matrix(features))
    mean = g.where(lonely.unsqueeze(1), nothing, weights @ values / reduced(g, "ReduceSum", weights))
    return targets(g, mean, flat=np.ndim(est._y) == 1)


def _weights_within(g: Graph, est: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of each fitted row, 0 beyond the radius, and whether a row has no neighbour."""
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


@predictor("NearestCentroid")
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
