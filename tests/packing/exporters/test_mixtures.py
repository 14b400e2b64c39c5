import numpy as np
import pytest
from sklearn.covariance import EllipticEnvelope
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)) * [1, 3, 0.1, 3] + RNG.integers(0, 3, size=(120, 1)) * 3

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings about convergence, in fit


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("kind", [GaussianMixture, BayesianGaussianMixture])
@pytest.mark.parametrize("components", [1, 3])
def test_a_mixture_equals_its_graph(kind, covariance_type, components):
    model = kind(n_components=components, covariance_type=covariance_type, random_state=0, max_iter=20)
    assert differences_in_batches(model.fit(X), around(X)) == []


def test_a_mixture_with_dirichlet_weights_equals_its_graph():
    kind = "dirichlet_distribution"
    model = BayesianGaussianMixture(n_components=3, weight_concentration_prior_type=kind, random_state=0, max_iter=20)
    assert differences_in_batches(model.fit(X), around(X)) == []


def test_an_elliptic_envelope_equals_its_graph():
    assert differences_in_batches(EllipticEnvelope(random_state=0).fit(X), around(X)) == []
