import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from app.packing.stress import thresholds_of
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.thresholds import near

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
GAPS = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
NUMBER = X[:, 0] + np.sin(3 * X[:, 1]) + RNG.normal(size=200)
SMALL = {"max_iter": 4, "min_samples_leaf": 4, "random_state": 0}
NUMBERED = np.column_stack([RNG.integers(-3, 30, 200), X[:, 0], RNG.integers(3, 7, 200) * 2.0, X[:, 1]])
BY_CATEGORY = NUMBER + np.sin(7 * NUMBERED[:, 0]) * 3 + (NUMBERED[:, 2] == 8)
FRAME = pd.DataFrame(
    {
        "x": X[:, 0],
        "colour": pd.Categorical(RNG.choice(np.array(["red", "green", "blue", None], dtype=object), 200)),
        "size": pd.Categorical(RNG.integers(0, 5, 200)),
        "y": X[:, 1],
    }
)
ODD = [-4.0, 0.5, 2.7, 7.0, 31.0, 255.0, 256.0, 1e6, np.nan]


@pytest.fixture(autouse=True)
def one_thread():
    """Limit OpenMP to one thread: threads that wait for one another are slow on shared processors."""
    with threadpool_limits(1):
        yield


def differences(model, training, target, rows=None):
    model.fit(training, target)
    if rows is None:
        rows = near(training, thresholds_of(model, 4), bool(np.isnan(training).any()))
    return differences_in_batches(model, rows)


@pytest.mark.parametrize("training", [X, GAPS], ids=["complete", "gaps"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_equals_its_graph(classes, training):
    target = np.array(["a", "b", "c"])[np.digitize(NUMBER, [-1, 1][: classes - 1])]
    assert differences(HistGradientBoostingClassifier(**SMALL), training, target) == []


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "gamma", "poisson", "quantile"])
def test_a_regressor_equals_its_graph(loss):
    model = HistGradientBoostingRegressor(loss=loss, quantile=0.3 if loss == "quantile" else None, **SMALL)
    assert differences(model, GAPS, np.abs(NUMBER) + 0.1) == []


def test_values_beyond_float32_are_compared_in_float64():
    model = HistGradientBoostingRegressor(**SMALL).fit(X * 1e200, NUMBER)
    assert differences_in_batches(model, np.concatenate([X * 1e200, X])) == []


@pytest.mark.parametrize("columns", [[0], [0, 2], [2, 0, 3]], ids=str)
def test_categories_as_numbers_equal_their_graph(columns):
    training = NUMBERED.copy()
    training[:, 3] = np.round(training[:, 3])
    rows = np.concatenate([training, RNG.permuted(training, axis=0), training])
    rows[400:][:, [0, 2]] = RNG.choice(ODD, (200, 2))
    assert (
        differences(HistGradientBoostingRegressor(categorical_features=columns, **SMALL), training, BY_CATEGORY, rows)
        == []
    )


def test_categories_with_missing_values_in_training_equal_their_graph():
    training = np.where(RNG.random(NUMBERED.shape) < 0.1, np.nan, NUMBERED)
    rows = np.concatenate([training, RNG.permuted(training, axis=0)])
    model = HistGradientBoostingClassifier(categorical_features=[0, 2], early_stopping=True, **SMALL)
    assert differences(model, training, BY_CATEGORY > 0, rows) == []


@pytest.mark.parametrize("columns", ["from_dtype", ["colour", "size"]], ids=str)
def test_categories_of_a_frame_equal_their_graph(columns):
    model = HistGradientBoostingClassifier(categorical_features=columns, **SMALL)
    assert differences(model, FRAME, (FRAME["colour"] == "red") ^ (NUMBER > 0), FRAME) == []


def test_a_model_of_categories_only_equals_its_graph():
    rows = FRAME[["colour", "size"]]
    model = HistGradientBoostingRegressor(**SMALL)
    assert differences(model, rows, (rows["colour"] == "red") * 2.0 + NUMBER, rows) == []
