"""An artifact called with less answers what it answers; who is not known for certain is called as ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from app.runtime.environment import environment
from app.runtime.lean import LeanServable, lean, steps_of
from app.runtime.servable import ArtifactServable
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch
from app.storage.manifest import LeanCall
from tests.runtime.estimators import Doubles, manifest_of

OUTPUTS = ("prediction", "probabilities")
SIGNATURE = Signature(tuple(Input(name, "number", "float64") for name in "ab"), OUTPUTS, OUTPUTS, Layout.FRAME)
FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
LABELS = np.where(FRAME["a"] > FRAME["b"], "more", "less").astype(object)
BATCH = Batch({name: FRAME[name].to_numpy() for name in FRAME}, len(FRAME))
MATRIX = LeanCall(matrix=True, unchecked=False)


class Notes(BaseEstimator):
    """Passes on what it is given, and notes what that was and under which configuration."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.configurations: list[dict[str, Any]] = []

    def fit(self, features: Any, target: Any = None) -> Notes:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, features: Any) -> Any:
        self.given.append(features)
        self.configurations.append(sklearn.get_config())
        return features


class MyPipeline(Pipeline):
    """Who knows what it does."""


def fitted(*steps: Any) -> Any:
    return make_pipeline(*steps).fit(FRAME, LABELS)


@pytest.mark.parametrize("call", [MATRIX, LeanCall(False, False), LeanCall(True, True), LeanCall(False, True)])
@pytest.mark.parametrize("last", [LogisticRegression(), RandomForestClassifier(5, random_state=0)])
def test_it_answers_what_the_artifact_answers(last: Any, call: LeanCall) -> None:
    estimator = fitted(StandardScaler(), last)
    wanted = ArtifactServable(estimator, SIGNATURE).run(BATCH, OUTPUTS)
    got = LeanServable(estimator, SIGNATURE, call).run(BATCH, OUTPUTS)
    assert {name: array.tolist() for name, array in got.items()} == {
        name: array.tolist() for name, array in wanted.items()
    }


def test_it_runs_in_the_thread_that_asks_it() -> None:
    """Threads of a forest add up in any order, which shows in the last bit."""
    forest = RandomForestClassifier(2, n_jobs=2).fit(FRAME, LABELS)
    LeanServable(forest, SIGNATURE, MATRIX)
    assert forest.n_jobs == 1


def test_a_pipeline_transforms_once_for_all_outputs() -> None:
    notes = Notes()
    LeanServable(fitted(notes, LogisticRegression()), SIGNATURE, MATRIX).run(BATCH, OUTPUTS)
    assert len(notes.given) == 1 + 1  # once to fit


def test_the_matrix_is_what_pandas_would_hand_over() -> None:
    notes = Notes()
    LeanServable(fitted(notes, LogisticRegression()), SIGNATURE, MATRIX).run(BATCH, ["prediction"])
    wanted = pd.DataFrame(dict(BATCH.columns), copy=False).to_numpy()
    got = notes.given[-1]
    assert np.array_equal(got, wanted)
    assert (got.dtype, got.strides) == (wanted.dtype, wanted.strides)


@pytest.mark.parametrize("unchecked", [True, False])
def test_checks_are_left_out_where_packing_says_so(unchecked: bool) -> None:
    notes = Notes()
    LeanServable(fitted(notes, LogisticRegression()), SIGNATURE, LeanCall(True, unchecked)).run(BATCH, OUTPUTS)
    seen = notes.configurations[-1]
    assert (seen["assume_finite"], seen["skip_parameter_validation"]) == (unchecked, unchecked)
    assert sklearn.get_config()["assume_finite"] is False


def test_what_is_in_a_search_in_a_pipeline() -> None:
    scaler, again, model = StandardScaler(), StandardScaler(), LogisticRegression()
    search = GridSearchCV(make_pipeline(again, "passthrough", model), {"logisticregression__C": [1.0]}, cv=2)
    steps, last = steps_of(fitted(scaler, search))
    assert [type(step) for step in steps] == [StandardScaler, StandardScaler]
    assert isinstance(last, LogisticRegression)
    assert steps[0] is scaler


@pytest.mark.parametrize(
    "whole",
    [MyPipeline([("scaler", StandardScaler())]), make_pipeline(StandardScaler(), "passthrough"), Doubles()],
    ids=["derived", "passed through", "not scikit-learn's"],
)
def test_what_stays_whole(whole: Any) -> None:
    assert steps_of(whole) == ([], whole)


def test_a_pipeline_of_transformers_alone_transforms() -> None:
    estimator = make_pipeline(StandardScaler(), StandardScaler()).fit(FRAME)
    got = LeanServable(estimator, SIGNATURE, LeanCall(False, False)).run(BATCH, ["prediction"])
    assert np.array_equal(got["prediction"], estimator.transform(FRAME))


def test_what_packing_recorded_is_done() -> None:
    servable = ArtifactServable(fitted(LogisticRegression()), SIGNATURE)
    assert isinstance(lean(servable, manifest_of(lean=MATRIX)), LeanServable)


def test_what_was_not_tried_is_left_alone() -> None:
    servable = ArtifactServable(fitted(LogisticRegression()), SIGNATURE)
    other = {**environment(), "scikit-learn": "0.1"}
    graph = LeanServable(Doubles(), SIGNATURE, LeanCall(False, False))
    assert lean(servable, manifest_of()) is servable
    assert lean(servable, manifest_of(lean=MATRIX, environment=other)) is servable
    assert lean(graph, manifest_of(lean=MATRIX)) is graph
