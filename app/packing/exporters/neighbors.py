"""Predictors from the nearest training rows, from all rows within a radius, and from the nearest centroid."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.clusters import nearest
from app.packing.exporters.formulas import exp_normalized, fail_where, most_probable, reduced, signs, targets
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.search import kneighbors, reduced_distances
from app.packing.exporters.similarity import distances_of, expanded_squares, minkowski, pairwise_kernel, power_of


@predictor("KNeighborsClassifier")
def classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`KNeighborsClassifier`: each neighbour votes for its class with its weight."""
    codes = np.asarray(est._y).reshape(len(est._fit_X), -1)
    weighted = _is_weighted(est)
    indices, distances = kneighbors(g, est, g.matrix(features), est.n_neighbors, None if weighted else codes)
    weights = _weights(g, distances) if weighted else None
    all_classes = est.classes_ if est.outputs_2d_ else [est.classes_]
    outputs: Outputs = {}
    predictions = []
    for target, classes in enumerate(all_classes):
        votes = _votes(g, indices, weights, np.eye(len(classes))[codes[:, target]])
        predictions.append(g.labels(classes, g.argmax(votes)))
        probability = votes / reduced(g, "ReduceSum", votes)
        outputs[f"probabilities_{target}" if est.outputs_2d_ else "probabilities"] = probability
    if not est.outputs_2d_:
        return outputs | {"prediction": predictions[0]}
    if len({prediction.type for prediction in predictions}) > 1:
        raise NotExportable("its targets are of several types")
    return outputs | {"prediction": g.concat([prediction.unsqueeze(1) for prediction in predictions])}


@predictor("KNeighborsRegressor")
def regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`KNeighborsRegressor.predict`: the mean of the neighbours' targets, by their weights."""
    values = np.asarray(est._y, dtype=float).reshape(len(est._fit_X), -1)
    weighted = _is_weighted(est)
    indices, distances = kneighbors(g, est, g.matrix(features), est.n_neighbors, None if weighted else values)
    if weighted:
        weights = _weights(g, distances)
        mean = _votes(g, indices, weights, values) / reduced(g, "ReduceSum", weights)
    else:
        mean = reduced(g, "ReduceMean", g.take(values, indices), None)
    return targets(g, replace(mean, width=values.shape[1]), flat=np.ndim(est._y) == 1)


@predictor("LocalOutlierFactor")
def local_outlier_factor(g: Graph, est: Any, features: Features) -> Outputs:
    """`LocalOutlierFactor(novelty=True)`: the density around the neighbours relative to that around the row."""
    farthest = est._distances_fit_X_[:, est.n_neighbors_ - 1]
    known = np.column_stack([farthest, est._lrd])
    indices, distances = kneighbors(g, est, g.matrix(features), est.n_neighbors_, known)
    reach = reduced(g, "ReduceMean", distances.maximum(g.take(farthest, indices)))
    ratio = reduced(g, "ReduceMean", g.take(est._lrd, indices) / (reach + 1e-10).reciprocal(), None)
    score = -ratio - est.offset_
    return signs(g, ~(score < 0.0)) | {"decision_scores": score}


@predictor("LabelPropagation", "LabelSpreading")
def propagated(g: Graph, est: Any, features: Features) -> Outputs:
    """`LabelPropagation` and `LabelSpreading`: the label distributions of the training rows, weighted by a kernel."""
    distributions = np.asarray(est.label_distributions_)
    x, points = g.matrix(features), np.asarray(est.X_, dtype=float)
    if est.kernel == "knn":
        indices, _ = kneighbors(g, est.nn_fit, x, est.n_neighbors, distributions)
        total = _votes(g, indices, None, distributions)
    elif est.kernel == "rbf":
        total = pairwise_kernel(g, "rbf", x, points, gamma=est.gamma) @ distributions
    else:
        raise NotExportable("its kernel is a function")
    return most_probable(g, est.classes_, total / reduced(g, "ReduceSum", total))


def _is_weighted(est: Any) -> bool:
    """Return whether neighbours are weighted by their distance."""
    if callable(est.weights):
        raise NotExportable("its weights are a function")
    return bool(est.weights == "distance")


