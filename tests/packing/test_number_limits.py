"""The least and the greatest number that a model accepts are found; other numbers are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PowerTransformer, StandardScaler

from app.errors import InvalidInstances
from app.packing.infer import infer
from app.packing.prove import NotProven, prove
from app.runtime.servable import ArtifactServable
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch, Outputs
from app.signature.validator import Validator

pytestmark = pytest.mark.filterwarnings("ignore")

RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame({"size": RANDOM.gamma(2.0, 2.0, 60) + 0.1, "weight": RANDOM.gamma(2.0, 2.0, 60) + 0.1})
WHOLE = pd.DataFrame({"count": RANDOM.integers(1, 50, 60)})
HEAVY = (FRAME["weight"] > 4).to_numpy()


def limits(function: Any, frame: pd.DataFrame = FRAME) -> dict[str, tuple[float | None, float | None]]:
    model = make_pipeline(FunctionTransformer(function), LinearRegression()).fit(frame, range(len(frame)))
    signature, _ = infer(model, frame)
    return {spec.name: (spec.least, spec.most) for spec in signature.inputs}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "least", "most"),
    [
        (np.log1p, math.nextafter(-1.0, 0.0), None),
        (np.log, math.ulp(0.0), None),
        (np.sqrt, 0.0, None),
        (np.exp, None, math.log(np.finfo(np.float64).max)),
    ],
)
def test_the_limits_of_a_function_are_found_to_the_last_bit(function: Any, least: Any, most: Any) -> None:
    assert limits(function) == dict.fromkeys(FRAME, (least, most))


@pytest.mark.slow
def test_a_column_without_a_limit_has_none() -> None:
    model = make_pipeline(
        make_column_transformer((FunctionTransformer(np.sqrt), ["size"]), (StandardScaler(), ["weight"])), Ridge()
    ).fit(FRAME, range(60))
    signature, _ = infer(model, FRAME)
    assert [(spec.least, spec.most) for spec in signature.inputs] == [(0.0, None), (None, None)]


@pytest.mark.slow
def test_the_limits_of_integers_are_integers() -> None:
    assert limits(np.log, WHOLE) == {"count": (1, None)}


def difference(frame: Any) -> Any:
    return np.sqrt(np.asarray(frame)[:, :1] - np.asarray(frame)[:, 1:] + 30.0)


def reciprocal(frame: Any) -> Any:
    return 1.0 / np.asarray(frame)


@pytest.mark.parametrize("function", [difference, reciprocal])
def test_a_limit_that_depends_on_another_input_or_is_a_gap_is_left_out(function: Any) -> None:
    assert limits(function) == dict.fromkeys(FRAME, (None, None))


@pytest.mark.parametrize(
    ("spec", "value", "message"),
    [
        (Input("x", "number", "float64", least=math.nextafter(-1.0, 0.0)), -1.0, "must be greater than -1"),
        (Input("x", "number", "float64", least=0.0), -0.5, "must be at least 0"),
        (Input("x", "number", "float64", least=0.0, most=1.0), 2, "must be at least 0 and at most 1"),
        (Input("x", "integer", "int64", least=1), 0, "must be an integer from 1 to 9223372036854775807"),
    ],
)
def test_a_number_beyond_a_limit_is_refused_with_the_limit(spec: Input, value: float, message: str) -> None:
    validator = Validator(Signature((spec,), ("prediction",), ("prediction",), Layout.FRAME), 10)
    with pytest.raises(InvalidInstances) as caught:
        validator.validate([{"x": value}])
    assert [error.detail for error in caught.value.errors] == [message]
    assert validator.decode(b'[{"x": %s}]' % str(value).encode()) is None


class AnswersAlways:
    """Answer with the model's graph, also for the rows on which the model fails."""

    def __init__(self, artifact: ArtifactServable) -> None:
        self.artifact = artifact

    def run(self, batch: Batch, outputs: Any) -> Outputs:
        try:
            return self.artifact.run(batch, outputs)
        except ValueError:
            return self.artifact.run(Batch(dict.fromkeys(batch.columns, np.ones(batch.rows)), batch.rows), outputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(FunctionTransformer(reciprocal), LogisticRegression()),
        make_pipeline(FunctionTransformer(difference), Ridge()),
        make_pipeline(PowerTransformer("box-cox"), LogisticRegression()),
    ],
)
def test_a_graph_that_answers_where_the_model_fails_is_not_proven(model: Any) -> None:
    model.fit(FRAME, HEAVY)
    signature, records = infer(model, FRAME)
    endless = Signature(
        tuple(Input(spec.name, "number", "float64") for spec in signature.inputs),
        signature.outputs,
        signature.defaults,
        signature.layout,
    )
    artifact = ArtifactServable(model, endless)
    with pytest.raises(NotProven, match="the graph answers where the estimator fails, for size="):
        prove(model, artifact, AnswersAlways(artifact), artifact, endless, records)


@pytest.mark.slow
def test_a_model_of_many_columns_is_tried_as_often_as_one_of_few() -> None:
    asked = []
    for width in (20, 80):
        wide = pd.DataFrame(RANDOM.gamma(2.0, 2.0, (40, width)) + 0.1, columns=[f"c{at}" for at in range(width)])
        counting = Counting()
        model = make_pipeline(FunctionTransformer(counting), HistGradientBoostingRegressor(max_iter=2))
        infer(model.fit(wide, range(40)), wide)
        asked.append(counting.calls)
    assert asked[1] < 1.5 * asked[0]


class Counting:
    """The logarithm, with a count of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: Any) -> Any:
        self.calls += 1
        return np.log1p(np.asarray(frame))
