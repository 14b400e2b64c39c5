"""Naive Bayes and quadratic discriminant analysis: the class with the greatest joint log-likelihood."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from app.packing.exporters.formulas import affine, exp_normalized, reduced
from app.packing.exporters.graph import Features, Graph, Outputs, Tensor, predictor


@predictor("GaussianNB")
def gaussian(g: Graph, est: Any, features: Features) -> Outputs:
    """`GaussianNB._joint_log_likelihood`: squared distances to the means of each class, divided by its variances."""
    x = g.matrix(features)
    classes = len(est.classes_)
    difference = x.unsqueeze(1) - est.theta_
    scaled = difference * difference / est.var_
    distance = g.node("ReduceSum", [scaled, g.constant([2], "int64")], "float64", classes, keepdims=0)
    exponent = -0.5 * np.sum(np.log(2.0 * np.pi * est.var_), axis=1) - distance * 0.5
    return _outputs(g, est, exponent + np.log(est.class_prior_))


@predictor("MultinomialNB")
def multinomial(g: Graph, est: Any, features: Features) -> Outputs:
    """`MultinomialNB._joint_log_likelihood`: linear in the counts."""
    return _outputs(g, est, affine(g, features, est.feature_log_prob_, est.class_log_prior_))


@predictor("ComplementNB")
def complement(g: Graph, est: Any, features: Features) -> Outputs:
    """`ComplementNB._joint_log_likelihood`: linear in the counts; the prior is used only for a single class."""
    prior = est.class_log_prior_ if len(est.classes_) == 1 else 0.0
    return _outputs(g, est, affine(g, features, est.feature_log_prob_, prior))


@predictor("BernoulliNB")
def bernoulli(g: Graph, est: Any, features: Features) -> Outputs:
    """`BernoulliNB._joint_log_likelihood`: linear in the binarized columns."""
    x = g.matrix(features)
    if est.binarize is not None:
        x = g.cast(x > float(est.binarize), "float64")
    absent = np.log(1 - np.exp(est.feature_log_prob_))
    intercept = est.class_log_prior_ + absent.sum(axis=1)
    return _outputs(g, est, affine(g, (x,), est.feature_log_prob_ - absent, intercept))


@predictor("CategoricalNB")
def categorical(g: Graph, est: Any, features: Features) -> Outputs:
    """`CategoricalNB._joint_log_likelihood`: for each column, add the row of its category in a table.

    The tables of all columns are concatenated: shape (categories of all columns, classes).
    """
    x = g.matrix(features, "int64")
    table = np.concatenate([np.asarray(part).T for part in est.feature_log_prob_])
    starts = np.cumsum([0] + [part.shape[1] for part in est.feature_log_prob_[:-1]])
    likelihood = replace(reduced(g, "ReduceSum", g.take(table, x + starts), None), width=table.shape[1])
    return _outputs(g, est, likelihood + est.class_log_prior_)


def _outputs(g: Graph, est: Any, likelihoods: Tensor) -> Outputs:
    """`_BaseNB.predict` and `predict_proba` from the joint log-likelihoods, shape (rows, classes)."""
    return {
        "prediction": g.labels(est.classes_, g.argmax(likelihoods)),
        "probabilities": exp_normalized(g, likelihoods),
    }


@predictor("QuadraticDiscriminantAnalysis")
def quadratic(g: Graph, est: Any, features: Features) -> Outputs:
    """`QuadraticDiscriminantAnalysis`: the log-likelihood of each class, from its own rotation and scaling."""
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
    return {
        "prediction": g.labels(est.classes_, g.argmax(scores)),
        "probabilities": exp_normalized(g, scores),
        "decision_scores": g.pick(scores, 1) - g.pick(scores, 0) if classes == 2 else scores,
    }
