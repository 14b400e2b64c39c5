"""Projections (PCA, factor analysis, random projections) and kernel approximations."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters import similarity
from app.packing.exporters.formulas import affine, fail_where, reduced
from app.packing.exporters.graph import Features, Graph, Tensor, transformer
from app.packing.releases import kernel_gamma


@transformer("PCA", "IncrementalPCA")
def pca(g: Graph, est: Any, features: Features) -> Features:
    """`_BasePCA._transform`: projected, then centered, then divided by the standard deviations if `whiten`."""
    x = g.matrix(features) @ est.components_.T - (est.mean_.reshape(1, -1) @ est.components_.T)
    if est.whiten:
        scale = np.sqrt(est.explained_variance_)
        scale[scale < np.finfo(scale.dtype).eps] = np.finfo(scale.dtype).eps
        x = x / scale
    return (x,)


@transformer("NeighborhoodComponentsAnalysis", "TruncatedSVD", "GaussianRandomProjection", "SparseRandomProjection")
def projection(g: Graph, est: Any, features: Features) -> Features:
    """`TruncatedSVD`, `NeighborhoodComponentsAnalysis` and random projections: x @ components_.T."""
    components = est.components_.toarray() if hasattr(est.components_, "toarray") else est.components_
    if any(g.sparse(block) for block in features):
        return (affine(g, features, components, 0.0),)
    return (g.matrix(features) @ components.T,)


@transformer("FastICA")
def fast_ica(g: Graph, est: Any, features: Features) -> Features:
    """`FastICA.transform`: (x - mean_) @ components_.T."""
    x = g.matrix(features)
    return ((x - est.mean_ if est.whiten else x) @ est.components_.T,)


@transformer("FactorAnalysis")
def factor_analysis(g: Graph, est: Any, features: Features) -> Features:
    """`FactorAnalysis.transform`: the posterior mean of the factors (Barber 21.2.33)."""
    weights = est.components_ / est.noise_variance_
    covariance = np.linalg.inv(np.eye(len(est.components_)) + weights @ est.components_.T)
    return ((g.matrix(features) - est.mean_) @ weights.T @ covariance,)


@transformer("Nystroem")
def nystroem(g: Graph, est: Any, features: Features) -> Features:
    """`Nystroem.transform`: the kernel between the batch and the sampled training rows, normalized."""
    parameters = dict(est.kernel_params or {})
    parameters |= {name: getattr(est, name) for name in ("gamma", "coef0", "degree") if getattr(est, name) is not None}
    kernel = _kernel(g, est.kernel, g.matrix(features), est.components_, **parameters)
    return (kernel @ est.normalization_.T,)


@transformer("KernelPCA")
def kernel_pca(g: Graph, est: Any, features: Features) -> Features:
    """`KernelPCA.transform`: the centered kernel between the batch and the training rows, projected."""
    k = _kernel(
        g, est.kernel, g.matrix(features), est.X_fit_, gamma=kernel_gamma(est), degree=est.degree, coef0=est.coef0
    )
    centerer = est._centerer
    mean = reduced(g, "ReduceSum", k) / float(len(centerer.K_fit_rows_))
    k = k - centerer.K_fit_rows_ - mean + centerer.K_fit_all_
    nonzero = np.flatnonzero(est.eigenvalues_)
    scaled = np.zeros_like(est.eigenvectors_)
    scaled[:, nonzero] = est.eigenvectors_[:, nonzero] / np.sqrt(est.eigenvalues_[nonzero])
    return (k @ scaled,)


def _kernel(g: Graph, kernel: Any, x: Tensor, rows: Any, **given: Any) -> Tensor:
    """`sklearn.metrics.pairwise.pairwise_kernels` between the batch and these rows: shape (rows, len(rows))."""
    defaults = {"gamma": 1.0 / rows.shape[1], "coef0": 1.0, "degree": 3.0}
    parameters = defaults | {name: value for name, value in given.items() if value is not None}
    if kernel == "rbf":
        return (similarity.expanded_squares(g, x, rows) * -float(parameters["gamma"])).exp()
    return similarity.pairwise_kernel(g, kernel, x, rows, **parameters)


@transformer("RBFSampler")
def rbf_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`RBFSampler.transform`: cosines of random projections."""
    return (_cosines(g.matrix(features), est, (2.0 / est.n_components) ** 0.5),)


@transformer("SkewedChi2Sampler")
def skewed_chi2_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`SkewedChi2Sampler.transform`: cosines of random projections of logarithms; fails where there is no logarithm."""
    x = g.matrix(features)
    x = fail_where(g, x <= -est.skewedness, x) + est.skewedness
    return (_cosines(x.log(), est, np.sqrt(2.0) / np.sqrt(est.n_components)),)


def _cosines(x: Tensor, est: Any, scale: float) -> Tensor:
    return (x @ np.asarray(est.random_weights_) + np.asarray(est.random_offset_)).cos() * scale


@transformer("AdditiveChi2Sampler")
def additive_chi2_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`AdditiveChi2Sampler.transform`: the sampled Fourier transform of the kernel; fails on negative values."""
    x = g.matrix(features)
    x = fail_where(g, x < 0.0, x)
    interval = {1: 0.8, 2: 0.5, 3: 0.4}[est.sample_steps] if est.sample_interval is None else est.sample_interval
    blocks = [(x * interval).sqrt()]
    log = g.where(x.equal(0.0), 1.0, x).log() * interval
    twice = x * 2.0 * interval
    for j in range(1, est.sample_steps):
        factor = (twice / np.cosh(np.pi * j * interval)).sqrt()
        angle = log * float(j)
        blocks += [factor * angle.cos(), factor * angle.sin()]
    return tuple(blocks)
