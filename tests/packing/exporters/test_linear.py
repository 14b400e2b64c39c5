import numpy as np
import pandas as pd
import pytest
from sklearn import discriminant_analysis as d
from sklearn import linear_model as m
from sklearn.svm import LinearSVC

from app.packing.exporters.graph import Graph, NotExportable
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.equal import differences
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)) * [1, 10, 0.1, 3] + [0, 5, 0, -3]
SCORE = X[:, 0] + X[:, 1] / 10 + RNG.normal(size=120) * 0.3
TWO = np.array(["no", "yes"])[(SCORE > 0.5).astype(int)]
THREE = np.digitize(SCORE, [0, 1])
LABELS = np.column_stack([SCORE > 0, X[:, 1] > 5, X[:, 0] > 0]).astype(int)

CLASSIFIERS = [
    m.LogisticRegression(max_iter=300),
    m.LogisticRegressionCV(Cs=2, cv=2, max_iter=300),
    m.SGDClassifier(loss="log_loss", random_state=0),
    m.SGDClassifier(loss="modified_huber", random_state=0),
    m.SGDClassifier(random_state=0),
    m.Perceptron(random_state=0),
    m.RidgeClassifier(),
    m.RidgeClassifierCV(),
    LinearSVC(random_state=0),
    LinearSVC(multi_class="crammer_singer", random_state=0),
    d.LinearDiscriminantAnalysis(),
    d.LinearDiscriminantAnalysis(solver="eigen"),
    d.LinearDiscriminantAnalysis(solver="lsqr"),
]
ignoring = pytest.mark.filterwarnings("ignore")  # warnings about convergence and deprecation, in fit


@ignoring
@pytest.mark.parametrize("target", [TWO, THREE, SCORE > 0.5], ids=["two", "three", "boolean"])
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_a_linear_classifier_equals_its_graph(classifier, target):
    assert differences_in_batches(classifier.fit(X, target), around(X)) == []


@ignoring
@pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])
def test_a_passive_aggressive_classifier_equals_its_graph(target):
    assert differences_in_batches(m.PassiveAggressiveClassifier(random_state=0).fit(X, target), around(X)) == []


def test_several_labels_are_those_with_positive_scores():
    assert differences_in_batches(m.RidgeClassifier().fit(X, LABELS), around(X)) == []


def test_a_one_class_svm_equals_its_graph():
    assert differences_in_batches(m.SGDOneClassSVM(random_state=0).fit(X), around(X)) == []


def test_probabilities_of_three_classes_that_are_all_nearly_zero_are_divided_by_their_sum():
    model = m.SGDClassifier(loss="log_loss", random_state=0).fit(X, THREE)
    model.coef_, model.intercept_ = np.eye(3, 4), np.array([-600.0, -601.0, -640.0])
    far = np.column_stack([np.linspace(-200, 100, 50), np.zeros(50), np.zeros(50), np.zeros(50)])
    assert differences_in_batches(model, far) == []


def test_columns_of_several_types_equal_their_graph():
    frame = pd.DataFrame({"a": X[:, 0], "b": np.arange(120) % 7, "c": SCORE > 1})
    assert differences(m.LogisticRegression().fit(frame, TWO), frame) == []


def test_the_solver_lsqr_has_no_projection():
    model = d.LinearDiscriminantAnalysis(solver="lsqr").fit(X, THREE)
    graph = Graph()
    with pytest.raises(
        NotExportable, match="the graph of the LinearDiscriminantAnalysis in it does not give transformed"
    ):
        graph.transform(model, (graph.input("x", "float64", 4),))
