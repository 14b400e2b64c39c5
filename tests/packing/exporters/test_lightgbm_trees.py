import re
import warnings

import numpy as np
import pandas as pd
import pytest

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.thresholds import near

lightgbm = pytest.importorskip("lightgbm")

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(200, 4)), 3)
GAPS = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
ZEROS = np.where(RNG.random(X.shape) < 0.3, 0.0, X)
NUMBER = X[:, 0] + np.sin(3 * X[:, 1]) + RNG.normal(size=200)
POSITIVE = np.abs(NUMBER) + 0.1
SHARE = 1 / (1 + np.exp(-NUMBER))
TWO = (NUMBER > 0).astype(int)
TEXT = np.array(["low", "middle", "high"])[np.digitize(NUMBER, [-1, 1])]
LIGHT = {"verbose": -1, "min_child_samples": 5, "n_estimators": 8, "n_jobs": 1}
TINY = [0.0, -0.0, 1e-40, -1e-40, 1.0000000180025095e-35, 1.0000000180025097e-35, -1.0000000180025097e-35, 1e-34]


def splits_of(model):
    text = model.booster_.model_to_string()
    columns = re.findall(r"^split_feature=(.+)$", text, re.MULTILINE)
    thresholds = re.findall(r"^threshold=(.+)$", text, re.MULTILINE)
    return zip(map(int, " ".join(columns).split()), map(float, " ".join(thresholds).split()), strict=True)


def differences(model, training, target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(training, target)
    rows = near(training, splits_of(model), missing=True)
    return differences_in_batches(model, np.concatenate([rows, RNG.choice(TINY, (40, 4))]))


@pytest.mark.parametrize("target", [TWO, TEXT], ids=["two", "three"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_estimators": 90, "num_leaves": 4},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"sigmoid": 0.7, "objective": "multiclassova"},
        {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1},
        {"boosting_type": "dart"},
    ],
    ids=str,
)
def test_a_classifier_equals_its_graph(options, target):
    if target is TWO:
        options = {name: value for name, value in options.items() if value != "multiclassova"}
    assert differences(lightgbm.LGBMClassifier(**LIGHT | options), GAPS if target is TWO else ZEROS, target) == []


@pytest.mark.parametrize(
    ("objective", "target"),
    [
        *((name, POSITIVE) for name in ("poisson", "gamma", "tweedie", "mape")),
        *((name, NUMBER) for name in ("regression", "regression_l1", "huber", "fair", "quantile")),
        ("cross_entropy", SHARE),
    ],
)
def test_a_model_of_each_objective_equals_its_graph(objective, target):
    assert differences(lightgbm.LGBMRegressor(objective=objective, **LIGHT), GAPS, target) == []


def test_a_model_of_square_roots_equals_its_graph():
    assert differences(lightgbm.LGBMRegressor(reg_sqrt=True, **LIGHT), X, NUMBER) == []


def test_trees_of_one_leaf_equal_their_graph():
    assert differences(lightgbm.LGBMRegressor(**LIGHT), np.ones((200, 4)), NUMBER) == []


@pytest.mark.parametrize("columns", [[0], [2, 0]], ids=str)
def test_categories_equal_their_graph(columns):
    training = np.column_stack([RNG.integers(0, 40, 200), X[:, 0], RNG.integers(3, 7, 200) * 2.0, X[:, 1]])
    target = NUMBER + np.sin(7 * training[:, 0]) * 3 + (training[:, 2] == 8)
    model = lightgbm.LGBMRegressor(cat_smooth=1, **LIGHT).fit(training, target, categorical_feature=columns)
    rows = np.concatenate([training, RNG.permuted(training, axis=0), training])
    rows[400:][:, [0, 2]] = RNG.choice([-40.0, -0.3, 0.5, 2.7, 7.0, 31.0, 32.0, 1e6, 1e12, np.nan], (200, 2))
    assert differences_in_batches(model, rows) == []


@pytest.mark.parametrize("dropped", [[], ["colour"], ["size"]], ids=str)
def test_categories_of_a_frame_equal_their_graph(dropped):
    frame = pd.DataFrame(
        {
            "x": X[:, 0],
            "colour": pd.Categorical(RNG.choice(np.array(["red", "green", "blue", None], dtype=object), 200)),
            "size": pd.Categorical(RNG.integers(3, 9, 200)),
            "count": RNG.integers(0, 5, 200),
        }
    )
    target = (frame["colour"] == "red") ^ (frame["size"].astype(int) > 5) ^ (NUMBER > 1)
    model = lightgbm.LGBMClassifier(**LIGHT).fit(frame.drop(columns=dropped), target)
    assert differences_in_batches(model, frame.drop(columns=dropped)) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"linear_tree": True}, "its leaves are linear models"),
        ({"objective": "cross_entropy_lambda"}, "its objective is cross_entropy_lambda"),
        ({"objective": lambda y, p: (p - y, np.ones_like(p))}, "its objective is a function"),
    ],
    ids=["linear", "other", "own"],
)
def test_a_model_without_a_graph_is_refused_with_the_reason(options, reason):
    model = lightgbm.LGBMRegressor(**LIGHT, **options).fit(X, SHARE)
    with pytest.raises(NotExportable, match=reason):
        differences_in_batches(model, X)
