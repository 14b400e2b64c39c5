import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, PolynomialFeatures

from tests.packing.exporters.equal import differences

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(5)
X = np.column_stack([RNG.normal(2, 3, 60), RNG.integers(0, 5, 60), RNG.exponential(4, 60)])
STRESS = np.concatenate(
    [X, np.array([[0.0, -0.0, 1e-200], [1e70, -1e70, 1e70], [-1e9, 1e-9, 1.0], [7e-309, 2.0, -3.0]])]
)

POLYNOMIALS = [
    PolynomialFeatures(),
    PolynomialFeatures(include_bias=False),
    PolynomialFeatures(interaction_only=True),
    PolynomialFeatures(3),
    PolynomialFeatures(4, include_bias=False, order="F"),
    PolynomialFeatures((2, 3)),
    PolynomialFeatures((3, 3), include_bias=False, interaction_only=True),
    PolynomialFeatures((0, 1)),
    PolynomialFeatures(1, include_bias=False),
    PolynomialFeatures(0),
]
BINS = [
    KBinsDiscretizer(n_bins, encode=encode, strategy=strategy)
    for n_bins in (4, [2, 5, 3])
    for encode in ("onehot", "onehot-dense", "ordinal")
    for strategy in ("uniform", "quantile", "kmeans")
]


@pytest.mark.parametrize("polynomial", POLYNOMIALS, ids=str)
def test_polynomial_features_equal_their_graph(polynomial):
    polynomial.fit(X)
    for rows in (STRESS, X[:1], X[:2], np.resize(STRESS, (1000, 3))):
        assert differences(polynomial, rows) == []


def test_polynomial_features_of_a_frame_equal_their_graph():
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).astype({"b": int})
    model = make_pipeline(PolynomialFeatures(3), LinearRegression()).fit(frame, X[:, 0])
    assert differences(model, frame) == []


@pytest.mark.parametrize("bins", BINS, ids=str)
def test_bins_equal_their_graph_at_and_next_to_their_edges(bins):
    bins.fit(X)
    edges = np.concatenate(bins.bin_edges_)
    around = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])[:, None]
    rows = np.concatenate([STRESS, around * np.ones(3)])
    assert differences(bins, rows) == []
    assert differences(bins, rows[:1]) == []


def test_bins_of_float32_equal_their_graph():
    bins = KBinsDiscretizer(5, encode="ordinal", dtype=np.float32).fit(X)
    edges = np.concatenate(bins.bin_edges_).astype(float)
    rows = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])[:, None] * np.ones(3)
    assert differences(bins, rows) == []


def test_the_bin_of_a_constant_column_equals_its_graph():
    rows = np.column_stack([X[:, 0], np.ones(60)])
    assert differences(KBinsDiscretizer(3, encode="ordinal").fit(rows), rows) == []
    assert differences(KBinsDiscretizer(3).fit(rows), rows + 1) == []
