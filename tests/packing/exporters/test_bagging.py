import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier, AdaBoostRegressor, BaggingClassifier, BaggingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from app.packing.exporters.graph import NotExportable
from app.packing.stress import thresholds_of
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.thresholds import near

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(120, 4)), 2)
NUMBER = X[:, 0] + np.sin(3 * X[:, 1]) + RNG.normal(size=120)
TWO = np.array(["no", "yes"])[(NUMBER > 0).astype(int)]
THREE = np.digitize(NUMBER, [-1, 1])
HALF = {"max_features": 0.5, "n_estimators": 4}

CLASSIFIERS = [
    AdaBoostClassifier(n_estimators=1),
    AdaBoostClassifier(n_estimators=20),
    AdaBoostClassifier(DecisionTreeClassifier(max_depth=3), n_estimators=10),
    AdaBoostClassifier(LogisticRegression(), n_estimators=4),
    BaggingClassifier(n_estimators=10),
    BaggingClassifier(bootstrap_features=True, **HALF),
    BaggingClassifier(max_samples=3, n_estimators=10),
    BaggingClassifier(LogisticRegression(), **HALF),
    BaggingClassifier(LogisticRegression(), max_samples=6, n_estimators=4),
    BaggingClassifier(LinearSVC(), **HALF),
]
REGRESSORS = [
    *(AdaBoostRegressor(n_estimators=8, loss=loss) for loss in ("linear", "square", "exponential")),
    AdaBoostRegressor(n_estimators=1),
    AdaBoostRegressor(DecisionTreeRegressor(max_depth=1), n_estimators=30),
    AdaBoostRegressor(Ridge(), n_estimators=5),
    BaggingRegressor(),
    BaggingRegressor(**HALF),
    BaggingRegressor(Ridge(), **HALF),
]


def differences(model, target):
    model.set_params(random_state=0).fit(X, target)
    return differences_in_batches(model, near(X, thresholds_of(model, 4)))


@pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("model", CLASSIFIERS, ids=repr)
def test_a_classifier_equals_its_graph(model, target):
    assert differences(model, target) == []


@pytest.mark.parametrize("model", REGRESSORS, ids=repr)
def test_a_regressor_equals_its_graph(model):
    assert differences(model, NUMBER) == []


@pytest.mark.parametrize("model", REGRESSORS[-3:], ids=repr)
def test_a_regressor_of_several_targets_equals_its_graph(model):
    assert differences(model, np.column_stack([NUMBER, -(NUMBER**2)])) == []


def test_a_classifier_of_one_class_has_no_graph():
    model = AdaBoostClassifier(n_estimators=2).fit(X, np.ones(120))
    with pytest.raises(NotExportable, match="it knows one class only"):
        differences_in_batches(model, X)
