"""What a fitted estimator tells of itself without being run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from app.errors import PackingRefused
from app.packing.inspect import (
    Facts,
    describe,
    facts_of,
    names_of,
    require_model,
    takes_text,
    task_of,
    width_of,
)

X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 8.0]])
Y = np.array([0, 1, 1])
WORDS = pd.DataFrame({"a": ["x", "y", "x"], "b": [1.0, 2.0, 3.0]})


class Bare:
    """Predicts, and is no scikit-learn estimator."""

    def predict(self, features: Any) -> Any:
        return np.zeros(len(features))


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ({"model": 1}, "it is a dict, not a model: it has no predict method"),
        ([1, 2], "it is a list, not a model: it has no predict method"),
        (pd.DataFrame(), "it is a DataFrame, not a model: it has no predict method"),
        (None, "it is a NoneType, not a model: it has no predict method"),
        (LogisticRegression, "it is the class LogisticRegression, not a fitted model"),
        (DBSCAN().fit(X), "DBSCAN labels the rows it was fitted on and has no predict for new rows"),
        (LogisticRegression(), "this LogisticRegression is not fitted: call fit before saving it"),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            "this Pipeline is not fitted: call fit before saving it",
        ),
        (
            GridSearchCV(LogisticRegression(), {"C": [1]}),
            "this GridSearchCV is not fitted: call fit before saving it",
        ),
        (StandardScaler(), "this StandardScaler is not fitted: call fit before saving it"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_fitted_model(thing: object, said: str) -> None:
    with pytest.raises(PackingRefused) as caught:
        require_model(thing)
    assert caught.value.detail == said


@pytest.mark.parametrize("model", [LogisticRegression().fit(X, Y), StandardScaler().fit(X), Bare()])
def test_what_is_a_model(model: object) -> None:
    require_model(model)


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (LogisticRegression(), "classifier"),
        (make_pipeline(StandardScaler(), LinearRegression()), "regressor"),
        (KMeans(2), "clusterer"),
        (IsolationForest(), "outlier_detector"),
        (StandardScaler(), "transformer"),
        (GridSearchCV(LogisticRegression(), {"C": [1]}), "classifier"),
        (Bare(), "model"),
    ],
)
def test_the_task(model: object, task: str) -> None:
    assert task_of(model) == task


def test_a_pipeline_is_described_by_its_steps() -> None:
    inner = make_pipeline(StandardScaler(), LogisticRegression())
    assert describe(inner) == "Pipeline(StandardScaler, LogisticRegression)"
    assert describe(make_pipeline("passthrough", inner)) == (
        "Pipeline(passthrough, Pipeline(StandardScaler, LogisticRegression))"
    )


def test_names_and_width() -> None:
    named = LinearRegression().fit(pd.DataFrame(X, columns=["a", "b"]), Y)
    assert (names_of(named), width_of(named)) == (["a", "b"], 2)
    bare = LinearRegression().fit(X, Y)
    assert (names_of(bare), width_of(bare)) == (None, 2)
    assert (names_of(Bare()), width_of(Bare())) == (None, None)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (TfidfVectorizer(), True),
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), True),
        (make_pipeline(None, "passthrough", TfidfVectorizer()), True),
        (make_union(TfidfVectorizer(), TfidfVectorizer(analyzer="char")), True),
        (GridSearchCV(make_pipeline(TfidfVectorizer(), LogisticRegression()), {}), True),
        (make_column_transformer((TfidfVectorizer(), "a")), False),
        (LogisticRegression(), False),
        (make_pipeline(), False),
    ],
    ids=range(8),
)
def test_whether_texts_come_first(model: object, text: bool) -> None:
    assert takes_text(model) is text


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
    # The second was told of a value that the first is not.
    model = make_column_transformer(
        (OneHotEncoder(categories=[["x", "y"]]), ["a"]), (OrdinalEncoder(categories=[["x", "y", "z"]]), ["a"])
    )
    assert facts(model, WORDS)[0].categories == ("x", "y")


def test_a_missing_value_is_no_category() -> None:
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
def test_typical_values(model: Any, typical: list[float | None] | None) -> None:
    found = [fact.typical for fact in facts(model, X)]
    if typical is None:  # a tree: the threshold of the one column that it splits on
        assert sorted(value is None for value in found) == [False, True]
    else:
        assert found == typical


def test_the_range_seen() -> None:
    assert [(f.minimum, f.maximum) for f in facts(MinMaxScaler(), X)] == [(0.0, 4.0), (1.0, 8.0)]


def test_what_is_behind_another_step_says_nothing_of_the_inputs() -> None:
    model = make_pipeline(MinMaxScaler(), StandardScaler())
    assert [fact.typical for fact in facts(model, X)] == [None, None]


def test_a_search_tells_what_its_best_estimator_knows() -> None:
    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {}, cv=2)
    found = facts(search, np.vstack([X, X]), np.concatenate([Y, Y]))
    assert [fact.typical for fact in found] == [2.0, 4.0]
