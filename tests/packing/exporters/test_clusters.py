import numpy as np
import pytest
from sklearn import cluster as c
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)) + RNG.integers(0, 3, size=(120, 1)) * 4

CLUSTERERS = [
    c.KMeans(4, random_state=0),
    c.MiniBatchKMeans(4, random_state=0),
    c.BisectingKMeans(5, random_state=0),
    c.BisectingKMeans(7, init="random", bisecting_strategy="largest_cluster", random_state=0),
    c.MeanShift(),
    c.AffinityPropagation(random_state=0),
    c.Birch(threshold=2.0),
    c.Birch(threshold=2.0, n_clusters=None),
]


@pytest.mark.parametrize("clusterer", CLUSTERERS, ids=str)
def test_a_clusterer_equals_its_graph(clusterer):
    assert differences_in_batches(clusterer.fit(X), around(X)) == []


@pytest.mark.parametrize("clusterer", [CLUSTERERS[0], CLUSTERERS[1], CLUSTERERS[2], CLUSTERERS[6]], ids=str)
def test_distances_as_columns_equal_their_graph(clusterer):
    pipeline = make_pipeline(clusterer, Ridge()).fit(X, X[:, 0])
    assert differences_in_batches(pipeline, around(X)) == []


@pytest.mark.parametrize("clusterer", [c.KMeans(2), c.MeanShift(), c.Birch(threshold=0.1)], ids=str)
def test_the_same_of_several_equally_near_centers_is_chosen(clusterer):
    corners = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]] * 5)
    between = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [1e8, 1e8]])
    assert differences_in_batches(clusterer.fit(corners), np.vstack([corners, between])) == []


def test_a_model_without_clusters_has_no_graph():
    model = c.AffinityPropagation(random_state=0).fit(X)
    model.cluster_centers_ = np.empty((0, 4))
    with pytest.raises(NotExportable, match="it found no clusters"):
        differences_in_batches(model, X)
