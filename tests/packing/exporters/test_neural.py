import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 4))
TWO = np.array(["no", "yes"])[(X[:, 0] > 0.2).astype(int)]
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
LABELS = np.column_stack([X[:, 0] > 0, X[:, 1] > 0])

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings about convergence, in fit


@pytest.mark.parametrize("target", [TWO, THREE, LABELS.astype(int)], ids=["two", "three", "labels"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_a_perceptron_classifier_equals_its_graph(activation, target):
    model = MLPClassifier((6, 5), activation=activation, max_iter=20, random_state=0)
    assert differences_in_batches(model.fit(X, target), around(X)) == []


@pytest.mark.parametrize("target", [X[:, 0], X[:, :2]], ids=["one", "two"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_perceptron_regressor_equals_its_graph(activation, target):
    model = MLPRegressor(hidden_layer_sizes=(6,), activation=activation, max_iter=20, random_state=0)
    assert differences_in_batches(model.fit(X, target), around(X)) == []


@pytest.mark.pinned
def test_a_perceptron_regressor_of_counts_equals_its_graph():
    model = MLPRegressor(loss="poisson", hidden_layer_sizes=(6,), max_iter=20, random_state=0)
    rows = around(X)[np.abs(around(X)).max(axis=1) < 1e3]  # beyond these values the exponential overflows
    assert differences_in_batches(model.fit(X, np.abs(X[:, 0])), rows) == []
