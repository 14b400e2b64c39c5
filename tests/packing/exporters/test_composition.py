import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (HalvingGridSearchCV exists after it)
from sklearn.feature_selection import RFE, RFECV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.tree import DecisionTreeClassifier

from tests.packing.exporters.batches import differences_in_batches

X, SPECIES = (part[::2] for part in load_iris(return_X_y=True))
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
EXTREMES = np.array([0.0, -0.0, 1e-300, -1e-9, 1.0, 2.5, 1e6, -1e6, 1e12])[:, None] * [1.0, -1.0, 0.5, 3.0]
STRESS = np.concatenate([X, EXTREMES])
BIG = np.where(X[:, 0] > 5.8, "big", "small")

TREE = DecisionTreeClassifier(random_state=0)
DEPTHS = {"max_depth": [1, 2, 3]}
LOGISTIC = LogisticRegression(C=0.1, tol=0.01)


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(TREE, DEPTHS, cv=2),
        GridSearchCV(make_pipeline(StandardScaler(), LOGISTIC), {"logisticregression__C": [0.1, 1]}, cv=2),
        RandomizedSearchCV(TREE, DEPTHS, n_iter=2, cv=2, random_state=0),
        HalvingGridSearchCV(TREE, DEPTHS, cv=2, min_resources=20, random_state=0),
        HalvingRandomSearchCV(TREE, DEPTHS, cv=2, min_resources=20, random_state=0),
        RFE(LOGISTIC, n_features_to_select=2),
        RFECV(TREE, cv=2),
        RFE(LinearRegression(), n_features_to_select=3),
    ],
    ids=str,
)
def test_a_model_around_a_model_equals_its_graph(search):
    labels = SPECIES if isinstance(getattr(search, "estimator", None), LinearRegression) else NAMES
    assert differences_in_batches(search.fit(X, labels), STRESS) == []


def test_self_training_equals_its_graph():
    half = np.where(np.arange(len(X)) % 2, SPECIES, -1)
    assert differences_in_batches(SelfTrainingClassifier(GaussianNB()).fit(X, half), STRESS) == []


def test_a_search_over_a_transformer_equals_its_graph():
    search = GridSearchCV(PCA(), {"n_components": [1, 2]}, cv=2).fit(X)
    assert differences_in_batches(search, STRESS[:-1]) == []
    assert differences_in_batches(make_pipeline(search, LOGISTIC).fit(X, NAMES), STRESS[:-1]) == []


@pytest.mark.parametrize("positive", [None, "big", "small"])
@pytest.mark.parametrize("threshold", ["auto", 0.3, 1.0])
@pytest.mark.parametrize("inner", [LOGISTIC, RidgeClassifier(), TREE.set_params(max_depth=2)], ids=str)
def test_a_fixed_threshold_equals_its_graph(inner, threshold, positive):
    model = FixedThresholdClassifier(inner, threshold=threshold, pos_label=positive)
    assert differences_in_batches(model.fit(X, BIG), STRESS) == []


def test_a_fixed_threshold_on_a_given_response_equals_its_graph():
    for method in ("predict_proba", "decision_function"):
        model = FixedThresholdClassifier(LOGISTIC, response_method=method, pos_label="big", threshold=0.25)
        assert differences_in_batches(model.fit(X, BIG), STRESS) == []
    model = FixedThresholdClassifier(FrozenEstimator(GaussianNB().fit(X, BIG)), threshold=0.7)
    assert differences_in_batches(model.fit(X, BIG), STRESS) == []


@pytest.mark.parametrize("positive", ["big", "small"])
def test_a_tuned_threshold_equals_its_graph(positive):
    scoring = make_scorer(f1_score, pos_label=positive)
    model = TunedThresholdClassifierCV(LOGISTIC, scoring=scoring, cv=2, thresholds=20)
    assert differences_in_batches(model.fit(X, BIG), STRESS) == []
    model = TunedThresholdClassifierCV(LOGISTIC, response_method="decision_function", cv=2, thresholds=20)
    assert differences_in_batches(model.fit(X, SPECIES == 1), STRESS) == []


def test_scores_equal_to_the_threshold_are_positive():
    tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, BIG)
    for score in np.unique(tree.predict_proba(X)[:, 1]):
        model = FixedThresholdClassifier(FrozenEstimator(tree), threshold=float(score)).fit(X, BIG)
        assert differences_in_batches(model, X) == []
