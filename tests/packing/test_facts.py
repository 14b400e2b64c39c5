"""Facts that a fitted estimator and its parts keep of each input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from app.packing.facts import Facts, facts_of

X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 8.0]])
Y = np.array([0, 1, 1])
WORDS = pd.DataFrame({"a": ["x", "y", "x"], "b": [1.0, 2.0, 3.0]})


def facts(model: Any, features: Any, target: Any = Y) -> list[Facts]:
    return facts_of(model.fit(features, target), np.shape(features)[1])


def test_categories_through_an_imputer_by_name_and_by_index() -> None:
    steps = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    for features, column in ((WORDS, "a"), (WORDS.to_numpy(), 0)):
        words, numbers = facts(make_column_transformer((steps, [column]), remainder="passthrough"), features)
        assert words.categories == ("x", "y")
        assert (numbers.categories, numbers.used) == (None, True)


def test_a_column_that_is_dropped_is_not_used() -> None:
    words, numbers = facts(make_column_transformer((OrdinalEncoder(), ["a"])), WORDS)
    assert (words.used, numbers.used) == (True, False)


def test_two_encoders_over_a_column_both_have_to_know_a_value() -> None:
    # The second encoder knows a value that the first does not.
    model = make_column_transformer(
        (OneHotEncoder(categories=[["x", "y"]]), ["a"]), (OrdinalEncoder(categories=[["x", "y", "z"]]), ["a"])
    )
    assert facts(model, WORDS)[0].categories == ("x", "y")


def test_a_missing_value_is_not_a_category() -> None:
    frame = pd.DataFrame({"a": ["x", None, "y"]})
    [found] = facts(OneHotEncoder(), frame)
    assert (found.categories, found.missing) == (("x", "y"), {"nan"})


@pytest.mark.parametrize(
    ("model", "typical"),
    [
        (StandardScaler(), [2.0, 4.0]),
        (make_pipeline(StandardScaler(), LogisticRegression()), [2.0, 4.0]),
        (make_pipeline(FunctionTransformer(), StandardScaler()), [2.0, 4.0]),
        (DecisionTreeClassifier(random_state=1), None),
        (LogisticRegression(), [None, None]),
    ],
)
def test_typical_values_are_found(model: Any, typical: list[float | None] | None) -> None:
    found = [fact.typical for fact in facts(model, X)]
    if typical is None:  # a tree: the threshold of the only column that it splits on
        assert sorted(value is None for value in found) == [False, True]
    else:
        assert found == typical


def test_the_training_range_is_found() -> None:
    assert [(f.minimum, f.maximum) for f in facts(MinMaxScaler(), X)] == [(0.0, 4.0), (1.0, 8.0)]


def test_a_step_after_another_has_no_facts_of_the_inputs() -> None:
    model = make_pipeline(MinMaxScaler(), StandardScaler())
    assert [fact.typical for fact in facts(model, X)] == [None, None]


def test_a_search_has_the_facts_of_its_best_estimator() -> None:
    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {}, cv=2)
    found = facts(search, np.vstack([X, X]), np.concatenate([Y, Y]))
    assert [fact.typical for fact in found] == [2.0, 4.0]
