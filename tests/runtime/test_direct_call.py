"""An artifact called directly gives equal answers; other servables and estimators are left as they are."""

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

from app.runtime.direct_call import DirectServable, call_directly, steps_of
from app.runtime.environment import environment
from app.runtime.servable import ArtifactServable
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch
from app.storage.manifest import DirectCall
from tests.runtime.estimators import Doubles, manifest_of

OUTPUTS = ("prediction", "probabilities")
SIGNATURE = Signature(tuple(Input(name, "number", "float64") for name in "ab"), OUTPUTS, OUTPUTS, Layout.FRAME)
FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
LABELS = np.where(FRAME["a"] > FRAME["b"], "more", "less").astype(object)
BATCH = Batch({name: FRAME[name].to_numpy() for name in FRAME}, len(FRAME))
MATRIX = DirectCall(matrix=True, unchecked=False)


class Notes(BaseEstimator):
    """Record its input and the configuration, and pass the input on."""

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
    """A class derived from `Pipeline`, which may compute something else."""


def fitted(*steps: Any) -> Any:
    return make_pipeline(*steps).fit(FRAME, LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("call", [MATRIX, DirectCall(False, False), DirectCall(True, True), DirectCall(False, True)])
@pytest.mark.parametrize("last", [LogisticRegression(), RandomForestClassifier(5, random_state=0)])
def test_a_direct_call_gives_the_answers_of_the_artifact(last: Any, call: DirectCall) -> None:
    estimator = fitted(StandardScaler(), last)
    wanted = ArtifactServable(estimator, SIGNATURE).run(BATCH, OUTPUTS)
    got = DirectServable(estimator, SIGNATURE, call).run(BATCH, OUTPUTS)
    assert {name: array.tolist() for name, array in got.items()} == {
        name: array.tolist() for name, array in wanted.items()
    }


def test_a_forest_runs_in_the_thread_of_its_caller() -> None:
    """The threads of a forest add in any order, which changes the last bit."""
    forest = RandomForestClassifier(2, n_jobs=2).fit(FRAME, LABELS)
    DirectServable(forest, SIGNATURE, MATRIX)
    assert forest.n_jobs == 1


def test_a_pipeline_transforms_once_for_all_outputs() -> None:
    notes = Notes()
    DirectServable(fitted(notes, LogisticRegression()), SIGNATURE, MATRIX).run(BATCH, OUTPUTS)
    assert len(notes.given) == 1 + 1  # once to fit


def test_the_matrix_has_the_values_and_strides_that_pandas_passes() -> None:
    notes = Notes()
    DirectServable(fitted(notes, LogisticRegression()), SIGNATURE, MATRIX).run(BATCH, ["prediction"])
    wanted = pd.DataFrame(dict(BATCH.columns), copy=False).to_numpy()
    got = notes.given[-1]
    assert np.array_equal(got, wanted)
    assert (got.dtype, got.strides) == (wanted.dtype, wanted.strides)


@pytest.mark.parametrize("unchecked", [True, False])
def test_checks_are_left_out_if_packing_recorded_so(unchecked: bool) -> None:
    notes = Notes()
    DirectServable(fitted(notes, LogisticRegression()), SIGNATURE, DirectCall(True, unchecked)).run(BATCH, OUTPUTS)
    seen = notes.configurations[-1]
    assert (seen["assume_finite"], seen["skip_parameter_validation"]) == (unchecked, unchecked)
    assert sklearn.get_config()["assume_finite"] is False


@pytest.mark.slow
def test_a_search_in_a_pipeline_is_split_into_its_steps() -> None:
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
def test_an_estimator_that_may_call_its_steps_otherwise_stays_whole(whole: Any) -> None:
    assert steps_of(whole) == ([], whole)


def test_a_pipeline_of_transformers_alone_transforms() -> None:
    estimator = make_pipeline(StandardScaler(), StandardScaler()).fit(FRAME)
    got = DirectServable(estimator, SIGNATURE, DirectCall(False, False)).run(BATCH, ["prediction"])
    assert np.array_equal(got["prediction"], estimator.transform(FRAME))


def test_an_artifact_is_called_as_packing_recorded() -> None:
    servable = ArtifactServable(fitted(LogisticRegression()), SIGNATURE)
    assert isinstance(call_directly(servable, manifest_of(lean=MATRIX)), DirectServable)


def test_a_servable_without_a_record_for_these_libraries_is_left_as_it_is() -> None:
    servable = ArtifactServable(fitted(LogisticRegression()), SIGNATURE)
    other = {**environment(), "scikit-learn": "0.1"}
    graph = DirectServable(Doubles(), SIGNATURE, DirectCall(False, False))
    assert call_directly(servable, manifest_of()) is servable
    assert call_directly(servable, manifest_of(lean=MATRIX, environment=other)) is servable
    assert call_directly(graph, manifest_of(lean=MATRIX)) is graph
