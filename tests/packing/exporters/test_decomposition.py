import numpy as np
import pandas as pd
import pytest
from sklearn import decomposition as d
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from tests.packing.exporters.equal import differences

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(7)
X = RNG.normal(size=(80, 6)) @ RNG.normal(size=(6, 6)) + [0, 100, 0, -5, 2000, 1]
STRESS = np.concatenate([X, [np.zeros(6), -np.zeros(6), np.eye(6)[2] * 1e150, np.full(6, 1e-300)], X[:5] * 1e9])

PROJECTIONS = [
    d.PCA(),
    d.PCA(2),
    d.PCA(0.9, whiten=True),
    d.PCA(2, svd_solver="randomized", random_state=0),
    d.IncrementalPCA(3),
    d.IncrementalPCA(2, whiten=True),
    d.TruncatedSVD(3),
    d.TruncatedSVD(2, algorithm="arpack"),
    d.FastICA(3, random_state=0),
    d.FastICA(whiten=False, random_state=0, max_iter=20),
    d.FactorAnalysis(3),
    GaussianRandomProjection(4, random_state=0),
    SparseRandomProjection(4, random_state=0, density=0.5),
    SparseRandomProjection(4, random_state=0, dense_output=True),
]


@pytest.mark.parametrize("projection", PROJECTIONS, ids=str)
def test_a_projection_equals_its_graph(projection):
    projection.fit(X)
    for rows in (STRESS, X[:1], X[:2], np.resize(X, (1000, 6))):
        assert differences(projection, rows) == []


def test_a_projection_learned_from_labels_equals_its_graph():
    projection = NeighborhoodComponentsAnalysis(3, max_iter=3, random_state=0).fit(X, X[:, 0] > 0)
    assert differences(projection, STRESS) == []


def test_whitening_a_component_without_variance_equals_its_graph():
    flat = np.column_stack([X, X[:, 0]])
    assert differences(d.PCA(3, whiten=True).fit(flat), flat) == []


def test_a_projection_in_a_pipeline_of_a_frame_equals_its_graph():
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = make_pipeline(StandardScaler(), d.PCA(3), LogisticRegression()).fit(frame, X[:, 0] > 0)
    assert differences(model, frame) == []
