"""Quadratic discriminant analysis."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, Outputs, Predict
from app.packing.exporters.links import exp_normalized


def quadratic(g: Graph, est: Any, features: Features) -> Outputs:
    """`QuadraticDiscriminantAnalysis`: the log-likelihood of each class by its own rotation and scaling."""
    x = g.matrix(features)
    classes = len(est.classes_)
    factors = [rotation * scaling**-0.5 for rotation, scaling in zip(est.rotations_, est.scalings_, strict=True)]
    rank = max(factor.shape[1] for factor in factors)
    stacked = np.stack([np.pad(factor, ((0, 0), (0, rank - factor.shape[1]))) for factor in factors])
    rotated = (x - est.means_[:, None, :]) @ stacked
    norms = g.node("ReduceSumSquare", [rotated, g.constant([2], "int64")], "float64", None, keepdims=0)
    by_row = g.node("Transpose", [norms], "float64", classes, perm=[1, 0])
    logs = np.array([np.sum(np.log(scaling)) for scaling in est.scalings_])
    scores = (by_row + logs) * -0.5 + np.log(est.priors_)
    decision = scores
    if classes == 2:
        decision = g.pick(scores, 1) - g.pick(scores, 0)
    return {
        "prediction": g.labels(est.classes_, g.argmax(scores)),
        "probabilities": exp_normalized(g, scores),
        "decision_scores": decision,
    }


PREDICTORS: dict[str, Predict] = {"QuadraticDiscriminantAnalysis": quadratic}
