"""A fitted estimator is inspected without being run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from app.errors import PackingRefused
from app.packing.inspect import (
    describe,
    names_of,
    require_model,
    takes_text,
    task_of,
    width_of,
)

X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 8.0]])
Y = np.array([0, 1, 1])
WORDS = pd.DataFrame({"a": ["x", "y", "x"], "b": [1.0, 2.0, 3.0]})


class NoEstimator:
    """A model that is not an estimator of scikit-learn."""

    def predict(self, features: Any) -> Any:
        return np.zeros(len(features))


@pytest.mark.parametrize(
    ("thing", "message"),
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
def test_an_object_that_is_not_a_fitted_model_is_refused(thing: object, message: str) -> None:
    with pytest.raises(PackingRefused) as caught:
        require_model(thing)
    assert caught.value.detail == message


@pytest.mark.parametrize("model", [LogisticRegression().fit(X, Y), StandardScaler().fit(X), NoEstimator()])
def test_a_fitted_model_is_accepted(model: object) -> None:
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
        (NoEstimator(), "model"),
    ],
)
def test_the_task_is_found(model: object, task: str) -> None:
    assert task_of(model) == task


def test_a_pipeline_is_described_by_its_steps() -> None:
    inner = make_pipeline(StandardScaler(), LogisticRegression())
    assert describe(inner) == "Pipeline(StandardScaler, LogisticRegression)"
    assert describe(make_pipeline("passthrough", inner)) == (
        "Pipeline(passthrough, Pipeline(StandardScaler, LogisticRegression))"
    )


def test_the_names_and_the_number_of_columns_are_found() -> None:
    named = LinearRegression().fit(pd.DataFrame(X, columns=["a", "b"]), Y)
    assert (names_of(named), width_of(named)) == (["a", "b"], 2)
    bare = LinearRegression().fit(X, Y)
    assert (names_of(bare), width_of(bare)) == (None, 2)
    assert (names_of(NoEstimator()), width_of(NoEstimator())) == (None, None)


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
def test_a_model_takes_texts_if_a_vectorizer_comes_first(model: object, text: bool) -> None:
    assert takes_text(model) is text
