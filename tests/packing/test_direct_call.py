"""The quickest call of an artifact is found by trying, and changes no answer and no error."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from app.errors import InvalidInstances
from app.packing.direct_call import direct_servable, identical
from app.packing.infer import infer
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.runtime.direct_call import DirectServable
from app.runtime.explanation import ExplainedServable
from app.runtime.loaders import LOADERS
from app.runtime.policy import State
from app.runtime.servable import ArtifactServable
from app.runtime.version_loader import VersionLoader
from app.signature import Signature
from app.signature.validator import Validator
from app.storage.manifest import DirectCall
from app.storage.repository import Repository

# Packing ignores warnings in its own process; here it runs in this process.
pytestmark = [pytest.mark.filterwarnings("ignore")]

RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(RANDOM.normal(size=(80, 3)), columns=["a", "b", "c"])
TARGET = (FRAME @ [1.0, -2.0, 0.5]).to_numpy()
LABELS = np.where(TARGET > 0, "more", "less").astype(object)
WITH_GAPS = FRAME.mask(RANDOM.random(FRAME.shape) < 0.1)
MIXED = FRAME.assign(word=RANDOM.choice(["x", "y", "z"], len(FRAME)))
MAGNITUDES = [0.0, 1e-300, 1.0, 2.0**24 + 1, 1e15, 3e38, 4e38, 1e154, 1e300, float(np.finfo(np.float64).max)]


def log_of(values: Any) -> Any:
    return np.log(values)


def log_of_size(values: Any) -> Any:
    return np.log(np.abs(values))


def tried(estimator: Any, frame: pd.DataFrame | None) -> tuple[Signature, DirectServable]:
    signature, records = infer(estimator, frame)
    kept = pickle.dumps(estimator)
    servable = direct_servable(estimator, lambda: pickle.loads(kept), signature, records)
    assert servable is not None
    return signature, servable


def columns(*others: Any) -> Any:
    return make_column_transformer((make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b", "c"]), *others)


UNCHECKED = DirectCall(matrix=True, unchecked=True)
CHECKED = DirectCall(matrix=True, unchecked=False)
FRAMED = DirectCall(matrix=False, unchecked=False)

CASES = [
    pytest.param(LogisticRegression(), FRAME, UNCHECKED, id="logistic"),
    pytest.param(LinearRegression(), FRAME, UNCHECKED, id="linear"),
    pytest.param(GaussianNB(), FRAME, UNCHECKED, id="bayes"),
    pytest.param(KNeighborsClassifier(), FRAME, UNCHECKED, id="neighbours"),
    pytest.param(KNeighborsRegressor(metric="manhattan", n_jobs=2), FRAME, UNCHECKED, id="near in Manhattan"),
    pytest.param(KNeighborsRegressor(metric="cosine"), FRAME, CHECKED, id="another metric"),
    pytest.param(DecisionTreeClassifier(), FRAME, UNCHECKED, id="tree"),
    pytest.param(DecisionTreeRegressor(), WITH_GAPS, UNCHECKED, id="tree with holes"),
    pytest.param(make_pipeline(StandardScaler(), Ridge()), FRAME * 3, UNCHECKED, id="scaled"),
    # One column varies by a little less than 1, so that the largest float64 would not be finite after scaling.
    pytest.param(make_pipeline(StandardScaler(), Ridge()), FRAME, CHECKED, id="scaled to infinity"),
    pytest.param(
        make_pipeline(SimpleImputer(), MinMaxScaler(), KNeighborsRegressor()), WITH_GAPS, UNCHECKED, id="imputed"
    ),
    pytest.param(RandomForestClassifier(5), FRAME, CHECKED, id="forest"),
    pytest.param(RandomForestRegressor(5, n_jobs=2, random_state=0), WITH_GAPS, CHECKED, id="forest with holes"),
    pytest.param(make_pipeline(PolynomialFeatures(), Ridge()), FRAME, CHECKED, id="products"),
    pytest.param(make_pipeline(FunctionTransformer(log_of), DecisionTreeRegressor()), FRAME.abs(), CHECKED, id="log"),
    pytest.param(SVC(probability=False), FRAME, CHECKED, id="support vectors"),
    pytest.param(HistGradientBoostingClassifier(max_iter=5), WITH_GAPS, CHECKED, id="boosted"),
    pytest.param(
        make_pipeline(columns((OneHotEncoder(), ["word"])), LogisticRegression()), MIXED, CHECKED, id="columns by name"
    ),
    pytest.param(
        make_pipeline(columns(), Ridge()).set_output(transform="pandas"), FRAME, FRAMED, id="frames all the way"
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "frame", "call"), CASES)
def test_the_quickest_call_with_equal_answers_is_found(estimator: Any, frame: pd.DataFrame, call: DirectCall) -> None:
    estimator.fit(frame, LABELS if is_classifier(estimator) else TARGET)
    signature, servable = tried(estimator, frame)
    assert servable.call == call
    check_equal_outcomes(estimator, servable, signature)


def check_equal_outcomes(estimator: Any, servable: DirectServable, signature: Signature) -> None:
    """Check that for rows of every magnitude, with missing values, the signature refuses, both answer, or both fail."""
    validator, plain = Validator(signature, 1000), ArtifactServable(estimator, signature)
    seen = set()
    for _ in range(40):
        record = {
            spec.name: float(RANDOM.choice([-1.0, 1.0]) * RANDOM.choice(MAGNITUDES))
            if spec.kind == "number"
            else str(RANDOM.choice(["x", "y"]))
            for spec in signature.inputs
        }
        if RANDOM.random() < 0.2:
            record[str(RANDOM.choice(list(record)))] = None
        try:
            outcomes = [outcome(by, validator, record, signature) for by in (plain, servable)]
        except InvalidInstances:
            seen.add("refused")
            continue
        was, now = outcomes
        assert type(was) is type(now)
        if isinstance(was, dict):
            assert all(identical(was[name], now[name]) for name in was)
        else:
            assert str(was) == str(now)
        seen.add(type(was).__name__)
    assert "dict" in seen


def outcome(by: Any, validator: Validator, record: dict[str, Any], signature: Signature) -> Any:
    batch = validator.validate([record])
    try:
        return dict(by.run(batch, signature.outputs))
    except ValueError as error:
        return error


@pytest.mark.slow
def test_an_error_after_a_step_is_still_raised() -> None:
    """The regression refuses log(0); without its checks it would answer."""
    estimator = make_pipeline(FunctionTransformer(log_of_size), Ridge()).fit(FRAME.abs(), TARGET)
    signature, servable = tried(estimator, FRAME.abs())
    batch = Validator(signature, 10).validate([{"a": 1.0, "b": 0.0, "c": 1.0}])
    for by in (ArtifactServable(estimator, signature), servable):
        with pytest.raises(ValueError, match="infinity"):
            by.run(batch, ["prediction"])


def test_a_number_beyond_float32_is_refused_before_a_tree_runs() -> None:
    estimator = DecisionTreeRegressor().fit(FRAME, TARGET)
    signature, servable = tried(estimator, FRAME)
    assert servable.call.unchecked
    with pytest.raises(InvalidInstances):
        Validator(signature, 10).validate([{"a": 1e39, "b": 0.0, "c": 0.0}])


class ByName(BaseEstimator):
    """Answer differently for a frame and for a matrix."""

    def __init__(self, steady: bool = True) -> None:
        self.steady = steady

    def fit(self, features: Any, target: Any = None) -> ByName:
        self.feature_names_in_ = np.array(list(features.columns), dtype=object)
        self.n_features_in_ = len(features.columns)
        return self

    def predict(self, features: Any) -> Any:
        shift = 0.0 if hasattr(features, "columns") else 1e-15
        return np.asarray(features)[:, 0] * (1 + shift) + (0 if self.steady else os.urandom(1)[0])


def test_a_call_that_changes_one_bit_is_not_taken() -> None:
    assert tried(ByName().fit(FRAME), FRAME)[1].call == FRAMED


def test_a_model_with_random_answers_is_called_as_in_a_notebook() -> None:
    estimator = ByName(steady=False).fit(FRAME)
    signature, records = infer(estimator, FRAME)
    assert direct_servable(estimator, lambda: pickle.loads(pickle.dumps(estimator)), signature, records) is None
    assert direct_servable(estimator, lambda: estimator, signature, []) is None


@pytest.mark.slow
def test_the_call_is_recorded_in_the_manifest_and_served(tmp_path: Path) -> None:
    estimator = RandomForestClassifier(5, random_state=0).fit(FRAME, LABELS)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(estimator))
    FRAME.to_csv(tmp_path / "sample.csv", index=False)
    pack(
        PackRequest(
            str(tmp_path / "model.pkl"),
            "model",
            str(tmp_path / "models"),
            str(tmp_path / "sample.csv"),
            graph_limit_bytes=0,
        )
    )
    repository = Repository(tmp_path / "models")
    assert repository.manifest("model", 1).lean == CHECKED
    entry = VersionLoader(repository, LOADERS, lambda signature: Validator(signature, 10)).tried("model", 1)
    assert entry.state is State.AVAILABLE
    explaining = entry.required_lease().servable
    assert isinstance(explaining, ExplainedServable)
    assert isinstance(explaining._servable, DirectServable)
