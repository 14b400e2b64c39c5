"""Clusterers, Gaussian mixtures, and the elliptic envelope, which detects outliers.

Distances are computed by the formulas of scikit-learn, because rounding decides near ties.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from app.packing.exporters.formulas import affine, exp_normalized, reduced, signs
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.similarity import expanded_squares, fused_squares, squared_norms


@predictor("KMeans", "MiniBatchKMeans")
def kmeans(g: Graph, est: Any, features: Features) -> Outputs:
    """`KMeans`: the center with the least `|c|² - 2 x·c` (`lloyd_iter_chunked_dense`); `transform` gives distances."""
    centers = _float64(est.cluster_centers_)
    return {
        "prediction": g.argmin(affine(g, features, -2.0 * centers, squared_norms(centers))),
        "transformed": euclidean_distances(g, g.matrix(features), centers),
    }


@predictor("BisectingKMeans")
def bisecting_kmeans(g: Graph, est: Any, features: Features) -> Outputs:
    """`BisectingKMeans`: follow the nearer of two centers at each node of a tree."""
    mean = getattr(est, "_X_mean", 0.0)
    centers: list[NDArray[Any]] = []
    leaves: list[tuple[int, dict[int, int]]] = []

    def visit(node: Any, path: dict[int, int]) -> None:
        if node.left is None:
            leaves.append((node.label, path))
            return
        number = len(centers) // 2
        centers.extend([node.left.center + mean, node.right.center + mean])
        visit(node.left, path | {number: 0})
        visit(node.right, path | {number: 1})

    visit(est._bisecting_tree, {})
    transformed = euclidean_distances(g, g.matrix(features), _float64(est.cluster_centers_))
    if not centers:
        raise NotExportable("it has one cluster")
    scores = affine(g, features, -2.0 * np.array(centers), squared_norms(np.array(centers)))
    shape = g.constant([-1, len(centers) // 2, 2], "int64")
    by_node = g.node("Reshape", [scores, shape], "float64", 2)
    nearer = g.node("ArgMin", [by_node], "int64", len(centers) // 2, axis=2, keepdims=0)
    # Count the nodes on the path to each leaf at which the other child is nearer: 0 only for the leaf that is reached.
    signs_of_path, offset = np.zeros((len(leaves), len(centers) // 2)), np.zeros(len(leaves))
    for row, (_, path) in enumerate(leaves):
        for number, side in path.items():
            signs_of_path[row, number] = -1.0 if side else 1.0
            offset[row] += side
    leaf = g.argmin(affine(g, (nearer,), signs_of_path, offset))
    return {"prediction": g.labels([label for label, _ in leaves], leaf), "transformed": transformed}


@predictor("AffinityPropagation", "MeanShift")
def nearest_center(g: Graph, est: Any, features: Features) -> Outputs:
    """`MeanShift.predict` and `AffinityPropagation.predict`."""
    if len(est.cluster_centers_) == 0:
        raise NotExportable("it found no clusters")
    return {"prediction": nearest(g, est, g.matrix(features), np.asarray(est.cluster_centers_))}


@predictor("Birch")
def birch(g: Graph, est: Any, features: Features) -> Outputs:
    """`Birch`: the label of the nearest subcluster; `transform` gives the distances to all of them."""
    centers = np.asarray(est.subcluster_centers_)
    index = nearest(g, est, g.matrix(features), centers, est._subcluster_norms)
    return {
        "prediction": g.labels(est.subcluster_labels_, index),
        "transformed": euclidean_distances(g, g.matrix(features), centers),
    }


def nearest(g: Graph, est: Any, x: Tensor, points: NDArray[Any], norms: NDArray[Any] | None = None) -> Tensor:
    """Return the index of the nearest point, the first one in a tie, like `pairwise_distances_argmin`: shape (rows,).

    scikit-learn does not use `ArgKmin` for column-major matrices, which DataFrames with several columns give.
    """
    framed = hasattr(est, "feature_names_in_") and len(est.feature_names_in_) > 1
    distances = euclidean_distances(g, x, points) if framed else fused_squares(g, x, points, norms)
    return g.argmin(distances)


def euclidean_distances(g: Graph, x: Tensor, points: NDArray[Any]) -> Tensor:
    """`sklearn.metrics.pairwise.euclidean_distances`: shape (rows, points)."""
    return expanded_squares(g, x, points).sqrt()


def _float64(centers: Any) -> NDArray[Any]:
    array = np.asarray(centers)
    if array.dtype != np.float64:
        raise NotExportable(f"its centers are {array.dtype}")
    return array


@predictor("GaussianMixture")
def gaussian_mixture(g: Graph, est: Any, features: Features) -> Outputs:
    """`GaussianMixture.predict` and `predict_proba`."""
    return _mixture(g, est, features, np.zeros(len(est.means_)))


@predictor("BayesianGaussianMixture")
def bayesian_mixture(g: Graph, est: Any, features: Features) -> Outputs:
    """`BayesianGaussianMixture`: like `GaussianMixture`, with the expected precisions of `_estimate_log_prob`."""
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
    """Return squared Mahalanobis distances, shape (rows, components), like the next three functions."""
    components, width = est.means_.shape
    factors = np.asarray(est.precisions_cholesky_)
    shifts = np.concatenate([-mean @ factor for mean, factor in zip(est.means_, factors, strict=True)])
    rotated = affine(g, features, np.concatenate([factor.T for factor in factors]), shifts)
    apart = g.node("Reshape", [rotated, g.constant([-1, components, width], "int64")], "float64", width)
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
    """`_compute_log_det_cholesky`: one number for each component, or one for all."""
    factors, width = np.asarray(est.precisions_cholesky_), est.means_.shape[1]
    if est.covariance_type == "full":
        return np.sum(np.log(np.diagonal(factors, axis1=1, axis2=2)), axis=1)
    if est.covariance_type == "tied":
        return np.sum(np.log(np.diagonal(factors)))
    return np.sum(np.log(factors), axis=1) if est.covariance_type == "diag" else width * np.log(factors)


DISTANCES = {"diag": _diagonal, "full": _full, "spherical": _spherical, "tied": _tied}
