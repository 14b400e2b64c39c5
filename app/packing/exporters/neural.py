"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.links import affine, mirrored, softmax, targets

OPERATORS = {"exp": "Exp", "logistic": "Sigmoid", "relu": "Relu", "tanh": "Tanh"}


@predictor("MLPClassifier")
def classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`MLPClassifier`: softmax over classes; one sigmoid for two classes, or one for each of several labels."""
    layers = list(zip(est.coefs_, est.intercepts_, strict=True))
    kind = est._label_binarizer.y_type_
    if kind == "binary":
        # Both signs of the last score: their sigmoids are the two columns of probabilities.
        coef, intercept = layers[-1]
        layers[-1] = (np.asarray(mirrored(coef.T)).T, mirrored(intercept))
    probabilities = _forward(g, est, layers, features)
    if kind.startswith("multilabel"):
        return {"prediction": g.cast(probabilities > 0.5, "int64"), "probabilities": probabilities}
    return {"prediction": g.labels(est.classes_, g.argmax(probabilities)), "probabilities": probabilities}


@predictor("MLPRegressor")
def regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`MLPRegressor.predict`."""
    values = _forward(g, est, list(zip(est.coefs_, est.intercepts_, strict=True)), features)
    return targets(g, values, flat=values.width == 1)


def _forward(g: Graph, est: Any, layers: Sequence[tuple[Any, Any]], features: Features) -> Tensor:
    """`BaseMultilayerPerceptron._forward_pass_fast`: the activations of the last layer."""
    activations = [est.activation] * (len(layers) - 1) + [est.out_activation_]
    tensor = g.matrix(features)
    for (coef, intercept), activation in zip(layers, activations, strict=True):
        tensor = _activated(g, activation, affine(g, (tensor,), np.asarray(coef).T, intercept))
    return tensor


def _activated(g: Graph, activation: str, scores: Tensor) -> Tensor:
    if activation == "identity":
        return scores
    if activation == "softmax":
        return softmax(g, scores)
    if activation not in OPERATORS:
        raise NotExportable(f"its activation is {activation}")
    return g.node(OPERATORS[activation], [scores], "float64", scores.width)
