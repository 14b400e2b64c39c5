"""Predictors by the nearest fitted rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import similarity
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict, Tensor
from app.packing.exporters.links import reduced, signs, targets
from app.packing.exporters.search import kneighbors


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
    return outputs | {"prediction": g.concat([g.column(prediction) for prediction in predictions])}


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


def propagated(g: Graph, est: Any, features: Features) -> Outputs:
    """`LabelPropagation` and `LabelSpreading`: the label distributions of the fitted rows, weighted by a kernel."""
    distributions = np.asarray(est.label_distributions_)
    x, points = g.matrix(features), np.asarray(est.X_, dtype=float)
    if est.kernel == "knn":
        indices, _ = kneighbors(g, est.nn_fit, x, est.n_neighbors, distributions)
        total = _votes(g, indices, None, distributions)
    elif est.kernel == "rbf":
        weights = similarity.rbf(g, x, points, float(est.gamma))
        total = weights @ distributions
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
    product = weights.unsqueeze(1) @ near
    return g.node("Squeeze", [product, g.constant([1], "int64")], "float64", width)


PREDICTORS: dict[str, Predict] = {
    "KNeighborsClassifier": classifier,
    "KNeighborsRegressor": regressor,
    "LabelPropagation": propagated,
    "LabelSpreading": propagated,
    "LocalOutlierFactor": local_outlier_factor,
}
