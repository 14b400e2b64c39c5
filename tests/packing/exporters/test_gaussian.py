from contextlib import nullcontext

import numpy as np
import pytest
from scipy.special import erf
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process import kernels as k
from sklearn.kernel_ridge import KernelRidge

from app.packing.exporters import functions
from app.packing.exporters.graph import Graph, NotExportable
from app.runtime.graph import session_of
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4))
ONE = X[:, 0] + X[:, 1] / 2 + RNG.normal(size=80) * 0.3
TWO = ONE > 0
THREE = np.digitize(ONE, [-0.5, 0.5])

RIDGES = [
    KernelRidge(),
    KernelRidge(kernel="rbf"),
    KernelRidge(kernel="rbf", gamma=0.1, alpha=0.01),
    KernelRidge(kernel="poly"),
    KernelRidge(kernel="polynomial", degree=2, coef0=0),
    KernelRidge(kernel="sigmoid"),
    KernelRidge(kernel="laplacian"),
    KernelRidge(kernel="cosine"),
]
KERNELS = [
    None,
    k.ConstantKernel(2.0) * k.RBF() + k.WhiteKernel(),
    k.RBF([1, 2, 3, 4]),
    k.Matern(nu=0.5),
    k.Matern(nu=1.5),
    k.Matern(nu=2.5),
    k.Matern(nu=np.inf),
    k.RationalQuadratic(),
    k.ExpSineSquared(periodicity=3.0) + k.WhiteKernel(50.0),
    k.DotProduct() ** 2,
    k.PairwiseKernel(metric="rbf"),
    k.PairwiseKernel(metric="laplacian", gamma=0.3),
]


@pytest.mark.parametrize("ridge", RIDGES, ids=str)
def test_kernel_ridge_equals_its_graph(ridge):
    with pytest.warns() if ridge.kernel == "sigmoid" else nullcontext():  # its matrix is not positive definite
        ridge.fit(X, ONE)
    assert differences_in_batches(ridge, around(X)) == []


def test_kernel_ridge_of_several_targets_equals_its_graph():
    assert differences_in_batches(KernelRidge(kernel="rbf").fit(X, np.column_stack([ONE, TWO])), around(X)) == []


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_process_regressor_equals_its_graph(kernel):
    model = GaussianProcessRegressor(kernel, optimizer=None, alpha=1.0).fit(X, ONE)
    assert differences_in_batches(model, around(X)) == []


@pytest.mark.parametrize("target", [ONE, np.column_stack([ONE, TWO])], ids=["one", "two"])
def test_a_process_regressor_of_normalized_targets_equals_its_graph(target):
    model = GaussianProcessRegressor(alpha=0.1, normalize_y=True).fit(X, target)
    assert differences_in_batches(model, around(X)) == []


@pytest.mark.parametrize("kernel", [None, k.DotProduct() + 2 * k.Matern()], ids=str)
def test_a_process_classifier_of_two_classes_equals_its_graph(kernel):
    model = GaussianProcessClassifier(kernel, optimizer=None).fit(X, TWO)
    assert differences_in_batches(model, around(X)) == []


@pytest.mark.parametrize("multi_class", ["one_vs_rest", "one_vs_one"])
def test_a_process_classifier_of_three_classes_equals_its_graph(multi_class):
    model = GaussianProcessClassifier(multi_class=multi_class, optimizer=None).fit(X, THREE)
    assert differences_in_batches(model, around(X)) == []


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (k.Matern(nu=1.7), "its kernel is Matern with nu=1.7"),
        (k.ConstantKernel() + k.WhiteKernel(), "its kernel is constant"),
        (k.PairwiseKernel(metric="chi2"), "its kernel is chi2"),
    ],
    ids=str,
)
def test_a_kernel_without_a_graph_is_named(kernel, reason):
    rows = np.abs(X)
    with pytest.raises(NotExportable, match=reason):
        differences_in_batches(GaussianProcessRegressor(kernel, optimizer=None, alpha=1.0).fit(rows, ONE), rows)


def test_the_error_function_equals_that_of_scipy():
    values = np.concatenate([np.linspace(-9, 9, 5001), [0.0, -0.0, 1e-300, 1e-9, 40.0, -1e300, np.inf]])
    graph = Graph()
    model = graph.model({"erf": functions.erf(graph, graph.input("x", "float64", 1))})
    (got,) = session_of(model.SerializeToString()).run(None, {"x": values[:, None]})
    assert np.abs(got[:, 0] - erf(values)).max() < 3e-16
