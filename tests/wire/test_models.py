"""Tests of GET /models and its longer forms, the probes, and the root."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import joblib
import numpy as np
import pytest
from flask import Flask
from sklearn.linear_model import LogisticRegression

from app import create_app
from app.runtime.proving import same
from app.settings import Settings
from tests.wire.conftest import MODELS, MakeApp
from tests.wire.exchange import check, get, post

NAMES = ["diabetes", "digits", "digits-image", "iris-two", "penguins"]


def test_the_list(app: Flask) -> None:
    answer = get(app, "/models")
    check(answer)
    line = {"version": 1, "state": "AVAILABLE", "aliases": [], "runtime": "graph"}
    expected = [{"name": name, "default": name == "penguins", "versions": [line]} for name in NAMES]
    assert answer.document == {"models": expected}


@pytest.mark.parametrize("name", NAMES)
def test_one_model(app: Flask, manifests: dict[str, Any], name: str) -> None:
    answer = get(app, f"/models/{name}")
    check(answer)
    described, recorded = answer.document, manifests[name]
    assert (described["name"], described["version"], described["state"]) == (name, 1, "AVAILABLE")
    assert described["default"] is (name == "penguins")
    assert described["inputs"] == described["signature"]["inputs"]
    assert [each["name"] for each in described["inputs"]] == [each["name"] for each in recorded["signature"]["inputs"]]
    for key in ("task", "environment", "proof", "examples_made_up"):
        assert described[key] == recorded[key]
    assert described["outputs"] == [*recorded["signature"]["outputs"], "explanation"]
    assert described.get("classes") == recorded["signature"]["classes"]
    assert described["examples"] == [{"instance": e["instance"], **e["outputs"]} for e in recorded["examples"]]
    assert described["sha256"] == {file: record["sha256"] for file, record in recorded["files"].items()}
    assert get(app, f"/models/{name}/versions/1").document == described


def test_an_input_is_described_with_its_known_facts(app: Flask) -> None:
    inputs = {each["name"]: each for each in get(app, "/models/penguins").document["inputs"]}
    assert inputs["island"] == {
        "name": "island",
        "kind": "category",
        "nullable": True,
        "categories": ["Biscoe", "Dream", "Torgersen"],
        "unseen": "reject",
        "example": "Torgersen",
    }
    assert inputs["bill_length_mm"] == {
        "name": "bill_length_mm",
        "kind": "number",
        "nullable": True,
        "largest": 1e38,
        "minimum": 32.1,
        "maximum": 59.6,
        "example": 39.1,
    }
    assert inputs["year"]["kind"] == "integer"


@pytest.mark.parametrize("name", NAMES)
def test_each_recorded_example_is_answered_as_recorded(app: Flask, manifests: dict[str, Any], name: str) -> None:
    for example in manifests[name]["examples"]:
        answer = post(app, f"/models/{name}/predict", json.dumps(example["instance"])).document
        for output, recorded in example["outputs"].items():
            assert same([recorded], answer[output])


@pytest.mark.parametrize("path", ["/models/nope", "/models/nope/versions/1", "/models/penguins/versions/2"])
def test_unknown_models_and_versions_are_404(app: Flask, path: str) -> None:
    answer = get(app, path)
    assert answer.status == 404
    check(answer)
    assert "there are: " in answer.document["detail"]


def test_probes(app: Flask) -> None:
    assert get(app, "/livez").document == {"status": "alive"}
    ready = get(app, "/readyz")
    assert (ready.status, ready.document["status"], ready.document["models"]) == (200, "ready", 5)


@pytest.mark.slow
def test_the_root_has_links_for_programs(app: Flask) -> None:
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        document = get(app, "/", accept).document
        assert document["status"] == "alive"
        for place in document["links"].values():
            assert get(app, urljoin("/", place)).status == 200


def test_the_root_shows_people_a_page_with_every_model(app: Flask) -> None:
    answer = get(app, "/", {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.headers["Content-Type"].startswith("text/html")
    page = answer.content.decode()
    assert all(f'id="{name}"' in page for name in NAMES)
    assert "Traceback" not in page


@pytest.mark.slow
def test_an_empty_repository_is_ready_and_has_nothing(tmp_path: Path) -> None:
    app = create_app(Settings(models_dir=tmp_path / "not made yet"))
    assert get(app, "/models").document == {"models": []}
    assert get(app, "/readyz").status == 200
    answer = post(app, "/predict", "{}")
    assert answer.status == 404
    assert "the repository is empty" in answer.document["detail"]
    assert get(app, "/openapi.json").status == 200


@pytest.mark.slow
def test_no_default_among_several(served: MakeApp) -> None:
    fitted = LogisticRegression().fit(np.array([[0.0, 1.0], [1.0, 0.0]]), [0, 1])
    assert post(served(fitted, "one"), "/predict", "[[0, 1]]").document["model"] == "one"  # the only one
    app = served(fitted, "two")
    answer = post(app, "/predict", "[[0, 1]]")
    assert answer.status == 404
    check(answer)
    assert answer.document["detail"] == (
        "no model is the default one; name one in the URL, /models/<name>/predict; there are: one, two"
    )


@pytest.mark.slow
def test_the_default_model_is_a_setting() -> None:
    app = create_app(Settings(models_dir=MODELS, default_model="iris-two"))
    assert post(app, "/predict", '{"feature1": 5.1, "feature2": 3.5}').document["model"] == "iris-two"
    missing = create_app(Settings(models_dir=MODELS, default_model="nope"))
    answer = post(missing, "/predict", "{}")
    assert answer.status == 404
    assert answer.document["detail"].startswith("there is no model 'nope'")


@pytest.mark.slow
def test_the_first_request_is_answered_like_any_other() -> None:
    """`flask run` loads the models at the first request of any kind."""
    paths = ("/models", "/models/penguins", "/openapi.json", "/readyz")
    fresh = {path: get(create_app(Settings(models_dir=MODELS)), path).document for path in paths}
    app = create_app(Settings(models_dir=MODELS))
    assert get(app, "/readyz").status == 200
    for path in paths:
        assert fresh[path] == get(app, path).document, path


@pytest.mark.slow
def test_the_newest_version_answers_and_each_can_be_named(served: MakeApp) -> None:
    rows = np.array([[0.0, 1.0], [1.0, 0.0]])
    served(LogisticRegression().fit(rows, ["old", "older"]))
    app = served(LogisticRegression().fit(rows, ["new", "newer"]))
    paths = {"/predict": "new", "/models/model/predict": "new"}
    paths |= {f"/models/model/versions/{v}/predict": label for v, label in ((1, "old"), (2, "new"))}
    assert {path: post(app, path, "[[0, 1]]").document["prediction"] for path in paths} == {
        path: [label] for path, label in paths.items()
    }


@pytest.fixture
def with_a_broken_version(served: MakeApp, tmp_path: Path) -> Flask:
    """Version 1 serves; version 2 is damaged; `other` has only a damaged version."""
    fitted = LogisticRegression().fit(np.array([[0.0, 1.0], [1.0, 0.0]]), [0, 1])
    for name in ("model", "model", "other"):
        app = served(fitted, name)
    for damaged in ("model/2", "other/1"):
        artifact = tmp_path / "models" / damaged / "model.joblib"
        content = bytearray(artifact.read_bytes())
        content[len(content) // 2] ^= 1
        artifact.write_bytes(content)
    return app


@pytest.mark.slow
def test_a_damaged_version_fails_alone(with_a_broken_version: Flask) -> None:
    app = with_a_broken_version
    listed = {model["name"]: model["versions"] for model in get(app, "/models").document["models"]}
    assert [line["state"] for line in listed["model"]] == ["AVAILABLE", "FAILED"]
    assert listed["model"][1]["reason"].startswith("model.joblib is damaged or was replaced: its SHA-256 is ")
    assert post(app, "/models/model/predict", "[[0, 1]]").document["version"] == 1
    ready = get(app, "/readyz")
    assert ready.status == 503
    assert [(each["model"], each["version"], each["state"]) for each in ready.document["reasons"]] == [
        ("model", 2, "FAILED"),
        ("other", 1, "FAILED"),
    ]
    for path in ("/models/model/versions/2/predict", "/models/other/predict"):
        answer = post(app, path, "[[0, 1]]")
        assert answer.status == 503
        check(answer)
        assert int(answer.headers["Retry-After"]) > 0
        assert "GET /models says why" in answer.document["detail"]
    assert "/models/other/predict" not in get(app, "/openapi.json").document["paths"]
    assert get(app, "/livez").status == 200


def test_a_stray_artifact_is_refused_with_the_command_that_packs_it(tmp_path: Path) -> None:
    stray = tmp_path / "models" / "churn" / "model.joblib"
    stray.parent.mkdir(parents=True)
    joblib.dump(LogisticRegression().fit(np.array([[0.0, 1.0], [1.0, 0.0]]), [0, 1]), stray)
    app = create_app(Settings(models_dir=tmp_path / "models"))
    ready = get(app, "/readyz")
    assert ready.status == 503
    assert ready.document["reasons"] == [
        {
            "model": "churn",
            "version": 1,
            "state": "FAILED",
            "reason": "$RETORT_MODELS_DIR/churn/model.joblib is not packed; "
            "to pack it: flask models add $RETORT_MODELS_DIR/churn/model.joblib --name churn",
        }
    ]
    (listed,) = get(app, "/models").document["models"]
    assert listed["versions"][0]["reason"] == ready.document["reasons"][0]["reason"]
    answer = post(app, "/models/churn/predict", "[[0, 1]]")
    assert answer.status == 503
    assert str(tmp_path) not in answer.content.decode()  # problems name no path
