"""Gaussian processes and kernel ridge regression: weighted kernels with the fitted rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters import covariance, similarity
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict
from app.packing.exporters.links import affine, reduced, targets
from app.packing.exporters.normal_distribution import erf

LAMBDAS = np.array([0.41, 0.4, 0.37, 0.44, 0.39])
COEFS = np.array([-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654])
"""The approximation of the logistic function by error functions in sklearn.gaussian_process._gpc."""


def process_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`GaussianProcessRegressor.predict`: the mean."""
    if not hasattr(est, "X_train_"):
        raise NotExportable("it was not fitted")
    kernel = covariance.between(g, est.kernel_, g.matrix(features), np.asarray(est.X_train_, dtype=float))
    alpha = np.asarray(est.alpha_)
    mean = g.node("MatMul", [kernel, g.constant(alpha.reshape(len(alpha), -1))], "float64", alpha[0].size)
    scaled = g.node("Mul", [mean, g.constant(np.atleast_1d(est._y_train_std))], "float64", mean.width)
    values = g.node("Add", [scaled, g.constant(np.atleast_1d(est._y_train_mean))], "float64", mean.width)
    return targets(g, values, flat=values.width == 1)


def process_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`GaussianProcessClassifier`: the binary one, or one of them for each class or pair of classes."""
    outputs = g.predict(est.base_estimator_, features)
    kept = ["prediction"]
    if not (est.n_classes_ > 2 and est.multi_class == "one_vs_one"):
        kept.append("probabilities")
    return {name: outputs[name] for name in kept}


def laplace(g: Graph, est: Any, features: Features) -> Outputs:
    """`_BinaryGaussianProcessClassifierLaplace`: the sign of the latent mean, its probability by error functions."""
    x, points = g.matrix(features), np.asarray(est.X_train_, dtype=float)
    kernel = covariance.between(g, est.kernel_, x, points)
    mean = affine(g, (kernel,), (est.y_train_ - est.pi_)[None, :], 0.0)
    second = g.pick(g.node("Greater", [mean, g.constant(0.0)], "bool", 1), 0)
    solved = np.linalg.solve(est.L_, np.diag(est.W_sr_))
    explained = affine(g, (kernel,), solved, np.zeros(len(solved)))
    unsure = reduced(g, "ReduceSumSquare", explained)
    variance = g.node("Sub", [covariance.diagonal(g, est.kernel_, x), unsure], "float64", 1)
    doubled = g.node("Mul", [variance, g.constant(2.0)], "float64", 1)
    alpha = g.node("Reciprocal", [doubled], "float64", 1)
    shares = g.node("Div", [alpha, g.node("Add", [alpha, g.constant(LAMBDAS**2)], "float64", 5)], "float64", 5)
    gamma = g.node("Mul", [mean, g.constant(LAMBDAS)], "float64", 5)
    scaled = g.node("Mul", [gamma, g.node("Sqrt", [shares], "float64", 5)], "float64", 5)
    wide = g.node("Sqrt", [g.node("Div", [g.constant(np.pi), alpha], "float64", 1)], "float64", 1)
    norm = g.node("Sqrt", [g.node("Mul", [doubled, g.constant(np.pi)], "float64", 1)], "float64", 1)
    integrals = g.node("Mul", [erf(g, scaled), wide], "float64", 5)
    integrals = g.node("Div", [integrals, g.node("Mul", [norm, g.constant(2.0)], "float64", 1)], "float64", 5)
    positive = affine(g, (integrals,), COEFS[None, :], 0.5 * COEFS.sum())
    negative = g.node("Sub", [g.constant(1.0), positive], "float64", 1)
    return {
        "prediction": g.labels(est.classes_, g.cast(second, "int64")),
        "probabilities": g.concat([negative, positive]),
    }


def kernel_ridge(g: Graph, est: Any, features: Features) -> Outputs:
    """`KernelRidge.predict`: a weighted sum of kernels with the rows that it was fitted on."""
    x, points = g.matrix(features), np.asarray(est.X_fit_, dtype=float)
    gamma = 1.0 / points.shape[1] if est.gamma is None else est.gamma
    parameters = {"gamma": gamma, "coef0": est.coef0, "degree": est.degree}
    kernel = similarity.named(g, est.kernel, x, points, **parameters)
    dual = np.asarray(est.dual_coef_)
    weights = dual.reshape(len(dual), -1)
    values = g.node("MatMul", [kernel, g.constant(weights)], "float64", weights.shape[1])
    return targets(g, values, flat=dual.ndim == 1)


PREDICTORS: dict[str, Predict] = {
    "GaussianProcessClassifier": process_classifier,
    "GaussianProcessRegressor": process_regressor,
    "KernelRidge": kernel_ridge,
    "_BinaryGaussianProcessClassifierLaplace": laplace,
}
