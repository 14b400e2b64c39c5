"""Linear models, partial least squares, isotonic regression, and multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.packing.exporters.formulas import (
    affine,
    classified,
    expit,
    fail_where,
    interpolated,
    mirrored,
    most_probable,
    normalized,
    repeated,
    signs,
    softmax,
    targets,
)
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor, transformer
from app.packing.releases import is_one_vs_rest, pls_coefficients, pls_is_flat, zero_row_probability


def _scores(g: Graph, est: Any, features: Features) -> Tensor:
    """`LinearClassifierMixin.decision_function`; for two classes, the negative score and the score: shape (rows, 2)."""
    if len(est.classes_) == 2:
        return affine(g, features, mirrored(np.atleast_2d(est.coef_)), mirrored(np.broadcast_to(est.intercept_, 1)))
    return affine(g, features, est.coef_, est.intercept_)


@predictor("LinearSVC", "PassiveAggressiveClassifier", "Perceptron")
def linear_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """Export a classifier without probabilities: the class of the greatest score."""
    return classified(g, est.classes_, _scores(g, est, features))


@predictor("LogisticRegression", "LogisticRegressionCV")
def logistic_regression(g: Graph, est: Any, features: Features) -> Outputs:
    """`LogisticRegression.predict_proba`: sigmoids if it is one-vs-rest, else softmax."""
    scores = _scores(g, est, features)
    fill = zero_row_probability(len(est.classes_))
    probabilities = _sigmoids(g, est, scores, fill) if is_one_vs_rest(est) else softmax(g, scores)
    return classified(g, est.classes_, scores) | {"probabilities": probabilities}


@predictor("SGDClassifier")
def sgd_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`SGDClassifier`: probabilities with the losses log_loss and modified_huber."""
    scores = _scores(g, est, features)
    outputs = classified(g, est.classes_, scores)
    if est.loss in ("log", "log_loss"):
        outputs["probabilities"] = _sigmoids(g, est, scores)
    elif est.loss == "modified_huber":
        halved = (scores.clip(-1.0, 1.0) + 1.0) / 2.0
        outputs["probabilities"] = halved if len(est.classes_) == 2 else normalized(g, halved)
    return outputs


@predictor("RidgeClassifier", "RidgeClassifierCV")
def ridge_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`RidgeClassifier`: a multilabel model predicts the labels whose score is above 0."""
    if not est._label_binarizer.y_type_.startswith("multilabel"):
        return linear_classifier(g, est, features)
    scores = affine(g, features, est.coef_, est.intercept_)
    return {"prediction": g.cast(scores > 0.0, "int64"), "decision_scores": scores}


@predictor("LinearDiscriminantAnalysis")
def linear_discriminant(g: Graph, est: Any, features: Features) -> Outputs:
    """`LinearDiscriminantAnalysis`: linear scores; `transform` projects, except for the solver lsqr."""
    outputs = logistic_regression(g, est, features)
    if est.solver != "lsqr":
        x = g.matrix(features) - est.xbar_ if est.solver == "svd" else g.matrix(features)
        outputs["transformed"] = x @ np.asarray(est.scalings_)[:, : est._max_components]
    return outputs


@predictor("SGDOneClassSVM")
def sgd_one_class(g: Graph, est: Any, features: Features) -> Outputs:
    """`SGDOneClassSVM`: an inlier if `x @ coef_ - offset_` is at least 0."""
    score = g.pick(affine(g, features, np.atleast_2d(est.coef_), -est.offset_), 0)
    return signs(g, score >= 0.0) | {"decision_scores": score}


def _sigmoids(g: Graph, est: Any, scores: Tensor, fill: float | None = None) -> Tensor:
    """Return the sigmoids of the negative score and the score of two classes, or normalized sigmoids of more classes.

    For two classes the operator Sigmoid is accurate enough, 1e-16 near 0, because nothing is divided by it.
    """
    if len(est.classes_) == 2:
        return scores.sigmoid()
    return normalized(g, expit(g, scores), fill)


LINEAR = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars", "LarsCV", "Lasso",
    "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression", "LinearSVR", "MultiTaskElasticNet",
    "MultiTaskElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV", "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV", "PassiveAggressiveRegressor", "QuantileRegressor", "Ridge", "RidgeCV",
    "SGDRegressor", "TheilSenRegressor",
)  # fmt: skip


@predictor(*LINEAR)
def linear_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`LinearModel.predict`: `x @ coef_.T + intercept_`, shape (rows,) if `coef_` has one dimension."""
    coef = np.asarray(est.coef_)
    return targets(g, affine(g, features, np.atleast_2d(coef), est.intercept_), flat=coef.ndim == 1)


