import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches

X, SPECIES = (part[::2] for part in load_iris(return_X_y=True))
EXTREMES = np.array([0.0, -0.0, 1e-300, -1e-9, 1.0, 2.5, 1e6, -1e6, 1e12])[:, None] * [1.0, -1.0, 0.5, 3.0]
STRESS = np.concatenate([X, EXTREMES])
LABELS = np.column_stack([SPECIES == 1, X[:, 0] > 5.8, X[:, 1] > 3]).astype(int)
TARGETS = np.column_stack([X[:, 0] + X[:, 1], X[:, 2] ** 2, X[:, 3] * X[:, 0]])
TREE = DecisionTreeClassifier(max_depth=3, random_state=0)

NAMED = np.column_stack(
    [np.array(["setosa", "versicolor", "virginica"])[SPECIES], np.where(X[:, 0] > 5.8, "big", "small")]
)
OTHER = {
    "strings": NAMED,
    "floats": LABELS * 2.0,
    "ints": LABELS + np.array([0, 5, -3]),
    "three": LABELS + SPECIES[:, None],
}


@pytest.mark.parametrize("labels", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("member", [LogisticRegression(C=0.1, tol=0.01), TREE, RidgeClassifier()], ids=str)
def test_independent_classifiers_equal_their_graph(member, labels):
    assert differences_in_batches(MultiOutputClassifier(member).fit(X, labels), STRESS) == []


@pytest.mark.parametrize("member", [Ridge(), DecisionTreeRegressor(max_depth=4, random_state=0)], ids=str)
def test_independent_and_chained_regressors_equal_their_graph(member):
    assert differences_in_batches(MultiOutputRegressor(member).fit(X, TARGETS), STRESS) == []
    assert differences_in_batches(RegressorChain(member).fit(X, TARGETS), STRESS) == []
    assert differences_in_batches(RegressorChain(member, order=[2, 0, 1], cv=2).fit(X, TARGETS), STRESS) == []


@pytest.mark.parametrize(
    "member", [LogisticRegression(C=0.1, tol=0.01), TREE, GaussianNB(), RidgeClassifier()], ids=str
)
def test_a_chain_of_classifiers_equals_its_graph(member):
    assert differences_in_batches(ClassifierChain(member).fit(X, LABELS), STRESS) == []
    assert differences_in_batches(ClassifierChain(member, order=[1, 2, 0], cv=2).fit(X, LABELS), STRESS) == []


@pytest.mark.parametrize("method", ["predict_proba", "decision_function", "predict_log_proba"])
def test_a_chain_passes_on_the_chosen_response(method):
    model = ClassifierChain(LogisticRegression(C=0.1, tol=0.01), chain_method=method).fit(X, LABELS)
    if method == "predict_log_proba":
        with pytest.raises(NotExportable, match=r"^its chain passes on predict_log_proba$"):
            differences_in_batches(model, X)
    else:
        assert differences_in_batches(model, STRESS) == []


def test_a_chain_of_many_classes_equals_its_graph():
    labels = LABELS + SPECIES[:, None]
    assert differences_in_batches(ClassifierChain(TREE).fit(X, labels), STRESS) == []


def test_targets_of_different_types_have_no_graph():
    model = MultiOutputClassifier(TREE).fit(X, LABELS)
    model.estimators_[1] = DecisionTreeClassifier(max_depth=2).fit(X, SPECIES.astype(str))
    with pytest.raises(NotExportable, match=r"^some of its targets are strings and some are numbers$"):
        differences_in_batches(model, X)
