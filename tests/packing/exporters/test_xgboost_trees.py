import ctypes
import ctypes.util

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from app.packing.exporters.graph import Graph, NotExportable
from app.packing.exporters.xgboost_trees import exponential
from app.runtime.graph import session_of
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.thresholds import near

xgboost = pytest.importorskip("xgboost")

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(200, 4)), 3)
GAPS = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
NUMBER = X[:, 0] + np.sin(3 * X[:, 1]) + RNG.normal(size=200)
POSITIVE = np.abs(NUMBER) + 0.1
SHARE = 1 / (1 + np.exp(-NUMBER))
TWO, THREE = (NUMBER > 0).astype(int), np.digitize(NUMBER, [-1, 1])
PAIR = np.column_stack([NUMBER, NUMBER**2])
FEW = {"n_estimators": 8, "max_depth": 4, "n_jobs": 1}


def splits_of(model):
    table = model.get_booster().trees_to_dataframe()
    table = table[table["Feature"] != "Leaf"]
    return zip(table["Feature"].str[1:].astype(int), table["Split"], strict=True)


def differences(model, training, target):
    model = clone(model).fit(training, target)
    return differences_in_batches(model, near(training, splits_of(model), missing=True))


@pytest.mark.parametrize("target", [TWO, THREE, PAIR > 0], ids=["two", "three", "labels"])
@pytest.mark.parametrize(
    "model",
    [
        xgboost.XGBClassifier(**FEW),
        xgboost.XGBClassifier(n_estimators=90, max_depth=2, n_jobs=1),
        xgboost.XGBClassifier(missing=-1.0, **FEW),
        xgboost.XGBClassifier(num_parallel_tree=3, subsample=0.5, **FEW),
        xgboost.XGBRFClassifier(**FEW),
    ],
    ids=["few", "many", "missing", "parallel", "forest"],
)
def test_a_classifier_equals_its_graph(model, target):
    assert differences(model, X, target) == []


@pytest.mark.parametrize(
    ("objective", "target"),
    [
        *((name, POSITIVE) for name in ("count:poisson", "reg:gamma", "reg:tweedie", "reg:squaredlogerror")),
        *((name, NUMBER) for name in ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror")),
        ("reg:logistic", SHARE),
    ],
)
def test_a_model_of_each_objective_equals_its_graph(objective, target):
    assert differences(xgboost.XGBRegressor(objective=objective, **FEW), GAPS, target) == []


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (xgboost.XGBRegressor(base_score=0.3, **FEW), NUMBER),
        (xgboost.XGBRegressor(**FEW), PAIR),
        (xgboost.XGBRegressor(objective="reg:quantileerror", quantile_alpha=[0.2, 0.8], **FEW), NUMBER),
        (xgboost.XGBRFRegressor(**FEW), NUMBER),
        (xgboost.XGBClassifier(base_score=0.3, **FEW), TWO),
    ],
    ids=["base", "targets", "quantiles", "forest", "classifier"],
)
def test_base_scores_and_targets_equal_their_graph(model, target):
    assert differences(model, X, target) == []


def test_a_model_with_early_stopping_equals_its_graph():
    model = xgboost.XGBClassifier(n_estimators=60, n_jobs=1, early_stopping_rounds=2)
    model.fit(X[60:], THREE[60:], eval_set=[(X[:60], THREE[:60])], verbose=False)
    assert model.best_iteration < 57
    assert differences_in_batches(model, near(X, splits_of(model), missing=True)) == []


@pytest.mark.parametrize(
    ("options", "target", "reason"),
    [
        ({"booster": "dart"}, TWO, "its booster is dart"),
        ({"booster": "gblinear"}, TWO, "its booster is gblinear"),
        ({"objective": "binary:hinge"}, TWO, "its objective is binary:hinge"),
        ({"objective": "multi:softmax"}, THREE, "its objective multi:softmax is not made for probabilities"),
    ],
)
def test_a_model_without_a_graph_is_refused_with_the_reason(options, target, reason):
    model = xgboost.XGBClassifier(n_estimators=2, n_jobs=1, **options).fit(X, target)
    with pytest.raises(NotExportable, match=reason):
        differences_in_batches(model, X)


def test_categories_and_leaves_of_several_targets_have_no_graph():
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["a"] = pd.Categorical(RNG.integers(0, 5, 200))
    by_category = xgboost.XGBRegressor(enable_categorical=True, **FEW).fit(frame, NUMBER + frame["a"].astype(int))
    with pytest.raises(NotExportable, match="its trees split by category"):
        differences_in_batches(by_category, frame)
    vectors = xgboost.XGBRegressor(multi_strategy="multi_output_tree", **FEW).fit(X, PAIR)
    with pytest.raises(NotExportable, match="its trees predict several targets at once"):
        differences_in_batches(vectors, X)


@pytest.mark.parametrize("width", [1, 5])
def test_the_exponential_equals_that_of_the_c_library(width):
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    library.expf.restype, library.expf.argtypes = ctypes.c_float, [ctypes.c_float]
    values = np.concatenate([RNG.uniform(-8, 8, 20_000), RNG.uniform(-110, 95, 5000), [0.0, -0.0, 88.7, -104.0, 1.5]])
    values = values.astype(np.float32)
    graph = Graph()
    x = graph.input("x", "float32", width)
    outputs = {"up": exponential(graph, x), "down": exponential(graph, x, -1.0)}
    session = session_of(graph.model(outputs).SerializeToString())
    for found, sign in zip(session.run(["up", "down"], {"x": values.reshape(-1, width)}), (1, -1), strict=True):
        expected = [library.expf(sign * float(value)) for value in values]
        np.testing.assert_array_equal(found.ravel(), np.array(expected, dtype=np.float32))
