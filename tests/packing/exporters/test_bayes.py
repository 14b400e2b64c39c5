import numpy as np
import pytest
from sklearn import naive_bayes as n

from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)) * [1, 10, 0.1, 3] + [0, 5, 0, -3]
TWO = np.array(["no", "yes"])[(X[:, 0] > 0.5).astype(int)]
THREE = np.digitize(X[:, 0], [0, 1])
CATEGORIES = RNG.integers(0, 4, size=(120, 3))

COUNTERS = [n.MultinomialNB(), n.ComplementNB(), n.ComplementNB(norm=True), n.BernoulliNB(binarize=2.0)]
by_target = pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])


@by_target
def test_gaussian_naive_bayes_equals_its_graph(target):
    assert differences_in_batches(n.GaussianNB().fit(X, target), around(X)) == []


@by_target
@pytest.mark.parametrize("model", COUNTERS, ids=str)
def test_naive_bayes_of_counts_equals_its_graph(model, target):
    assert differences_in_batches(model.fit(np.abs(X), target), np.abs(around(X))) == []


@by_target
@pytest.mark.parametrize("binarize", [0.0, None])
def test_bernoulli_naive_bayes_equals_its_graph_at_its_threshold(binarize, target):
    rows = (around(X) > 0).astype(float) if binarize is None else around(X)
    assert differences_in_batches(n.BernoulliNB(binarize=binarize).fit(rows[:120], target), rows) == []


@by_target
@pytest.mark.parametrize("type_", [int, float])
def test_categorical_naive_bayes_equals_its_graph(target, type_):
    model = n.CategoricalNB(min_categories=5).fit(CATEGORIES, target)
    assert differences_in_batches(model, CATEGORIES.astype(type_)) == []


def test_naive_bayes_of_one_class_equals_its_graph():
    assert differences_in_batches(n.ComplementNB().fit(np.abs(X), np.zeros(120)), np.abs(X)) == []
