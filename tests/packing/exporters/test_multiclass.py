import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches

X, SPECIES = (part[::2] for part in load_iris(return_X_y=True))
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
EXTREMES = np.array([0.0, -0.0, 1e-300, -1e-9, 1.0, 2.5, 1e3, -1e3, 1e8, -1e15])[:, None] * [1.0, -1.0, 0.5, 3.0]
STRESS = np.concatenate([X, EXTREMES])
LABELS = np.column_stack([SPECIES == 1, X[:, 0] > 5.8, X[:, 1] > 3]).astype(int)

TREE = DecisionTreeClassifier(max_depth=2, random_state=0)
MEMBERS = [LogisticRegression(C=0.1, tol=0.01), RidgeClassifier(), GaussianNB(), TREE]
REGRESSORS = [LinearRegression(), DecisionTreeRegressor(max_depth=2, random_state=0)]
MANY = np.random.default_rng(0).integers(0, 5, len(X))


@pytest.mark.parametrize("labels", [NAMES, SPECIES > 0, LABELS], ids=["three", "two", "multilabel"])
@pytest.mark.parametrize("member", MEMBERS + REGRESSORS, ids=str)
def test_one_vs_rest_equals_its_graph(member, labels):
    assert differences_in_batches(OneVsRestClassifier(member).fit(X, labels), STRESS) == []


@pytest.mark.parametrize("labels", [NAMES, SPECIES > 0, MANY], ids=["three", "two", "five"])
@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_one_vs_one_equals_its_graph(member, labels):
    assert differences_in_batches(OneVsOneClassifier(member).fit(X, labels), STRESS) == []


@pytest.mark.parametrize("labels", [NAMES, MANY], ids=["three", "five"])
@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_output_codes_equal_their_graph(member, labels):
    model = OutputCodeClassifier(member, code_size=2, random_state=1)
    assert differences_in_batches(model.fit(X, labels), STRESS) == []


def test_codes_that_are_equal_tie_as_in_scikit_learn():
    model = OutputCodeClassifier(TREE, code_size=0.3, random_state=0).fit(X, MANY)
    assert len(np.unique(model.code_book_, axis=0)) < len(model.code_book_)
    assert differences_in_batches(model, STRESS) == []


@pytest.mark.filterwarnings("ignore:Label .* is present in all:UserWarning")
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("always", [0, 1])
def test_a_label_of_all_or_no_training_rows_equals_its_graph(always, place):
    labels = LABELS.copy()
    labels[:, place] = always
    for member in (MEMBERS[0], GaussianNB()):
        assert differences_in_batches(OneVsRestClassifier(member).fit(X, labels), STRESS) == []


def test_a_model_without_a_graph_is_refused_with_the_reason():
    single = OneVsRestClassifier(LogisticRegression(C=0.1, tol=0.01))
    with pytest.warns(UserWarning, match="present in all"):
        single.fit(X, np.zeros(len(X), dtype=int))
    with pytest.raises(NotExportable, match=r"^it knows a single class$"):
        differences_in_batches(single, X)
    kernel = OneVsOneClassifier(SVC(kernel="precomputed")).fit(RBF()(X[::5]), NAMES[::5])
    with pytest.raises(NotExportable, match=r"^it is fitted on a kernel matrix$"):
        differences_in_batches(kernel, RBF()(X[::5]))
