"""Explanations in each protocol and media type: base and contributions add up to the explained output."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

from app.factory import create_app
from app.settings import Settings

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
OUTPUTS = {"penguins": "probabilities", "diabetes": "prediction", "iris-two": "decision_scores"}


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings(models_dir=MODELS, access_log=False))


def examples(app: Flask, model: str) -> list[dict[str, Any]]:
    described = app.test_client().get(f"/models/{model}", headers={"Accept": "application/json"}).json
    return [example["instance"] for example in described["examples"]]


def explained(answer: Any) -> np.ndarray[Any, Any]:
    """Return base plus contributions of each instance."""
    return np.array(
        [
            np.ravel(each["base"]) + np.sum([np.ravel(one) for one in each["contributions"].values()], axis=0)
            for each in answer["explanation"]
        ]
    )


@pytest.mark.parametrize(("model", "output"), OUTPUTS.items())
def test_base_and_contributions_add_up_to_the_output(app: Flask, model: str, output: str) -> None:
    asked = {"instances": examples(app, model), "outputs": [output, "explanation"]}
    answer = app.test_client().post(f"/models/{model}/predict", json=asked).json
    wanted = np.array(answer[output]).reshape(len(asked["instances"]), -1)
    assert explained(answer) == pytest.approx(wanted, abs=1e-6)
    for instance, found in zip(asked["instances"], answer["explanation"], strict=True):
        assert (found["output"], found["exact"]) == (output, True)
        assert set(found["contributions"]) == set(instance)


def test_an_explanation_comes_only_if_it_is_asked_for(app: Flask) -> None:
    answer = app.test_client().post("/predict", json=examples(app, "penguins")[0]).json
    assert "explanation" not in answer


def test_a_model_says_how_it_is_explained(app: Flask) -> None:
    described = app.test_client().get("/models/digits-image", headers={"Accept": "application/json"}).json
    assert described["explanation"]["method"] == "sampled"
    assert described["explanation"]["exact"] is False
    assert "explanation" in described["outputs"]


def test_open_inference_has_explanations_as_json_texts(app: Flask) -> None:
    client, [record, *_] = app.test_client(), examples(app, "iris-two")
    metadata = client.get("/v2/models/iris-two").json
    assert {"name": "explanation", "datatype": "BYTES", "shape": [-1]} in metadata["outputs"]
    inputs = [{"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]} for name, value in record.items()]
    asked = {"inputs": inputs, "outputs": [{"name": "explanation"}, {"name": "decision_scores"}]}
    found, scores = client.post("/v2/models/iris-two/infer", json=asked).json["outputs"]
    assert found["datatype"] == "BYTES"
    sums = explained({"explanation": [json.loads(found["data"][0])]})
    assert sums[0] == pytest.approx(scores["data"], abs=1e-6)


def test_a_cell_of_csv_holds_an_explanation_as_json_text(app: Flask) -> None:
    asked = {"instances": examples(app, "diabetes")[:2], "outputs": ["prediction", "explanation"]}
    answer = app.test_client().post("/models/diabetes/predict", json=asked, headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    sums = explained({"explanation": [json.loads(row["explanation"]) for row in rows]})
    assert sums[:, 0] == pytest.approx([float(row["prediction"]) for row in rows], abs=1e-6)


def test_no_instances_have_no_explanations(app: Flask) -> None:
    answer = app.test_client().post("/predict", json={"instances": [], "outputs": ["explanation"]}).json
    assert answer["explanation"] == []


@pytest.mark.parametrize(
    ("model", "most"),
    [("iris-two", 1000), ("digits", 312), pytest.param("digits-image", 781, marks=pytest.mark.slow)],
)
def test_a_request_has_as_many_explanations_as_are_cheap(app: Flask, model: str, most: int) -> None:
    """Digits has 64 inputs and 10 classes; digits-image runs 128 times for an explanation, of 100,000 at most."""
    lease = app.extensions["retort"].current(model)
    assert lease.most_explained == most
    instance = examples(app, model)[0]
    for outputs, rows, status in ((["explanation"], most + 1, 413), (["prediction"], most + 1, 200)):
        asked = {"instances": [instance] * rows, "outputs": outputs}
        answer = app.test_client().post(f"/models/{model}/predict", json=asked)
        assert answer.status_code == status
        if status == 413:
            assert answer.json["type"] == "/problems/too-many-explanations"
            assert f"at most {most} of this model" in answer.json["detail"]


def test_as_many_explanations_as_are_allowed_are_made(app: Flask) -> None:
    asked = {"instances": [examples(app, "iris-two")[0]] * 1000, "outputs": ["explanation"]}
    answer = app.test_client().post("/models/iris-two/predict", json=asked)
    assert len(answer.json["explanation"]) == 1000
