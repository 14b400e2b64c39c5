"""A forest computed tree by tree equals scikit-learn's to the last bit."""

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

from app.runtime.direct_call import Forest

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(200, 4))
WORDS = np.array(["low", "middle", "high"], dtype=object)[np.digitize(ROWS[:, 0], [-0.5, 0.5])]
NUMBERS = ROWS @ [1.0, -2.0, 0.5, 0.0]


class DerivedForest(RandomForestClassifier):
    """A class derived from a forest, which may compute something else."""


def forest_of(forest: Any) -> Forest:
    found = Forest.of(forest)
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 200])
@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
@pytest.mark.parametrize("labels", [WORDS, WORDS == "low"], ids=["three", "two"])
def test_a_classifier_gives_the_labels_and_probabilities_of_scikit_learn(kind: Any, labels: Any, rows: int) -> None:
    forest = kind(20, random_state=0).fit(ROWS, labels)
    outputs = forest_of(forest).outputs(ROWS[-rows:], ["prediction", "probabilities"])
    assert outputs is not None
    assert np.array_equal(outputs["probabilities"], forest.predict_proba(ROWS[-rows:]))
    assert outputs["prediction"].tolist() == forest.predict(ROWS[-rows:]).tolist()
    assert outputs["prediction"].dtype == forest.classes_.dtype


@pytest.mark.parametrize("rows", [1, 2, 200])
@pytest.mark.parametrize("kind", [RandomForestRegressor, ExtraTreesRegressor])
def test_a_regressor_gives_the_predictions_of_scikit_learn(kind: Any, rows: int) -> None:
    forest = kind(20, random_state=0).fit(ROWS, NUMBERS)
    outputs = forest_of(forest).outputs(ROWS[-rows:], ["prediction"])
    assert outputs is not None
    assert np.array_equal(outputs["prediction"], forest.predict(ROWS[-rows:]))


def test_only_the_outputs_asked_for_are_computed() -> None:
    forest = forest_of(RandomForestClassifier(2).fit(ROWS, WORDS))
    assert set(forest.outputs(ROWS, ["probabilities"]) or ()) == {"probabilities"}
    assert forest.outputs(ROWS, ["prediction", "decision_scores"]) is None


@pytest.mark.parametrize(
    "estimator",
    [DerivedForest(2), GradientBoostingRegressor(n_estimators=2), RandomForestRegressor(2)],
    ids=["derived", "boosted", "many targets"],
)
def test_an_estimator_that_is_not_a_forest_of_one_target_is_not_wrapped(estimator: Any) -> None:
    target = np.column_stack([NUMBERS, NUMBERS]) if isinstance(estimator, RandomForestRegressor) else ROWS[:, 0] > 0
    assert Forest.of(estimator.fit(ROWS, target)) is None


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
def test_features_that_the_checks_might_refuse_are_left_to_the_forest(features: Any) -> None:
    forest = RandomForestClassifier(2).fit(ROWS, WORDS)
    assert forest_of(forest).outputs(features, ["prediction"]) is None
