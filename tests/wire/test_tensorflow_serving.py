"""Tests of TensorFlow Serving's protocol: its corpus, labels, states, and KServe's differences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from app import create_app
from app.settings import Settings
from tests.storage.versions import edit
from tests.wire.conftest import MODELS, MakeApp
from tests.wire.corpora import check_invalid, check_valid, names
from tests.wire.exchange import get, post

PROTOCOL = "tensorflow_serving"
IRIS_TWO = "/v1/models/iris-two"
ROWS = {"instances": [[5.1, 3.5]]}


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("name", names(PROTOCOL, "valid"))
def test_a_valid_request_gets_the_expected_answer(app: Flask, name: str) -> None:
    check_valid(app, PROTOCOL, name)


@pytest.mark.parametrize("name", names(PROTOCOL, "invalid"))
def test_an_invalid_request_gets_the_expected_error(app: Flask, name: str) -> None:
    answer = check_invalid(app, PROTOCOL, name)
    assert list(answer.document) == ["error"]
    assert isinstance(answer.document["error"], str)


def test_only_its_own_paths_have_its_error_format(app: Flask) -> None:
    assert "error" in get(app, "/v1/models/nope").document
    assert "detail" in get(app, "/v1/modelsx").document
    assert "detail" in get(app, "/v1").document


def ask(app: Flask, path: str, document: Any) -> Any:
    return post(app, path, json.dumps(document)).document


@pytest.fixture
def two_versions(tmp_path: Path) -> Flask:
    """iris-two in three versions: 1 is the champion, 3 is damaged."""
    models = tmp_path / "models"
    for version in (1, 2, 3):
        shutil.copytree(MODELS / "iris-two" / "1", models / "iris-two" / str(version))
        edit(models / "iris-two" / str(version), version=version)
    for artifact in (models / "iris-two" / "3").glob("model.*"):
        artifact.write_bytes(b"damaged")
    (models / "repository.json").write_text('{"aliases": {"iris-two": {"champion": 1, "broken": 3}}}', "utf-8")
    return create_app(Settings(models_dir=models))


def test_labels_are_aliases(two_versions: Flask) -> None:
    assert ask(two_versions, f"{IRIS_TWO}/labels/champion:predict", ROWS) == {"predictions": [0]}
    found = get(two_versions, f"{IRIS_TWO}/labels/champion").document
    assert [each["version"] for each in found["model_version_status"]] == ["1"]
    spec = get(two_versions, f"{IRIS_TWO}/labels/champion/metadata").document["model_spec"]
    assert spec == {"name": "iris-two", "signature_name": "", "version": "1"}


def test_states_come_newest_first_with_the_reason_of_a_failure(two_versions: Flask) -> None:
    found = get(two_versions, IRIS_TWO).document
    assert found["ready"] is True
    states = [(each["version"], each["state"], each["status"]["error_code"]) for each in found["model_version_status"]]
    assert states == [("3", "END", "FAILED_PRECONDITION"), ("2", "AVAILABLE", "OK"), ("1", "AVAILABLE", "OK")]
    assert found["model_version_status"][0]["status"]["error_message"]
    broken = get(two_versions, f"{IRIS_TWO}/labels/broken").document
    assert broken["ready"] is False


def test_a_version_that_failed_is_unavailable(two_versions: Flask) -> None:
    answer = post(two_versions, f"{IRIS_TWO}/versions/3:predict", json.dumps(ROWS))
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    assert list(answer.document) == ["error"]


@pytest.mark.parametrize(
    "inputs", [[[5.1, 3.5], [6.3, 2.9]], {"feature1": [5.1, 6.3], "feature2": [3.5, 2.9]}], ids=["rows", "columns"]
)
def test_kserve_is_answered_with_predictions(iris_two: MakeApp, inputs: Any) -> None:
    app = iris_two(kserve_v1=True)
    assert ask(app, f"{IRIS_TWO}:predict", {"inputs": inputs}) == {"predictions": [0, 2]}


@pytest.mark.slow
def test_a_model_of_one_input_takes_bare_values(served: MakeApp) -> None:
    words = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["good", "bad", "good day"], [1, 0, 1])
    app = served(words, "words")
    good = {"b64": "Z29vZCBkYXk="}
    for instances in (["good day", "bad"], [["good day"], ["bad"]], [good, "bad"], [[good], "bad"]):
        assert ask(app, "/v1/models/words:predict", {"instances": instances}) == {"predictions": [1, 0]}
    name = get(app, "/models/words").document["inputs"][0]["name"]
    assert ask(app, "/v1/models/words:predict", {"instances": [{name: good}]}) == {"predictions": [1]}
    assert ask(app, "/v1/models/words:predict", {"inputs": ["good day", "bad"]}) == {"outputs": [1, 0]}
    refused = ask(app, "/v1/models/words:predict", {"instances": [good, {"b64": "?"}]})
    assert "#/instances/1/b64 must be the base64 of text in UTF-8" in refused["error"]


def test_too_many_instances_are_refused_in_its_error_format(iris_two: MakeApp) -> None:
    app = iris_two(body_limit_bytes=100, max_instances=1)
    for body in (" " * 101, json.dumps({"instances": [[5.1, 3.5]] * 2})):
        answer = post(app, f"{IRIS_TWO}:predict", body)
        assert answer.status == 413
        assert list(answer.document) == ["error"]
