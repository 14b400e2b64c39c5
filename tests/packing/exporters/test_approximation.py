import numpy as np
import pytest
from sklearn import kernel_approximation as ka
from sklearn.decomposition import KernelPCA

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.equal import differences

RNG = np.random.default_rng(8)
X = RNG.normal(size=(50, 5)) * [1, 2, 0.5, 1, 3] + [0, 1, 0, -2, 5]
STRESS = np.concatenate([X, np.zeros((1, 5)), X[:3] * 100, np.full((1, 5), 1e-300)])
KERNELS = ["rbf", "linear", "poly", "sigmoid", "cosine"]


@pytest.mark.parametrize("kernel", [*KERNELS, "laplacian", "polynomial"])
@pytest.mark.parametrize("options", [{}, {"gamma": 0.05}], ids=str)
def test_nystroem_equals_its_graph(kernel, options):
    options = {} if kernel in ("linear", "cosine") else options
    # With more components than the kernel has dimensions, normalization divides by tiny numbers and magnifies rounding.
    components = 20 if kernel in ("rbf", "laplacian") else 4
    map_ = ka.Nystroem(kernel, n_components=components, random_state=0, **options).fit(X)
    assert differences(map_, STRESS) == []
    assert differences(map_, X[:1]) == []


def test_the_parameters_of_the_kernel_are_used():
    poly = ka.Nystroem("poly", degree=2, coef0=0.5, n_components=10, random_state=0).fit(X)
    assert differences(poly, STRESS) == []
    given = ka.Nystroem("rbf", kernel_params={"gamma": 0.01}, n_components=10, random_state=0).fit(X)
    assert differences(given, STRESS) == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_pca_equals_its_graph(kernel):
    assert differences(KernelPCA(3, kernel=kernel).fit(X), X) == []
    assert differences(KernelPCA(2, kernel=kernel, gamma=0.01, coef0=2, degree=2).fit(X), STRESS) == []


@pytest.mark.pinned
def test_a_sampler_equals_its_graph():
    assert differences(ka.RBFSampler(gamma=0.4, random_state=0).fit(X), STRESS) == []
    assert differences(ka.RBFSampler(gamma="scale", n_components=7, random_state=0).fit(X), X[:1]) == []
    positive = np.concatenate([np.abs(X), np.zeros((1, 5)), [[1e-300, 1e9, 1.0, 0.0, -0.0]]])
    assert differences(ka.SkewedChi2Sampler(skewedness=0.2, random_state=0).fit(positive), positive) == []
    for steps in (1, 2, 3):
        assert differences(ka.AdditiveChi2Sampler(sample_steps=steps).fit(positive), positive) == []
    assert differences(ka.AdditiveChi2Sampler(sample_steps=4, sample_interval=0.7).fit(positive), positive[:1]) == []


def test_other_kernels_have_no_graph():
    with pytest.raises(NotExportable, match="its kernel is chi2"):
        differences(ka.Nystroem("chi2", n_components=5).fit(np.abs(X)), np.abs(X))
    with pytest.raises(NotExportable, match="its kernel is a function"):
        differences(ka.Nystroem(lambda a, b: a @ b, n_components=5).fit(X), X)
