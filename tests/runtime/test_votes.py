"""A forest tree by tree is the forest, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from app.runtime.votes import Votes

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(200, 4))
WORDS = np.array(["low", "middle", "high"], dtype=object)[np.digitize(ROWS[:, 0], [-0.5, 0.5])]
NUMBERS = ROWS @ [1.0, -2.0, 0.5, 0.0]


class Mine(RandomForestClassifier):
    """What it does beside is its own affair."""


def votes(forest: Any) -> Votes:
    found = Votes.of(forest)
    assert found is not None
    return found


@pytest.mark.parametrize("rows", [1, 2, 200])
@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
@pytest.mark.parametrize("labels", [WORDS, WORDS == "low"], ids=["three", "two"])
def test_a_classifier(kind: Any, labels: Any, rows: int) -> None:
    forest = kind(20, random_state=0).fit(ROWS, labels)
    outputs = votes(forest).outputs(ROWS[-rows:], ["prediction", "probabilities"])
    assert outputs is not None
    assert np.array_equal(outputs["probabilities"], forest.predict_proba(ROWS[-rows:]))
    assert outputs["prediction"].tolist() == forest.predict(ROWS[-rows:]).tolist()
    assert outputs["prediction"].dtype == forest.classes_.dtype


@pytest.mark.parametrize("rows", [1, 2, 200])
@pytest.mark.parametrize("kind", [RandomForestRegressor, ExtraTreesRegressor])
def test_a_regressor(kind: Any, rows: int) -> None:
    forest = kind(20, random_state=0).fit(ROWS, NUMBERS)
    outputs = votes(forest).outputs(ROWS[-rows:], ["prediction"])
    assert outputs is not None
    assert np.array_equal(outputs["prediction"], forest.predict(ROWS[-rows:]))


def test_only_what_is_asked() -> None:
    forest = votes(RandomForestClassifier(2).fit(ROWS, WORDS))
    assert set(forest.outputs(ROWS, ["probabilities"]) or ()) == {"probabilities"}
    assert forest.outputs(ROWS, ["prediction", "decision_scores"]) is None


@pytest.mark.parametrize(
    "estimator",
    [Mine(2), GradientBoostingRegressor(n_estimators=2), RandomForestRegressor(2)],
    ids=["derived", "boosted", "many targets"],
)
def test_what_is_no_forest_of_one_target_has_none(estimator: Any) -> None:
    target = np.column_stack([NUMBERS, NUMBERS]) if isinstance(estimator, RandomForestRegressor) else ROWS[:, 0] > 0
    assert Votes.of(estimator.fit(ROWS, target)) is None


@pytest.mark.parametrize(
    "features",
    [
        np.array([[0.0, np.nan, 0.0, 0.0]]),
        np.array([[0.0, 0.0, 1e39, 0.0]]),
        np.array([[0.0, 0.0, 0.0]]),
        np.empty((0, 4)),
        np.zeros(4),
        np.zeros((1, 4), dtype=object),
        [[0.0] * 4],
    ],
    ids=["missing", "beyond float32", "too narrow", "no rows", "one axis", "objects", "list"],
)
def test_what_its_checks_might_refuse_is_for_the_forest_itself(features: Any) -> None:
    forest = RandomForestClassifier(2).fit(ROWS, WORDS)
    assert votes(forest).outputs(features, ["prediction"]) is None
