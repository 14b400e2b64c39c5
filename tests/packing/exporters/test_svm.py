import numpy as np
import pytest
from sklearn import svm as s

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
SCORE = X[:, 0] + X[:, 1] / 2 + RNG.normal(size=120) * 0.3
TWO = np.array(["no", "yes"])[(SCORE > 0.2).astype(int)]
FOUR = np.digitize(SCORE, [-0.7, 0, 0.7])

CLASSIFIERS = [
    s.SVC(),
    s.SVC(kernel="linear"),
    s.SVC(kernel="poly"),
    s.SVC(kernel="poly", degree=5, coef0=1),
    s.SVC(kernel="poly", degree=0),
    s.SVC(kernel="sigmoid"),
    s.SVC(gamma="auto", C=100),
    s.NuSVC(nu=0.1),
    s.SVC(decision_function_shape="ovo"),
    s.SVC(break_ties=True),
]
REGRESSORS = [s.SVR(), s.SVR(kernel="linear"), s.SVR(kernel="poly"), s.SVR(C=1000), s.NuSVR(), s.NuSVR(gamma=3.0)]
ignoring = pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")


@pytest.mark.parametrize("target", [TWO, FOUR], ids=["two", "four"])
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_a_classifier_equals_its_graph(classifier, target):
    assert differences_in_batches(classifier.fit(X, target), around(X)) == []


@ignoring
@pytest.mark.parametrize("target", [TWO, FOUR], ids=["two", "four"])
@pytest.mark.parametrize("kind", [s.SVC, s.NuSVC])
def test_probabilities_equal_their_graph(kind, target):
    options = {"nu": 0.1} if kind is s.NuSVC else {}
    model = kind(probability=True, random_state=0, **options).fit(X, target)
    assert differences_in_batches(model, around(X)) == []


@pytest.mark.parametrize("regressor", REGRESSORS, ids=str)
def test_a_regressor_equals_its_graph(regressor):
    assert differences_in_batches(regressor.fit(X, SCORE), around(X)) == []


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_a_one_class_svm_equals_its_graph(kernel):
    assert differences_in_batches(s.OneClassSVM(kernel=kernel).fit(X), around(X), cancels=True) == []


@pytest.mark.parametrize("kernel", ["linear", "poly"])
@pytest.mark.parametrize("target", [TWO, FOUR], ids=["two", "four"])
def test_sums_that_cancel_are_rounded_as_in_libsvm(kernel, target):
    model = s.SVC(kernel=kernel).fit(X + 5, target)
    rows = np.linspace(around(X)[0], around(X)[1], 300) + 5
    assert differences_in_batches(model, np.vstack([rows, rows * 1e9, rows * 1e12]), cancels=True) == []


def test_many_support_vectors_equal_their_graph():
    points = RNG.normal(size=(1500, 14)) * 100 + 1e4
    model = s.SVR().fit(points, RNG.normal(size=1500))
    assert model.support_vectors_.size > 1 << 14
    assert differences_in_batches(model, points[:100]) == []


def test_a_kernel_that_is_a_function_is_refused():
    with pytest.raises(NotExportable, match="its kernel is a function"):
        differences_in_batches(s.SVC(kernel=lambda a, b: a @ b.T).fit(X, TWO), X)


def test_a_precomputed_kernel_is_refused():
    with pytest.raises(NotExportable, match="its kernel is precomputed"):
        differences_in_batches(s.SVR(kernel="precomputed").fit(X[:9] @ X[:9].T, SCORE[:9]), X[:9] @ X[:9].T)
