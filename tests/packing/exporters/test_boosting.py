import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from app.packing.exporters.graph import NotExportable
from app.packing.stress import thresholds_of
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.thresholds import near

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(120, 4)), 3)
NUMBER = X[:, 0] + np.sin(3 * X[:, 1]) + RNG.normal(size=120)
TWO = np.array(["no", "yes"])[(NUMBER > 0).astype(int)]
THREE = np.digitize(NUMBER, [-1, 1])
START = DecisionTreeClassifier(max_depth=2)


def differences(model, target):
    model.set_params(random_state=0).fit(X, target)
    return differences_in_batches(model, near(X, thresholds_of(model, 4)))


@pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize(
    "options", [{}, {"init": "zero"}, {"init": START}, {"init": RandomForestClassifier(3)}], ids=str
)
@pytest.mark.parametrize("count", [1, 15])
def test_a_classifier_equals_its_graph(options, target, count):
    assert differences(GradientBoostingClassifier(n_estimators=count, **options), target) == []


def test_many_trees_equal_their_graph():
    assert differences(GradientBoostingClassifier(n_estimators=90, max_depth=1), TWO) == []


@pytest.mark.parametrize("options", [{}, {"init": "zero"}, {"init": START}], ids=str)
def test_a_classifier_with_exponential_loss_equals_its_graph(options):
    assert differences(GradientBoostingClassifier(n_estimators=20, loss="exponential", **options), TWO) == []


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "quantile"])
@pytest.mark.parametrize("init", [None, "zero", DecisionTreeRegressor(max_depth=2)], ids=repr)
def test_a_regressor_equals_its_graph(loss, init):
    assert differences(GradientBoostingRegressor(n_estimators=10, loss=loss, init=init), NUMBER) == []


def test_an_init_estimator_that_computes_in_float32_has_no_graph():
    model = GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()).fit(X, TWO)
    with pytest.raises(NotExportable, match="its init estimator, LogisticRegression, computes in float32"):
        differences_in_batches(model, X)