def _weights(g: Graph, distances: Tensor) -> Tensor:
    """`_get_weights`: the inverse distances; in a row with distances of 0, 1 for these and 0 for others."""
    inverse = distances.reciprocal()
    infinite = g.cast(inverse.isinf(), "float64")
    return g.where(g.cast(reduced(g, "ReduceMax", infinite), "bool"), infinite, inverse)


def _votes(g: Graph, indices: Tensor, weights: Tensor | None, table: NDArray[Any]) -> Tensor:
    """Sum the rows of a table at the indices, times the weights, in their order: shape (rows, columns)."""
    width = table.shape[1]
    near = g.take(table, indices)
    if weights is None:
        return replace(reduced(g, "ReduceSum", near, None), width=width)
    return g.node("Squeeze", [weights.unsqueeze(1) @ near, g.constant([1], "int64")], "float64", width)


@predictor("RadiusNeighborsClassifier")
def radius_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`RadiusNeighborsClassifier`: a row without neighbours gets the outlier label, or makes the run fail."""
    if est.outputs_2d_:
        raise NotExportable("it has several targets")
    classes, outlier = np.asarray(est.classes_), est.outlier_label_
    weights, isolated = _weights_within(g, est, g.matrix(features))
    votes = weights @ np.eye(len(classes))[est._y]
    labels = classes
    if outlier is None:
        votes = fail_where(g, isolated, votes)
    else:
        instead = (classes == outlier[0]).astype(float)
        votes = g.where(isolated.unsqueeze(1), instead, votes)
        if not instead.any():
            labels = np.append(classes, np.asarray(outlier[:1]).astype(classes.dtype))
    total = reduced(g, "ReduceSum", votes)
    empty = total.equal(0.0)
    probabilities = votes / g.where(empty, 1.0, total)
    index = g.argmax(probabilities)
    if len(labels) > len(classes):
        index = g.where(g.pick(empty, 0), len(classes), index)
    return {"prediction": g.labels(labels, index), "probabilities": probabilities}


@predictor("RadiusNeighborsRegressor")
def radius_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`RadiusNeighborsRegressor.predict`: the weighted mean of the targets; NaN for a row without neighbours."""
    values = np.asarray(est._y).reshape(len(est._fit_X), -1)
    with warnings.catch_warnings():  # scikit-learn too converts NaN to the type of integer targets
        warnings.simplefilter("ignore")
        nothing = np.full_like(values[0], np.nan).astype(float)
    weights, isolated = _weights_within(g, est, g.matrix(features))
    mean = g.where(isolated.unsqueeze(1), nothing, weights @ values / reduced(g, "ReduceSum", weights))
    return targets(g, mean, flat=np.ndim(est._y) == 1)


def _weights_within(g: Graph, est: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of each training row, 0 beyond the radius, and whether a row has no neighbours."""
    weighted, power, radius = _is_weighted(est), power_of(est), float(est.radius)
    distances = reduced_distances(g, est, x)
    near = distances <= (radius if power == np.inf else radius**power)
    within = g.cast(near, "float64")
    isolated = reduced(g, "ReduceMax", within, None).equal(0.0)
    if not weighted:
        return within, isolated
    # If training rows are at distance 0, only these have weights.
    distances = distances_of(g, distances, power)
    equal = g.cast(distances.equal(0.0), "float64")
    any_equal = g.cast(reduced(g, "ReduceMax", equal), "bool")
    return (g.where(any_equal, equal, g.where(near, distances.reciprocal(), 0.0)), isolated)


@predictor("NearestCentroid")
def centroid(g: Graph, est: Any, features: Features) -> Outputs:
    """`NearestCentroid`: the class of the nearest centroid, or of the greatest score if priors differ."""
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
        distances = minkowski(g, scaled, points / scale, 1.0)
        squares = distances * distances
    scores = (2.0 * np.log(est.class_prior_)) - squares
    equal = np.isclose(est.class_prior_, 1 / count).all()
    index = _nearest_centroid(g, est, x, points) if equal else g.argmax(scores)
    outputs = {"prediction": g.labels(est.classes_, index), "probabilities": exp_normalized(g, scores)}
    return outputs | {"decision_scores": g.pick(scores, 1) - g.pick(scores, 0) if count == 2 else scores}


def _nearest_centroid(g: Graph, est: Any, x: Tensor, points: NDArray[np.float64]) -> Tensor:
    return nearest(g, est, x, points) if est.metric == "euclidean" else g.argmin(minkowski(g, x, points, 1.0))
