"""Threads and names are removed from fitted estimators at every depth."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from app.runtime.servable import parts_of, single_threaded, without_names

FRAME = pd.DataFrame({"a": [0.0, 1, 2, 3, 4, 5], "b": [1.0, 0, 3, 2, 5, 4], "word": list("xyxyxy")})
LABELS = [0, 0, 0, 1, 1, 1]
FOREST = RandomForestClassifier(2, random_state=0, n_jobs=-1)


def columns() -> ColumnTransformer:
    return ColumnTransformer(
        [("scaled", StandardScaler(), ["a"]), ("word", OneHotEncoder(), ["word"]), ("none", "drop", ["b"])], n_jobs=2
    )


def test_every_n_jobs_becomes_1_at_any_depth() -> None:
    voters = VotingClassifier([("forest", FOREST), ("near", KNeighborsClassifier(2, n_jobs=3))], n_jobs=2)
    union = FeatureUnion([("scaled", StandardScaler())], n_jobs=2)
    model = GridSearchCV(make_pipeline(union, voters), {"votingclassifier__voting": ["soft"]}, cv=2)
    with joblib.parallel_config("sequential"):
        model.fit(FRAME[["a", "b"]], LABELS)
    single_threaded(model)
    jobs = [part.n_jobs for part in parts_of(model) if "n_jobs" in vars(part)]
    assert set(jobs) == {1, None}
    assert jobs.count(1) > 6


def test_an_estimator_that_contains_itself_is_visited_once() -> None:
    model = StandardScaler()
    model.itself = [model]
    assert list(parts_of(model)) == [model]


def test_trees_in_an_array_are_parts() -> None:
    model = GradientBoostingClassifier(n_estimators=3).fit(FRAME[["a", "b"]], LABELS)
    assert sum(isinstance(part, DecisionTreeRegressor) for part in parts_of(model)) == 3


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        CalibratedClassifierCV(LogisticRegression(), cv=2),
        RandomForestClassifier(2, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_without_names_a_matrix_gives_no_warning(model: object) -> None:
    """scikit-learn would warn, and warnings are errors here."""
    frame = FRAME[["b", "a"]]
    model.fit(frame, LABELS)
    wanted = model.predict_proba(frame)
    without_names(model)
    assert not any("feature_names_in_" in vars(part) for part in parts_of(model))
    assert np.array_equal(model.predict_proba(frame.to_numpy()), wanted)


@pytest.mark.slow
def test_columns_selected_by_name_are_selected_by_position() -> None:
    model = columns().fit(FRAME)
    wanted = model.transform(FRAME)
    without_names(model)
    assert [of for _, _, of in model.transformers_] == [[0], [2], [1]]
    assert np.array_equal(model.transform(FRAME.to_numpy(dtype=object)), wanted)


def test_a_single_column_stays_a_single_column() -> None:
    model = ColumnTransformer([("words", CountsLetters(), "word")]).fit(FRAME)
    without_names(model)
    assert model.transform(FRAME.to_numpy(dtype=object)).tolist() == [[1]] * 6


class CountsLetters:
    def fit(self, column: pd.Series, target: object = None) -> CountsLetters:
        return self

    def transform(self, column: object) -> np.ndarray:
        assert np.ndim(column) == 1
        return np.array([[len(word)] for word in column])

    def get_params(self, deep: bool = True) -> dict[str, object]:
        return {}

    def set_params(self) -> CountsLetters:
        return self
