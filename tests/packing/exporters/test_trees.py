import numpy as np
import pytest
from sklearn import ensemble as e
from sklearn import tree as t

from app.packing.stress import thresholds_of
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.thresholds import near

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(120, 4)) * [1, 10, 100, 0.01], 3)
NUMBER = X[:, 0] + np.sin(X[:, 1]) + RNG.normal(size=120)
CLASS = np.digitize(NUMBER, [-1, 1])
TEXT = np.array(["low", "middle", "high"])[CLASS]
GAPS = np.where(RNG.random(X.shape) < 0.2, np.nan, X)

CLASSIFIERS = [
    t.DecisionTreeClassifier(max_depth=5),
    t.DecisionTreeClassifier(max_depth=1),
    t.ExtraTreeClassifier(max_depth=5),
    e.RandomForestClassifier(1, max_depth=4),
    e.RandomForestClassifier(10, max_depth=4),
    e.RandomForestClassifier(100, max_depth=2),
    e.ExtraTreesClassifier(20, max_depth=4),
]
REGRESSORS = [
    t.DecisionTreeRegressor(max_depth=5),
    t.ExtraTreeRegressor(max_depth=5),
    e.RandomForestRegressor(10, max_depth=5),
    e.ExtraTreesRegressor(10, max_depth=5),
]
NOVELTIES = [
    e.IsolationForest(n_estimators=20),
    e.IsolationForest(n_estimators=20, contamination=0.1, max_features=2, max_samples=40),
    e.IsolationForest(n_estimators=90, contamination=0.2),
]


def tried(model, training, missing=False):
    return near(training, thresholds_of(model, training.shape[1]), missing)


@pytest.mark.parametrize("model", CLASSIFIERS, ids=repr)
def test_a_classifier_equals_its_graph(model):
    model.set_params(random_state=0).fit(X, TEXT)
    assert differences_in_batches(model, tried(model, X)) == []


@pytest.mark.parametrize("target", [CLASS, CLASS * 2.0, CLASS > 0], ids=["int", "float", "bool"])
def test_labels_of_every_type_equal_their_graph(target):
    model = e.RandomForestClassifier(5, max_depth=4, random_state=0).fit(X, target)
    assert differences_in_batches(model, tried(model, X)) == []


@pytest.mark.parametrize("target", [NUMBER, np.column_stack([NUMBER, -NUMBER, CLASS])], ids=["one", "three"])
@pytest.mark.parametrize("model", REGRESSORS, ids=repr)
def test_a_regressor_equals_its_graph(model, target):
    model.set_params(random_state=0).fit(X, target)
    assert differences_in_batches(model, tried(model, X)) == []


@pytest.mark.parametrize("model", [CLASSIFIERS[0], CLASSIFIERS[4], REGRESSORS[0], REGRESSORS[2]], ids=repr)
def test_missing_values_equal_their_graph(model):
    model.set_params(random_state=0).fit(GAPS, CLASS)
    assert differences_in_batches(model, tried(model, GAPS, missing=True)) == []


@pytest.mark.parametrize("labels", [np.arange(3), np.array(["a", "bb", "c"])], ids=["int", "text"])
@pytest.mark.parametrize("model", [CLASSIFIERS[0], CLASSIFIERS[4]], ids=repr)
def test_a_tree_of_several_targets_equals_its_graph(model, labels):
    model.set_params(random_state=0).fit(X, labels[np.column_stack([CLASS, CLASS > 1, CLASS % 2])])
    assert differences_in_batches(model, tried(model, X)) == []


@pytest.mark.parametrize("training", [X, GAPS], ids=["complete", "gaps"])
@pytest.mark.parametrize("model", NOVELTIES, ids=repr)
def test_an_isolation_forest_equals_its_graph(model, training):
    model.set_params(random_state=0).fit(training)
    rows = tried(model, training, missing=training is GAPS)
    assert differences_in_batches(model, rows) == []


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_an_isolation_forest_of_few_rows_equals_its_graph(rows):
    assert differences_in_batches(e.IsolationForest(n_estimators=5, random_state=0).fit(X[:rows]), X) == []


def test_trees_of_one_leaf_equal_their_graph():
    assert differences_in_batches(t.DecisionTreeClassifier().fit(X, np.ones(120)), X) == []
    assert differences_in_batches(t.DecisionTreeRegressor().fit(X, np.ones(120)), X) == []


def test_a_random_trees_embedding_equals_its_graph():
    model = e.RandomTreesEmbedding(10, random_state=0).fit(X)
    assert differences_in_batches(model, tried(model, X)) == []
