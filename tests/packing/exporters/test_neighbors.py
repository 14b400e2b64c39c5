import numpy as np
import pytest
from sklearn import neighbors as n
from sklearn import semi_supervised as h

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
CLASS = np.digitize(X[:, 0] + RNG.normal(size=120) * 0.3, [-0.7, 0.7])
TEXT = np.array(["low", "middle", "high"])[CLASS]
WHOLE = RNG.integers(0, 3, size=(120, 3)).astype(float)
DRAWN = RNG.integers(0, 3, size=120)
NUMBER = RNG.normal(size=120)
GRID = np.vstack([WHOLE, WHOLE[:40] + 0.5, WHOLE[:40] * 7, np.zeros((1, 3))])

ALGORITHMS = ["brute", "kd_tree", "ball_tree"]
OPTIONS = [
    {},
    {"n_neighbors": 1},
    {"n_neighbors": 2, "weights": "distance"},
    {"n_neighbors": 8, "leaf_size": 3},
    {"p": 1},
    {"metric": "chebyshev"},
    {"p": 3},
]
by_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@by_algorithm
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_classifier_equals_its_graph(algorithm, weights):
    model = n.KNeighborsClassifier(algorithm=algorithm, weights=weights).fit(X, TEXT)
    assert differences_in_batches(model, around(X), cancels=algorithm == "brute") == []


@by_algorithm
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_same_of_several_equally_near_rows_are_chosen(algorithm, options):
    model = n.KNeighborsClassifier(algorithm=algorithm, **options).fit(WHOLE, DRAWN)
    assert differences_in_batches(model, GRID, (1,)) == []


@by_algorithm
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_regressor_equals_its_graph(algorithm, weights):
    model = n.KNeighborsRegressor(algorithm=algorithm, weights=weights)
    assert differences_in_batches(model.fit(X, X[:, 0]), around(X), cancels=algorithm == "brute") == []
    assert differences_in_batches(model.fit(WHOLE, NUMBER), GRID, (1,)) == []


@by_algorithm
def test_a_local_outlier_factor_equals_its_graph(algorithm):
    model = n.LocalOutlierFactor(novelty=True, algorithm=algorithm, n_neighbors=7)
    assert differences_in_batches(model.fit(X), around(X)) == []
    assert differences_in_batches(model.fit(WHOLE), GRID, (1,)) == []


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_model_of_several_targets_equals_its_graph(weights):
    targets = np.column_stack([CLASS, CLASS > 1])
    assert differences_in_batches(n.KNeighborsClassifier(weights=weights).fit(X, targets), around(X)) == []
    assert differences_in_batches(n.KNeighborsRegressor(weights=weights).fit(X, X[:, :2]), around(X)) == []


def test_a_model_with_all_rows_as_neighbours_equals_its_graph():
    assert differences_in_batches(n.KNeighborsClassifier(n_neighbors=120).fit(X, CLASS), around(X)) == []


def test_many_rows_equal_their_graph():
    rows = RNG.normal(size=(3000, 6))
    assert differences_in_batches(n.KNeighborsRegressor().fit(rows, rows[:, 0]), rows[:100]) == []


@pytest.mark.parametrize("kernel", ["rbf", "knn"])
@pytest.mark.parametrize("kind", [h.LabelPropagation, h.LabelSpreading])
def test_propagated_labels_equal_their_graph(kind, kernel):
    labels = np.where(RNG.random(120) < 0.5, -1, CLASS)
    model = kind(kernel=kernel, gamma=2.0, max_iter=3000).fit(X, labels)
    assert differences_in_batches(model, around(X)) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"metric": "cosine"}, "its metric is cosine"),
        ({"metric": lambda a, b: 1.0}, "its metric is a function"),
        ({"weights": lambda d: d}, "its weights are a function"),
    ],
    ids=["cosine", "function", "weights"],
)
def test_a_model_without_a_graph_is_refused_with_the_reason(options, reason):
    with pytest.raises(NotExportable, match=reason):
        differences_in_batches(n.KNeighborsClassifier(**options).fit(X, CLASS), X)


@pytest.mark.parametrize("shape", [(20000, 2), (10000, 14)], ids=str)
def test_too_many_rows_are_refused(shape):
    rows = RNG.normal(size=shape)
    with pytest.raises(NotExportable, match=f"it compares each row with {shape[0]} others"):
        differences_in_batches(n.KNeighborsRegressor().fit(rows, rows[:, 0]), rows[:5])


def test_many_rows_of_many_columns_by_brute_force_equal_their_graph():
    rows = RNG.normal(size=(8000, 20))
    model = n.KNeighborsRegressor().fit(rows, rows[:, 0])
    assert model._fit_method == "brute"
    assert differences_in_batches(model, rows[:50] + 0.1) == []
