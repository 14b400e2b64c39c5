"""Models that take other things than numbers and words: packed, served, refused and documented end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from flask import Flask
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.wire.conftest import MakeApp
from tests.wire.exchange import check, get, post


def predicted(app: Flask, body: Any) -> Any:
    answer = post(app, "/predict", json.dumps(body))
    check(answer)
    assert answer.status == 200, answer.content
    return answer.document["prediction"]


def refused(app: Flask, body: Any) -> dict[str, str]:
    """The sentences by pointer."""
    answer = post(app, "/predict", json.dumps(body))
    check(answer)
    assert answer.status == 422, answer.content
    return {each["pointer"]: each["detail"] for each in answer.document["errors"]}


def documented(app: Flask) -> Any:
    """The schema of a record; every example of the model is true and fits the schema of its request."""
    document = get(app, "/openapi.json").document
    content = document["paths"]["/models/model/predict"]["post"]["requestBody"]["content"]["application/json"]
    whole = {**content["schema"], "components": document["components"]}
    assert content["examples"]
    for example in content["examples"].values():
        jsonschema.Draft202012Validator(whole).validate(example["value"])
        assert predicted(app, example["value"]) is not None
    assert get(app, "/", {"Accept": "text/html"}).status == 200
    return document["components"]["schemas"]["model.record"]


def hours(frame: pd.DataFrame) -> pd.DataFrame:
    """What the model sees of a time."""
    return pd.DataFrame({"hour": frame["when"].dt.hour.fillna(-1), "year": frame["when"].dt.year.fillna(-1)})


def big(frame: pd.DataFrame) -> pd.DataFrame:
    """The last digit, for which a whole number has to be exact."""
    if str(frame["number"].dtype) != "Int64":
        raise TypeError("it was Int64 in training")
    return (frame[["number"]] % 10).fillna(-1).astype(float)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_a_model_that_takes_a_timestamp(served: MakeApp, tmp_path: Path, zone: str | None) -> None:
    frame = pd.DataFrame({"when": pd.date_range("2024-03-30T20:30", periods=48, freq="h", tz=zone)})
    model = make_pipeline(FunctionTransformer(hours), LinearRegression()).fit(frame, frame["when"].dt.hour)
    frame.to_parquet(tmp_path / "sample.parquet")
    app = served(model, sample=str(tmp_path / "sample.parquet"))
    hour = 12 if zone is None else 14
    for sent in ("2024-07-01T12:00:00Z", "2024-07-01T14:00:00+02:00", "2024-07-01 12:00", 1719835200, 1719835200.0):
        assert predicted(app, {"when": sent}) == pytest.approx([hour])
    errors = refused(app, {"instances": [{"when": "noon"}, {"when": 1e30}, ["2024-07-01"], [True]]})
    assert list(errors) == ["#/instances/0/when", "#/instances/1/when", "#/instances/3/0"]
    schema = documented(app)
    assert set(schema["properties"]["when"]["type"]) - {"null"} == {"string", "number"}
    assert schema["properties"]["when"]["example"].startswith("2024-03-30T20:30:00")


def test_nullable_integers_stay_integers(served: MakeApp, tmp_path: Path) -> None:
    frame = pd.DataFrame({"number": pd.array([1, 2, 3, None, 5, 6, 7, 8], dtype="Int64")})
    model = make_pipeline(FunctionTransformer(big), LinearRegression()).fit(frame, big(frame)["number"])
    frame.to_parquet(tmp_path / "sample.parquet")
    app = served(model, sample=str(tmp_path / "sample.parquet"))
    large = 2**53 + 1
    assert predicted(app, {"number": large}) == pytest.approx([large % 10])
    assert predicted(app, {"instances": [[large], [None], [4.0]]}) == pytest.approx([large % 10, -1, 4])
    assert predicted(app, [{"number": large}, {"number": None}]) == pytest.approx([large % 10, -1])
    documented(app)
