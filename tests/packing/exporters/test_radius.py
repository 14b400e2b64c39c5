import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from sklearn import neighbors as n

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import answered, around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
CLASS = np.digitize(X[:, 0] + RNG.normal(size=120) * 0.3, [-0.7, 0.7])

by_algorithm = pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
by_weights = pytest.mark.parametrize("weights", ["uniform", "distance"])


@by_algorithm
@by_weights
@pytest.mark.parametrize("outlier_label", [1, 7, "most_frequent"])
def test_a_radius_classifier_equals_its_graph(algorithm, weights, outlier_label):
    model = n.RadiusNeighborsClassifier(0.8, algorithm=algorithm, weights=weights, outlier_label=outlier_label)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # the warning that the outlier label is not a class
        assert differences_in_batches(model.fit(X, CLASS), around(X), cancels=algorithm == "brute") == []


def test_a_row_without_neighbours_makes_the_graph_fail():
    model = n.RadiusNeighborsClassifier(0.8).fit(X, CLASS)
    assert differences_in_batches(model, X) == []
    with pytest.raises(ValueError, match="No neighbors found"):
        model.predict(X + 100)
    with pytest.raises(InvalidArgument):
        answered(model, X, X + 100)


@by_algorithm
@by_weights
@pytest.mark.parametrize("target", [X[:, 0], CLASS, X[:, :2]], ids=["one", "whole", "two"])
def test_a_radius_regressor_equals_its_graph(algorithm, weights, target):
    model = n.RadiusNeighborsRegressor(0.8, algorithm=algorithm, weights=weights)
    assert differences_in_batches(model.fit(X, target), around(X), cancels=algorithm == "brute") == []


@pytest.mark.parametrize("options", [{}, {"metric": "manhattan"}, {"priors": "empirical"}, {"shrink_threshold": 0.2}])
def test_a_nearest_centroid_equals_its_graph(options):
    rows = around(X)[np.abs(around(X)).max(axis=1) < 1e9]  # beyond these values every score is rounding noise
    assert differences_in_batches(n.NearestCentroid(**options).fit(X, CLASS), rows) == []


def test_several_targets_are_refused():
    model = n.RadiusNeighborsClassifier(9.0).fit(X, np.column_stack([CLASS, CLASS]))
    with pytest.raises(NotExportable, match="it has several targets"):
        differences_in_batches(model, X)
