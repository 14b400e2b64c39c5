"""Tests of `/invocations` and `/ping` for clients of MLflow and SageMaker: their corpus and further cases."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from flask import Flask
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from app import create_app
from app.settings import Settings
from tests.wire.conftest import MODELS, MakeApp
from tests.wire.corpora import check_invalid, check_valid, names
from tests.wire.exchange import get, post

PROTOCOL = "invocations"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("name", names(PROTOCOL, "valid"))
def test_a_valid_request_gets_the_expected_answer(app: Flask, name: str) -> None:
    check_valid(app, PROTOCOL, name)


@pytest.mark.parametrize("name", names(PROTOCOL, "invalid"))
def test_an_invalid_request_gets_the_expected_error(app: Flask, name: str) -> None:
    document = check_invalid(app, PROTOCOL, name).document
    assert list(document) == ["error_code", "message"]
    assert all(isinstance(value, str) for value in document.values())


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_a_ping_tells_when_a_model_is_not_available(tmp_path: Path, path: str) -> None:
    shutil.copytree(MODELS / "iris-two", tmp_path / "models" / "iris-two")
    for artifact in (tmp_path / "models" / "iris-two" / "1").glob("model.*"):
        artifact.write_bytes(b"damaged")
    answer = get(create_app(Settings(models_dir=tmp_path / "models")), path)
    assert answer.status == 503
    assert answer.document["error_code"] == "TEMPORARILY_UNAVAILABLE"


def test_the_version_is_bare_text(app: Flask) -> None:
    answer = get(app, "/version")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(r"[\w.]+", answer.content.decode())


@pytest.mark.parametrize("sent", ["a" * 1025, "caf\xe9", "a\tb", ""])
def test_invalid_custom_attributes_are_not_echoed(app: Flask, sent: str) -> None:
    answer = app.test_client().post("/endpoints/iris-two/invocations", json=[[5.1, 3.5]], headers={ATTRIBUTES: sent})
    assert answer.status_code == 200
    assert ATTRIBUTES not in answer.headers


@pytest.mark.slow
def test_parameters_of_a_transform_stay_within_what_sagemaker_takes(iris_two: MakeApp) -> None:
    found = get(iris_two(body_limit_bytes=1000, threads=500), "/execution-parameters").document
    assert found == {"MaxConcurrentTransforms": 100, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 1}


@pytest.mark.slow
def test_a_model_of_one_input_takes_bare_values(served: MakeApp) -> None:
    words = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["good", "bad", "good day"], [1, 0, 1])
    app = served(words, "words")
    name = get(app, "/models/words").document["inputs"][0]["name"]
    for body in (
        {"inputs": "good day"},
        {"inputs": ["good day"]},
        {"instances": ["good day"]},
        {"inputs": {name: "good"}},
    ):
        assert post(app, "/invocations", json.dumps(body)).document == {"predictions": [1]}
    split = {"dataframe_split": {"columns": [0], "data": [["bad"]]}}
    assert post(app, "/invocations", json.dumps(split)).document == {"predictions": [0]}


FRAME = pd.DataFrame({"feature2": [3.5, 2.9], "feature1": [5.1, 6.3]})
IRIS_TWO = "/endpoints/iris-two/invocations"


def parquet() -> bytes:
    out = io.BytesIO()
    FRAME.to_parquet(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/vnd.apache.parquet", parquet()),
        ("application/msgpack", msgspec.msgpack.encode({"dataframe_records": FRAME.to_dict("records")})),
        ("application/msgpack", msgspec.msgpack.encode({"dataframe_split": FRAME.to_dict("split")})),
    ],
    ids=["parquet", "msgpack-records", "msgpack-split"],
)
def test_other_media_types_are_the_same_rows(app: Flask, media_type: str, body: bytes) -> None:
    assert post(app, IRIS_TWO, body, {"Content-Type": media_type}).document == {"predictions": [0, 2]}


def test_lines_are_answered_with_lines(app: Flask) -> None:
    answer = post(app, IRIS_TWO, b'[5.1, 3.5]\n[6.3, "x"]\n', {"Content-Type": "application/jsonlines"})
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    first, second = map(json.loads, answer.content.splitlines())
    assert first["prediction"] == 0
    assert "prediction" not in second
    headers = {"Content-Type": "application/jsonlines", "Accept": "application/json"}
    assert post(app, IRIS_TWO, b"[5.1, 3.5]\n[6.3, 2.9]\n", headers).document == {"predictions": [0, 2]}


def test_bodies_and_answers_may_be_compressed(app: Flask) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    answer = post(app, IRIS_TWO, gzip.compress(json.dumps([[5.1, 3.5]] * 2000).encode()), headers)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.content)) == [0] * 2000
