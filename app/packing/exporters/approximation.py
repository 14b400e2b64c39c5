"""Kernel approximations and kernel PCA: kernels with chosen rows, or random features."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters import similarity
from app.packing.exporters.graph import Features, Graph, Tensor, Transform
from app.packing.exporters.links import fail_where
from app.packing.releases import kernel_gamma


def nystroem(g: Graph, est: Any, features: Features) -> Features:
    """`Nystroem.transform`: the kernel between the row and the chosen rows, normalized."""
    parameters = dict(est.kernel_params or {})
    parameters |= {name: getattr(est, name) for name in ("gamma", "coef0", "degree") if getattr(est, name) is not None}
    kernel = _kernel(g, est.kernel, g.matrix(features), est.components_, **parameters)
    return (kernel @ est.normalization_.T,)


def kernel_pca(g: Graph, est: Any, features: Features) -> Features:
    """`KernelPCA.transform`: the centred kernel between the row and the training rows, projected."""
    k = _kernel(
        g, est.kernel, g.matrix(features), est.X_fit_, gamma=kernel_gamma(est), degree=est.degree, coef0=est.coef0
    )
    centerer = est._centerer
    mean = g.node("ReduceSum", [k, g.constant([1], "int64")], "float64", 1)
    mean = mean / float(len(centerer.K_fit_rows_))
    k = k - centerer.K_fit_rows_ - mean + centerer.K_fit_all_
    nonzero = np.flatnonzero(est.eigenvalues_)
    scaled = np.zeros_like(est.eigenvectors_)
    scaled[:, nonzero] = est.eigenvectors_[:, nonzero] / np.sqrt(est.eigenvalues_[nonzero])
    return (k @ scaled,)


def _kernel(g: Graph, kernel: Any, x: Tensor, rows: Any, **given: Any) -> Tensor:
    """`sklearn.metrics.pairwise.pairwise_kernels` of the batch and these rows, shape (rows, len(rows)).

    Raises:
        NotExportable: There is no graph for the kernel.
    """
    defaults = {"gamma": 1.0 / rows.shape[1], "coef0": 1.0, "degree": 3.0}
    parameters = defaults | {name: value for name, value in given.items() if value is not None}
    if kernel != "rbf":
        return similarity.named(g, kernel, x, rows, **parameters)
    distances = similarity.expanded_squares(g, x, rows)
    return (distances * -float(parameters["gamma"])).exp()


def rbf_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`RBFSampler.transform`: cosines of random projections."""
    return (_cosines(g, g.matrix(features), est, (2.0 / est.n_components) ** 0.5),)


def skewed_chi2_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`SkewedChi2Sampler.transform`: cosines of random projections of logarithms; fails on values without one."""
    x = g.matrix(features)
    x = fail_where(g, x <= -est.skewedness, x) + est.skewedness
    return (_cosines(g, x.log(), est, np.sqrt(2.0) / np.sqrt(est.n_components)),)


def _cosines(g: Graph, x: Tensor, est: Any, scale: float) -> Tensor:
    width = est.random_weights_.shape[1]
    x = x @ est.random_weights_ + est.random_offset_
    return g.node("Cos", [x], "float64", width) * scale


def additive_chi2_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`AdditiveChi2Sampler.transform`: the sampled Fourier transform of the kernel; fails on negative values."""
    x = g.matrix(features)
    width = x.width
    x = fail_where(g, x < 0.0, x)
    interval = {1: 0.8, 2: 0.5, 3: 0.4}[est.sample_steps] if est.sample_interval is None else est.sample_interval
    blocks = [(x * interval).sqrt()]
    log = g.where(x.equal(0.0), 1.0, x).log() * interval
    twice = x * 2.0 * interval
    for j in range(1, est.sample_steps):
        factor = (twice / np.cosh(np.pi * j * interval)).sqrt()
        angle = log * float(j)
        for wave in ("Cos", "Sin"):
            blocks.append(factor * g.node(wave, [angle], "float64", width))
    return tuple(blocks)


TRANSFORMERS: dict[str, Transform] = {
    "Nystroem": nystroem,
    "KernelPCA": kernel_pca,
    "RBFSampler": rbf_sampler,
    "SkewedChi2Sampler": skewed_chi2_sampler,
    "AdditiveChi2Sampler": additive_chi2_sampler,
}
