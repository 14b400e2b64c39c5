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
    return (g.node("MatMul", [kernel, g.constant(est.normalization_.T)], "float64", len(est.normalization_)),)


def kernel_pca(g: Graph, est: Any, features: Features) -> Features:
    """`KernelPCA.transform`: the centred kernel between the row and the training rows, projected."""
    k = _kernel(
        g, est.kernel, g.matrix(features), est.X_fit_, gamma=kernel_gamma(est), degree=est.degree, coef0=est.coef0
    )
    centerer = est._centerer
    mean = g.node("ReduceSum", [k, g.constant([1], "int64")], "float64", 1)
    mean = g.node("Div", [mean, g.constant(float(len(centerer.K_fit_rows_)))], "float64", 1)
    k = g.node("Sub", [k, g.constant(centerer.K_fit_rows_)], "float64", k.width)
    k = g.node("Sub", [k, mean], "float64", k.width)
    k = g.node("Add", [k, g.constant(centerer.K_fit_all_)], "float64", k.width)
    nonzero = np.flatnonzero(est.eigenvalues_)
    scaled = np.zeros_like(est.eigenvectors_)
    scaled[:, nonzero] = est.eigenvectors_[:, nonzero] / np.sqrt(est.eigenvalues_[nonzero])
    return (g.node("MatMul", [k, g.constant(scaled)], "float64", scaled.shape[1]),)


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
    exponent = g.node("Mul", [distances, g.constant(-parameters["gamma"])], "float64", len(rows))
    return g.node("Exp", [exponent], "float64", len(rows))


def rbf_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`RBFSampler.transform`: cosines of random projections."""
    return (_cosines(g, g.matrix(features), est, (2.0 / est.n_components) ** 0.5),)


def skewed_chi2_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`SkewedChi2Sampler.transform`: cosines of random projections of logarithms; fails on values without one."""
    x = g.matrix(features)
    bad = g.node("LessOrEqual", [x, g.constant(-est.skewedness)], "bool", x.width)
    x = g.node("Add", [fail_where(g, bad, x), g.constant(est.skewedness)], "float64", x.width)
    return (_cosines(g, g.node("Log", [x], "float64", x.width), est, np.sqrt(2.0) / np.sqrt(est.n_components)),)


def _cosines(g: Graph, x: Tensor, est: Any, scale: float) -> Tensor:
    width = est.random_weights_.shape[1]
    x = g.node("MatMul", [x, g.constant(est.random_weights_)], "float64", width)
    x = g.node("Add", [x, g.constant(est.random_offset_)], "float64", width)
    return g.node("Mul", [g.node("Cos", [x], "float64", width), g.constant(scale)], "float64", width)


def additive_chi2_sampler(g: Graph, est: Any, features: Features) -> Features:
    """`AdditiveChi2Sampler.transform`: the sampled Fourier transform of the kernel; fails on negative values."""
    x = g.matrix(features)
    width = x.width
    x = fail_where(g, g.node("Less", [x, g.constant(0.0)], "bool", width), x)
    interval = {1: 0.8, 2: 0.5, 3: 0.4}[est.sample_steps] if est.sample_interval is None else est.sample_interval
    blocks = [g.node("Sqrt", [g.node("Mul", [x, g.constant(interval)], "float64", width)], "float64", width)]
    zero = g.node("Equal", [x, g.constant(0.0)], "bool", width)
    some = g.node("Where", [zero, g.constant(1.0), x], "float64", width)
    log = g.node("Mul", [g.node("Log", [some], "float64", width), g.constant(interval)], "float64", width)
    twice = g.node("Mul", [x, g.constant(2.0)], "float64", width)
    twice = g.node("Mul", [twice, g.constant(interval)], "float64", width)
    for j in range(1, est.sample_steps):
        factor = g.node("Div", [twice, g.constant(np.cosh(np.pi * j * interval))], "float64", width)
        factor = g.node("Sqrt", [factor], "float64", width)
        angle = g.node("Mul", [log, g.constant(float(j))], "float64", width)
        for wave in ("Cos", "Sin"):
            blocks.append(g.node("Mul", [factor, g.node(wave, [angle], "float64", width)], "float64", width))
    return tuple(blocks)


TRANSFORMERS: dict[str, Transform] = {
    "Nystroem": nystroem,
    "KernelPCA": kernel_pca,
    "RBFSampler": rbf_sampler,
    "SkewedChi2Sampler": skewed_chi2_sampler,
    "AdditiveChi2Sampler": additive_chi2_sampler,
}