@predictor("GammaRegressor", "PoissonRegressor", "TweedieRegressor")
def generalized_linear(g: Graph, est: Any, features: Features) -> Outputs:
    """`GammaRegressor` and other generalized linear models: the inverse link of the linear prediction."""
    raw = g.pick(affine(g, features, np.atleast_2d(est.coef_), est.intercept_), 0)
    link = type(est._base_loss.link).__name__
    if link == "IdentityLink":
        return {"prediction": raw}
    if link == "LogLink":
        return {"prediction": raw.exp()}
    raise NotExportable(f"its link is {link}")


@predictor("RANSACRegressor")
def ransac(g: Graph, est: Any, features: Features) -> Outputs:
    """`RANSACRegressor.predict`: the prediction of the estimator that was fitted on the inliers."""
    return {"prediction": g.predict(est.estimator_, features)["prediction"]}


@predictor("CCA", "PLSCanonical", "PLSRegression")
def partial_least_squares(g: Graph, est: Any, features: Features) -> Outputs:
    """`_PLS.predict` and `_PLS.transform`."""
    centered = g.matrix(features) - est._x_mean
    values = affine(g, (centered,), pls_coefficients(est), est.intercept_)
    return targets(g, values, flat=pls_is_flat(est)) | {"transformed": _rotated(est, centered, est.x_rotations_)}


@transformer("PLSSVD")
def pls_svd_transform(g: Graph, est: Any, features: Features) -> Features:
    """`PLSSVD.transform`: center, scale, and project on the weights."""
    return (_rotated(est, g.matrix(features) - est._x_mean, est.x_weights_),)


def _rotated(est: Any, centered: Tensor, rotations: Any) -> Tensor:
    return (centered / np.asarray(est._x_std)) @ np.asarray(rotations)


@predictor("IsotonicRegression")
def isotonic(g: Graph, est: Any, features: Features) -> Outputs:
    """`IsotonicRegression.predict`: `numpy.interp`; beyond the thresholds NaN, the nearest value or an error."""
    knots, values = np.asarray(est.X_thresholds_), np.asarray(est.y_thresholds_)
    if knots.dtype != np.float64 or values.dtype != np.float64:
        raise NotExportable("it was fitted on numbers that are not float64")
    if len(knots) == 1:
        value = repeated(g, features, g.constant(values), None)
        return {"prediction": value, "transformed": value}
    x = g.matrix(features)
    if est.out_of_bounds == "clip":
        x = x.clip(est.X_min_, est.X_max_)
    # Segment 0, below the first knot, and the last segment, above the last knot, have no value.
    starts = np.append(knots, np.nextafter(knots[-1], np.inf))
    slopes = np.concatenate([[np.nan], np.diff(values) / np.diff(knots), [0.0, np.nan]])
    origins, offsets = np.concatenate([[0.0], knots, [0.0]]), np.concatenate([[0.0], values, [0.0]])
    value = g.pick(interpolated(g, x, *(table[None, :] for table in (starts, slopes, origins, offsets))), 0)
    if est.out_of_bounds == "raise":
        value = fail_where(g, value.isnan(), value)
    return {"prediction": value, "transformed": value}


OPERATORS = {"exp": "Exp", "logistic": "Sigmoid", "relu": "Relu", "tanh": "Tanh"}


@predictor("MLPClassifier")
def classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`MLPClassifier`: softmax over more than two classes; one sigmoid for two classes, or for each label."""
    layers = list(zip(est.coefs_, est.intercepts_, strict=True))
    kind = est._label_binarizer.y_type_
    if kind == "binary":
        # Output the negative score and the score: their sigmoids are the two columns of probabilities.
        coef, intercept = layers[-1]
        layers[-1] = (np.asarray(mirrored(coef.T)).T, mirrored(intercept))
    probabilities = _forward(g, est, layers, features)
    if kind.startswith("multilabel"):
        return {"prediction": g.cast(probabilities > 0.5, "int64"), "probabilities": probabilities}
    return most_probable(g, est.classes_, probabilities)


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
        tensor = affine(g, (tensor,), np.asarray(coef).T, intercept)
        if activation == "softmax":
            tensor = softmax(g, tensor)
        elif activation in OPERATORS:
            tensor = g.node(OPERATORS[activation], [tensor], "float64", tensor.width)
        elif activation != "identity":
            raise NotExportable(f"its activation is {activation}")
    return tensor
