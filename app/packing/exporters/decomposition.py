"""Projections: PCA, factor analysis, random projections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Features, Graph, Tensor, Transform
from app.packing.exporters.links import affine


def _projected(g: Graph, x: Tensor, directions: Any) -> Tensor:
    """x @ directions.T, shape (rows, directions)."""
    matrix = _dense(directions)
    return x @ matrix.T


def _dense(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _centred(g: Graph, est: Any, features: Features) -> Tensor:
    return g.matrix(features) - np.asarray(est.mean_)


def pca(g: Graph, est: Any, features: Features) -> Features:
    """`_BasePCA._transform`: projected, then centred, then divided by the standard deviations where it whitens."""
    x = _projected(g, g.matrix(features), est.components_)
    x = x - (est.mean_.reshape(1, -1) @ est.components_.T)
    if est.whiten:
        scale = np.sqrt(est.explained_variance_)
        scale[scale < np.finfo(scale.dtype).eps] = np.finfo(scale.dtype).eps
        x = x / scale
    return (x,)


def projection(g: Graph, est: Any, features: Features) -> Features:
    """`TruncatedSVD`, `NeighborhoodComponentsAnalysis` and random projections: x @ components_.T."""
    if any(g.sparse(block) for block in features):
        return (affine(g, features, _dense(est.components_), 0.0),)
    return (_projected(g, g.matrix(features), est.components_),)


def fast_ica(g: Graph, est: Any, features: Features) -> Features:
    """`FastICA.transform`: (x - mean_) @ components_.T."""
    x = _centred(g, est, features) if est.whiten else g.matrix(features)
    return (_projected(g, x, est.components_),)


def factor_analysis(g: Graph, est: Any, features: Features) -> Features:
    """`FactorAnalysis.transform`: the posterior mean of the factors (Barber 21.2.33)."""
    weights = est.components_ / est.noise_variance_
    covariance = np.linalg.inv(np.eye(len(est.components_)) + weights @ est.components_.T)
    return (_projected(g, _projected(g, _centred(g, est, features), weights), covariance.T),)


TRANSFORMERS: dict[str, Transform] = {
    "PCA": pca,
    "IncrementalPCA": pca,
    "NeighborhoodComponentsAnalysis": projection,
    "TruncatedSVD": projection,
    "GaussianRandomProjection": projection,
    "SparseRandomProjection": projection,
    "FastICA": fast_ica,
    "FactorAnalysis": factor_analysis,
}
