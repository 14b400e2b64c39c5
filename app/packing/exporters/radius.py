"""Predictors by all fitted rows within a radius, and by the nearest centroid of a class."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.clusters import nearest
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict, Tensor
from app.packing.exporters.links import exp_normalized, fail_where, reduced, targets
from app.packing.exporters.metrics import distances_of, minkowski, power_of
from app.packing.exporters.search import reduced_distances
from app.packing.exporters.similarity import expanded_squares


def classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`RadiusNeighborsClassifier`: rows without neighbours get the outlier label, or make the run fail."""
    if est.outputs_2d_:
        raise NotExportable("it has several targets")
    classes, outlier = np.asarray(est.classes_), est.outlier_label_
    weights, lonely = _weights_within(g, est, g.matrix(features))
    votes = g.node("MatMul", [weights, g.constant(np.eye(len(classes))[est._y])], "float64", len(classes))
    labels = classes
    if outlier is None:
        votes = fail_where(g, lonely, votes)
    else:
        instead = (classes == outlier[0]).astype(float)
        votes = g.node("Where", [g.column(lonely), g.constant(instead), votes], "float64", len(classes))
        if not instead.any():
            labels = np.append(classes, np.asarray(outlier[:1]).astype(classes.dtype))
    total = reduced(g, "ReduceSum", votes)
    empty = g.node("Equal", [total, g.constant(0.0)], "bool", 1)
    divisor = g.node("Where", [empty, g.constant(1.0), total], "float64", 1)
    shares = g.node("Div", [votes, divisor], "float64", len(classes))
    index = g.argmax(shares)
    if len(labels) > len(classes):
        index = g.node("Where", [g.pick(empty, 0), g.constant(len(classes), "int64"), index], "int64", None)
    return {"prediction": g.labels(labels, index), "probabilities": shares}


def regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`RadiusNeighborsRegressor.predict`: the weighted mean of the targets; NaN for a row without neighbours."""
    values = np.asarray(est._y).reshape(len(est._fit_X), -1)
    with warnings.catch_warnings():  # for integer targets scikit-learn converts NaN to the least integer
        warnings.simplefilter("ignore")
        nothing = np.full_like(values[0], np.nan).astype(float)
    weights, lonely = _weights_within(g, est, g.matrix(features))
    width = values.shape[1]
    total = g.node("MatMul", [weights, g.constant(values)], "float64", width)
    mean = g.node("Div", [total, reduced(g, "ReduceSum", weights)], "float64", width)
    mean = g.node("Where", [g.column(lonely), g.constant(nothing), mean], "float64", width)
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
    width = distances.width
    limit = radius if power == np.inf else radius**power
    near = g.node("LessOrEqual", [distances, g.constant(limit)], "bool", width)
    within = g.cast(near, "float64")
    lonely = g.node("Equal", [reduced(g, "ReduceMax", within, None), g.constant(0.0)], "bool", None)
    if est.weights != "distance":
        return within, lonely
    # If fitted rows are at distance 0, only these count.
    away = distances_of(g, distances, power)
    same = g.cast(g.node("Equal", [away, g.constant(0.0)], "bool", width), "float64")
    some = g.cast(reduced(g, "ReduceMax", same), "bool")
    inverse = g.node("Reciprocal", [away], "float64", width)
    shares = g.node("Where", [near, inverse, g.constant(0.0)], "float64", width)
    return g.node("Where", [some, same, shares], "float64", width), lonely


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
    scaled = g.node("Div", [x, g.constant(scale)], "float64", x.width)
    if est.metric == "euclidean":
        squares = expanded_squares(g, scaled, points / scale)
    else:
        away = minkowski(g, scaled, points / scale, 1.0)
        squares = g.node("Mul", [away, away], "float64", count)
    scores = g.node("Sub", [g.constant(2.0 * np.log(est.class_prior_)), squares], "float64", count)
    equal = np.isclose(est.class_prior_, 1 / count).all()
    index = _nearest_centroid(g, est, x, points) if equal else g.argmax(scores)
    outputs = {"prediction": g.labels(est.classes_, index), "probabilities": exp_normalized(g, scores)}
    binary = g.node("Sub", [g.pick(scores, 1), g.pick(scores, 0)], "float64", None) if count == 2 else scores
    return outputs | {"decision_scores": binary}


def _nearest_centroid(g: Graph, est: Any, x: Tensor, points: NDArray[np.float64]) -> Tensor:
    if est.metric == "euclidean":
        return nearest(g, est, x, points)
    away = minkowski(g, x, points, 1.0)
    return g.node("ArgMin", [away], "int64", None, axis=1, keepdims=0, select_last_index=0)


PREDICTORS: dict[str, Predict] = {
    "NearestCentroid": centroid,
    "RadiusNeighborsClassifier": classifier,
    "RadiusNeighborsRegressor": regressor,
}
