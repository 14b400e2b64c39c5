"""Gaussian mixtures, and the elliptic envelope, which detects outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import digamma

from app.packing.exporters.graph import Features, Graph, Outputs, Tensor, predictor
from app.packing.exporters.links import affine, exp_normalized, reduced, signs


@predictor("GaussianMixture")
def gaussian_mixture(g: Graph, est: Any, features: Features) -> Outputs:
    """`GaussianMixture.predict` and `predict_proba`."""
    return _mixture(g, est, features, np.zeros(len(est.means_)))


@predictor("BayesianGaussianMixture")
def bayesian_mixture(g: Graph, est: Any, features: Features) -> Outputs:
    """`BayesianGaussianMixture`: the same, with the expected precisions of `_estimate_log_prob`."""
    width = est.means_.shape[1]
    halves = 0.5 * (est.degrees_of_freedom_ - np.arange(width)[:, None])
    log_lambda = width * np.log(2.0) + np.sum(digamma(halves), 0)
    expected = 0.5 * (log_lambda - width / est.mean_precision_) - 0.5 * width * np.log(est.degrees_of_freedom_)
    return _mixture(g, est, features, expected)


@predictor("EllipticEnvelope")
def elliptic_envelope(g: Graph, est: Any, features: Features) -> Outputs:
    """`EllipticEnvelope`: an inlier where the squared Mahalanobis distance is at most `-offset_`."""
    x = g.matrix(features)
    centered = x - est.location_
    score = -reduced(g, "ReduceSum", centered @ est.get_precision() * centered, None) - est.offset_
    return signs(g, score >= 0.0) | {"decision_scores": score}


def _mixture(g: Graph, est: Any, features: Features, expected: Any) -> Outputs:
    components, width = est.means_.shape
    distances = DISTANCES[est.covariance_type](g, est, features)
    halved = (distances + width * np.log(2 * np.pi)) * -0.5
    constant = _log_determinants(est) + expected + est._estimate_log_weights()
    likelihoods = halved + np.broadcast_to(constant, components)
    return {"prediction": g.argmax(likelihoods), "probabilities": exp_normalized(g, likelihoods)}


def _full(g: Graph, est: Any, features: Features) -> Tensor:
    """Squared Mahalanobis distances to each component, shape (rows, components); so do the next three functions."""
    components, width = est.means_.shape
    factors = np.asarray(est.precisions_cholesky_)
    shifts = np.concatenate([-mean @ factor for mean, factor in zip(est.means_, factors, strict=True)])
    turned = affine(g, features, np.concatenate([factor.T for factor in factors]), shifts)
    apart = g.node("Reshape", [turned, g.constant([-1, components, width], "int64")], "float64", width)
    return g.node("ReduceSumSquare", [apart, g.constant([2], "int64")], "float64", components, keepdims=0)


def _tied(g: Graph, est: Any, features: Features) -> Tensor:
    factor = np.asarray(est.precisions_cholesky_)
    x = g.matrix(features)
    apart = (x @ factor).unsqueeze(1)
    moved = apart - np.array([mean @ factor for mean in est.means_])
    return g.node("ReduceSumSquare", [moved, g.constant([2], "int64")], "float64", len(est.means_), keepdims=0)


def _diagonal(g: Graph, est: Any, features: Features) -> Tensor:
    precisions = np.asarray(est.precisions_cholesky_) ** 2
    linear = affine(g, features, -2.0 * (est.means_ * precisions), np.sum(est.means_**2 * precisions, axis=1))
    x = g.matrix(features)
    return linear + x * x @ precisions.T


def _spherical(g: Graph, est: Any, features: Features) -> Tensor:
    precisions = np.asarray(est.precisions_cholesky_) ** 2
    x = g.matrix(features)
    cross = (x @ np.asarray(est.means_).T) * (2.0 * precisions)
    linear = g.constant(np.sum(est.means_**2, axis=1) * precisions) - cross
    return linear + reduced(g, "ReduceSumSquare", x) * np.asarray(precisions)


def _log_determinants(est: Any) -> Any:
    """`_compute_log_det_cholesky`, one for each component or one for all."""
    factors, width = np.asarray(est.precisions_cholesky_), est.means_.shape[1]
    if est.covariance_type == "full":
        return np.sum(np.log(np.diagonal(factors, axis1=1, axis2=2)), axis=1)
    if est.covariance_type == "tied":
        return np.sum(np.log(np.diagonal(factors)))
    return np.sum(np.log(factors), axis=1) if est.covariance_type == "diag" else width * np.log(factors)


DISTANCES = {"diag": _diagonal, "full": _full, "spherical": _spherical, "tied": _tied}
