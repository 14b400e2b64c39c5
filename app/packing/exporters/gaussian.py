"""Gaussian processes with their kernels (`sklearn.gaussian_process.kernels`), and kernel ridge regression."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi, sqrt
from typing import Any

import numpy as np

from app.packing.exporters.formulas import affine, reduced, targets
from app.packing.exporters.functions import erf
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.similarity import Points, pairwise_kernel, squared_distances

LAMBDAS = np.array([0.41, 0.4, 0.37, 0.44, 0.39])
COEFS = np.array([-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654])
"""The approximation of the logistic function by error functions in sklearn.gaussian_process._gpc."""


@predictor("GaussianProcessRegressor")
def process_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`GaussianProcessRegressor.predict`: the mean."""
    if not hasattr(est, "X_train_"):
        raise NotExportable("it was not fitted")
    kernel = kernel_matrix(g, est.kernel_, g.matrix(features), np.asarray(est.X_train_, dtype=float))
    alpha = np.asarray(est.alpha_)
    scaled = kernel @ alpha.reshape(len(alpha), -1) * np.atleast_1d(est._y_train_std)
    values = scaled + np.atleast_1d(est._y_train_mean)
    return targets(g, values, flat=values.width == 1)


@predictor("GaussianProcessClassifier")
def process_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`GaussianProcessClassifier`: one binary classifier, or one for each class or pair of classes."""
    outputs = g.predict(est.base_estimator_, features)
    probable = est.n_classes_ <= 2 or est.multi_class != "one_vs_one"
    return {name: outputs[name] for name in ("prediction", *["probabilities"] * probable)}


@predictor("_BinaryGaussianProcessClassifierLaplace")
def laplace(g: Graph, est: Any, features: Features) -> Outputs:
    """`_BinaryGaussianProcessClassifierLaplace`: the second class if the latent mean is positive."""
    x, points = g.matrix(features), np.asarray(est.X_train_, dtype=float)
    kernel = kernel_matrix(g, est.kernel_, x, points)
    mean = affine(g, (kernel,), (est.y_train_ - est.pi_)[None, :], 0.0)
    second = g.pick(mean > 0.0, 0)
    solved = np.linalg.solve(est.L_, np.diag(est.W_sr_))
    explained = affine(g, (kernel,), solved, np.zeros(len(solved)))
    diagonal = _composed(est.kernel_, lambda kernel: _diagonal(g, kernel, x))
    doubled = (diagonal - reduced(g, "ReduceSumSquare", explained)) * 2.0
    alpha = doubled.reciprocal()
    scaled = mean * LAMBDAS * (alpha / (alpha + LAMBDAS**2)).sqrt()
    wide = (np.pi / alpha).sqrt()
    integrals = erf(g, scaled) * wide / ((doubled * np.pi).sqrt() * 2.0)
    positive = affine(g, (integrals,), COEFS[None, :], 0.5 * COEFS.sum())
    return {
        "prediction": g.labels(est.classes_, g.cast(second, "int64")),
        "probabilities": g.concat([1.0 - positive, positive]),
    }


@predictor("KernelRidge")
def kernel_ridge(g: Graph, est: Any, features: Features) -> Outputs:
    """`KernelRidge.predict`: a weighted sum of the kernels with the training rows."""
    x, points = g.matrix(features), np.asarray(est.X_fit_, dtype=float)
    gamma = 1.0 / points.shape[1] if est.gamma is None else est.gamma
    kernel = pairwise_kernel(g, est.kernel, x, points, gamma=gamma, coef0=est.coef0, degree=est.degree)
    dual = np.asarray(est.dual_coef_)
    return targets(g, kernel @ dual.reshape(len(dual), -1), flat=dual.ndim == 1)


CONSTANT = ("ConstantKernel", "WhiteKernel")
DEFAULTS = {"gamma": 1.0, "coef0": 1.0, "degree": 3.0}


def kernel_matrix(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    """`kernel(x, points)`: shape (rows, points)."""
    if _is_constant(kernel):
        raise NotExportable("its kernel is constant")
    return _composed(kernel, lambda part: _part_matrix(g, part, x, points))


def _composed(kernel: Any, value: Callable[[Any], Tensor]) -> Tensor:
    """Compute a value of each elementary kernel in a kernel, and combine the values by its operators."""
    name = type(kernel).__name__
    if name == "Product":
        return _composed(kernel.k1, value) * _composed(kernel.k2, value)
    if name == "Sum":
        return _composed(kernel.k1, value) + _composed(kernel.k2, value)
    if name == "Exponentiation":
        return _composed(kernel.kernel, value) ** float(kernel.exponent)
    return value(kernel)


def _diagonal(g: Graph, kernel: Any, x: Tensor) -> Tensor:
    """`kernel.diag(x)`: shape (rows, 1), or one number for all rows."""
    name = type(kernel).__name__
    if name == "ConstantKernel":
        return g.constant([[float(kernel.constant_value)]])
    if name == "WhiteKernel":
        return g.constant([[float(kernel.noise_level)]])
    if name == "DotProduct":
        return reduced(g, "ReduceSumSquare", x) + float(kernel.sigma_0) ** 2
    if name == "PairwiseKernel":
        raise NotExportable("its kernel is a PairwiseKernel")
    return g.constant([[1.0]])


def _part_matrix(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    name = type(kernel).__name__
    if name == "ConstantKernel":
        return g.constant(float(kernel.constant_value))
    if name == "WhiteKernel":
        return g.constant(0.0)
    if name not in KERNELS:
        raise NotExportable(f"its kernel is made of {name}")
    return KERNELS[name](g, kernel, x, points)


def _is_constant(kernel: Any) -> bool:
    parts = [getattr(kernel, name) for name in ("k1", "k2", "kernel") if hasattr(kernel, name)]
    return all(map(_is_constant, parts)) if parts else type(kernel).__name__ in CONSTANT


def _rbf(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    return (_squared(g, kernel, x, points) * -0.5).exp()


def _matern(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    if kernel.nu == inf:
        return _rbf(g, kernel, x, points)
    if kernel.nu not in (0.5, 1.5, 2.5):
        raise NotExportable(f"its kernel is Matern with nu={kernel.nu}")
    distances = _squared(g, kernel, x, points).sqrt()
    if kernel.nu == 0.5:
        return (-distances).exp()
    k = distances * sqrt(2 * kernel.nu)
    factor = k + 1.0
    if kernel.nu == 2.5:
        factor = factor + k * k / 3.0
    return factor * (-k).exp()


def _rational_quadratic(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    divisor = float(2 * kernel.alpha * np.ravel(kernel.length_scale)[0] ** 2)
    return (squared_distances(g, x, points) / divisor + 1.0) ** -float(kernel.alpha)


def _exp_sine_squared(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    distances = squared_distances(g, x, points).sqrt()
    quotient = (distances * float(pi / kernel.periodicity)).sin() / float(kernel.length_scale)
    return (quotient * quotient * -2.0).exp()


def _dot_product(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    return x @ points.T + float(kernel.sigma_0) ** 2


def _pairwise(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    parameters = DEFAULTS | {"gamma": kernel.gamma} | (kernel.pairwise_kernels_kwargs or {})
    return pairwise_kernel(g, kernel.metric, x, points, **parameters)


def _squared(g: Graph, kernel: Any, x: Tensor, points: Points) -> Tensor:
    scale = np.ravel(np.asarray(kernel.length_scale, dtype=float))
    return squared_distances(g, x / scale, points / scale)


KERNELS: dict[str, Callable[[Graph, Any, Tensor, Points], Tensor]] = {
    "DotProduct": _dot_product,
    "ExpSineSquared": _exp_sine_squared,
    "Matern": _matern,
    "PairwiseKernel": _pairwise,
    "RBF": _rbf,
    "RationalQuadratic": _rational_quadratic,
}
