import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches

X, SPECIES = (part[::2] for part in load_iris(return_X_y=True))
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
EXTREMES = np.array([0.0, -0.0, 1e-300, -1e-9, 1.0, 2.5, 1e3, -1e3, 1e6, -1e6])[:, None] * [1.0, -1.0, 0.5, 3.0]
STRESS = np.concatenate([X, EXTREMES])

SCORING, BAYES, TREE = RidgeClassifier(), GaussianNB(), DecisionTreeClassifier(max_depth=3, random_state=0)


@pytest.mark.parametrize("labels", [NAMES, SPECIES == 1], ids=["three", "two"])
@pytest.mark.parametrize("ensemble", [True, False], ids=["ensemble", "single"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", pytest.param("temperature", marks=pytest.mark.pinned)])
@pytest.mark.parametrize("inner", [SCORING, BAYES], ids=["scores", "probabilities"])
def test_a_calibrated_classifier_equals_its_graph(inner, method, ensemble, labels):
    model = CalibratedClassifierCV(inner, method=method, ensemble=ensemble, cv=3)
    assert differences_in_batches(model.fit(X, labels), STRESS) == []


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_calibrated_tree_ties_as_numpy_does(method):
    model = CalibratedClassifierCV(TREE, method=method, cv=3).fit(X, NAMES)
    assert differences_in_batches(model, STRESS) == []


def test_a_calibrated_forest_and_a_frozen_model_equal_their_graphs():
    forest = ExtraTreesClassifier(4, max_depth=3, random_state=0)
    assert differences_in_batches(CalibratedClassifierCV(forest, cv=2).fit(X, NAMES), STRESS) == []
    frozen = FrozenEstimator(LogisticRegression(C=0.1, tol=0.01).fit(X, NAMES))
    assert differences_in_batches(CalibratedClassifierCV(frozen).fit(X, NAMES), STRESS) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_class_that_is_missing_in_a_fold_has_no_probability():
    order = np.argsort(SPECIES, kind="stable")
    folds = [(np.flatnonzero(SPECIES[order] != 2), np.flatnonzero(SPECIES[order] >= 0))] * 2
    folds[1] = (np.arange(len(order)), np.arange(len(order)))
    model = CalibratedClassifierCV(DecisionTreeClassifier(max_depth=2), cv=folds).fit(X[order], SPECIES[order])
    assert differences_in_batches(model, STRESS) == []


@pytest.mark.pinned
def test_temperature_scaling_checks_the_whole_batch_for_probabilities():
    # The scores of one row in a hundred sum to 1 and lie in 0..1: alone they are taken for probabilities.
    model = CalibratedClassifierCV(SCORING, method="temperature", ensemble=False, cv=3).fit(X, NAMES)
    inner = model.calibrated_classifiers_[0].estimator
    inner.coef_ = np.eye(3, 4)
    inner.intercept_ = np.zeros(3)
    rows = np.array([[0.2, 0.3, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0], [0.2, 0.3, 0.4, 0.0], [3.0, -1.0, 2.0, 0.0]])
    for batch in (rows[:1], rows[:2], rows[1:2], rows[2:3], rows):
        assert differences_in_batches(model, batch, sizes=()) == []


def test_an_unknown_method_is_named():
    model = CalibratedClassifierCV(BAYES, cv=2).fit(X, NAMES)
    model.method = "another"
    with pytest.raises(NotExportable, match=r"^it calibrates by the method 'another'$"):
        differences_in_batches(model, X)


def test_isotonic_calibration_is_exact_at_its_knots():
    model = CalibratedClassifierCV(SCORING, method="isotonic", ensemble=False, cv=3).fit(X, NAMES)
    (pair,) = model.calibrated_classifiers_
    pair.estimator.coef_, pair.estimator.intercept_ = np.eye(3, 4), np.zeros(3)
    knots = np.concatenate([calibrator.X_thresholds_ for calibrator in pair.calibrators])
    around = np.concatenate([knots, np.nextafter(knots, 9), np.nextafter(knots, -9), [-1e300, 1e300]])
    rows = np.random.default_rng(0).choice(around, (500, 4))
    assert differences_in_batches(model, rows) == []
    pair.calibrators[1].fit([0.5, 0.5, 0.5], [0, 1, 1])
    assert len(pair.calibrators[1].X_thresholds_) == 1
    assert differences_in_batches(model, rows) == []
