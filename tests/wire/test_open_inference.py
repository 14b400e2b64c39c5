"""Tests of the Open Inference Protocol beyond its corpus: other models, states that change, counts."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flask import Flask
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.wire.conftest import MakeApp
from tests.wire.exchange import Answer, get, post

LINE = np.array([[1.0], [2.0], [3.0]])
IRIS = "/v2/models/iris-two"
ROW = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [5.1, 3.5]}]})


def raw(app: Flask, content: bytes, model: str = "model") -> Answer:
    return post(app, f"/v2/models/{model}/infer", content, {"Inference-Header-Content-Length": "0"})


def binary(answer: Answer) -> bytes:
    return answer.content[int(answer.headers["Inference-Header-Content-Length"]) :]


def infer(app: Flask, tensor: dict[str, Any], **more: Any) -> Any:
    answer = post(app, "/v2/models/model/infer", json.dumps({"inputs": [tensor], **more}), {})
    assert answer.status == 200, answer.content
    return answer.document["outputs"]


@pytest.mark.slow
def test_a_body_that_is_one_tensor(served: MakeApp) -> None:
    app = served(LinearRegression().fit(LINE, 2 * LINE[:, 0]))
    answer = raw(app, struct.pack("<2d", 5, 7))
    assert answer.status == 200, answer.content
    assert np.frombuffer(binary(answer)) == pytest.approx([10, 14])
    assert raw(app, b"123456789").document["error"] == "the body has 9 bytes; FP64, of which the input is, has 8 each"


@pytest.mark.slow
def test_a_body_that_is_one_text(served: MakeApp) -> None:
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(
        ["good", "bad", "good day"], ["yes", "no", "yes"]
    )
    app = served(model)
    answer = raw(app, "a good day ☂".encode())
    assert answer.status == 200, answer.content
    assert b"yes" in binary(answer)
    assert raw(app, b"\xff\xfe").status == 400
    tensor = {"name": "anything", "shape": [2], "datatype": "BYTES", "data": ["good", "bad"]}
    assert infer(app, tensor)[0]["data"] == ["yes", "no"]
    assert infer(app, {**tensor, "shape": [2, 1]})[0]["data"] == ["yes", "no"]


@pytest.mark.slow
def test_one_input_is_a_column_or_a_table_by_any_name(served: MakeApp) -> None:
    app = served(LinearRegression().fit(LINE, 2 * LINE[:, 0]))
    for shape in ([3], [3, 1]):
        for name in ("feature1", "x"):
            tensor = {"name": name, "shape": shape, "datatype": "FP64", "data": [1, 2, 3]}
            assert infer(app, tensor)[0]["data"] == pytest.approx([2, 4, 6])
            bad = json.dumps({"inputs": [{**tensor, "data": [1, 2, None]}]})
            said = post(app, "/v2/models/model/infer", bad, {}).document["error"]
            assert "#/inputs/0/data/2 must not be missing" in said


@pytest.mark.slow
def test_a_transformer_answers_as_transform(served: MakeApp) -> None:
    app = served(StandardScaler().fit(LINE))
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [2.0]}
    (output,) = infer(app, tensor, outputs=[{"name": "transform"}])
    assert output == {"name": "transform", "datatype": "FP64", "shape": [1, 1], "data": [0.0]}


def test_a_version_may_be_an_alias(iris_two: MakeApp, tmp_path: Path) -> None:
    app = iris_two()
    (tmp_path / "models" / "repository.json").write_text('{"aliases": {"iris-two": {"champion": 1}}}', "utf-8")
    for what in ("", "/ready", "/config", "/stats"):
        assert get(app, f"{IRIS}/versions/champion{what}").status == 200
    assert post(app, f"{IRIS}/versions/champion/infer", ROW, {}).document["model_version"] == "1"


def test_the_models_and_their_versions_are_listed(app: Flask, manifests: dict[str, Any]) -> None:
    assert get(app, "/v2/models").document == {"models": sorted(manifests)}
    for body in (b"", b"{}", b'{"ready": true}', b'{"ready": false}'):
        assert post(app, "/v2/repository/index", body, {}).document == [
            {"name": name, "version": "1", "state": "READY", "reason": ""} for name in sorted(manifests)
        ]


def test_the_server_describes_itself(app: Flask) -> None:
    for path in ("/v2", "/v2/"):
        document = get(app, path).document
        assert list(document) == ["name", "version", "extensions"]
        assert document["name"] == "retort"
        assert {"binary_tensor_data", "model_repository", "statistics"} <= set(document["extensions"])


@pytest.mark.slow
def test_a_model_can_be_unloaded_and_loaded_again(iris_two: MakeApp) -> None:
    app = iris_two()
    assert (
        post(app, "/v2/repository/models/iris-two/unload", '{"parameters": {"unload_dependents": true}}').status == 200
    )
    assert post(app, f"{IRIS}/infer", ROW, {}).status == get(app, f"{IRIS}/ready").status == 503
    assert post(app, "/predict", "[[5.1, 3.5]]").status == 503
    assert get(app, "/readyz").status == get(app, "/v2/health/ready").status == 200
    assert get(app, "/models").document["models"][0]["versions"][0]["state"] == "RETIRED"
    (line,) = post(app, "/v2/repository/index", b"").document
    assert line["state"] == "UNAVAILABLE"
    assert line["reason"]
    assert post(app, "/v2/repository/index", b'{"ready": true}').document == []
    assert get(app, "/openapi.json").status == 200
    assert post(app, "/v2/repository/models/iris-two/load", b"").status == 200
    assert post(app, f"{IRIS}/infer", ROW, {}).status == 200


def test_a_version_that_failed_is_in_the_index_with_its_reason(iris_two: MakeApp, tmp_path: Path) -> None:
    app = iris_two()
    for name in ("model.joblib", "model.onnx"):
        (tmp_path / "models" / "iris-two" / "1" / name).write_bytes(b"damaged")
    (line,) = post(app, "/v2/repository/index", b"").document
    assert line["state"] == "UNAVAILABLE"
    assert "as when it was packed" in line["reason"]
    assert get(app, "/v2/health/ready").document["ready"] is False
    assert "iris-two 1" in get(app, "/v2/health/ready").document["error"]
    assert post(app, "/v2/repository/models/iris-two/load", b"").status == 503


def test_requests_are_counted(iris_two: MakeApp) -> None:
    app = iris_two()
    for body in (ROW, ROW, ROW.replace("5.1", "null"), "{"):
        post(app, f"{IRIS}/infer", body, {})
    post(app, "/v2/models/nope/infer", ROW, {})
    for path in ("/v2/models/stats", f"{IRIS}/stats", f"{IRIS}/versions/1/stats"):
        (counted,) = get(app, path).document["model_stats"]
        assert (counted["name"], counted["version"]) == ("iris-two", "1")
        assert (counted["inference_count"], counted["execution_count"]) == (2, 2)
        counts = {name: span["count"] for name, span in counted["inference_stats"].items()}
        assert (counts["success"], counts["fail"], counts["compute_infer"]) == (2, 2, 2)
        assert [each["batch_size"] for each in counted["batch_stats"]] == [1]


def test_limits(iris_two: MakeApp) -> None:
    app = iris_two(max_instances=3, body_limit_bytes=400)
    tensor = {"name": "x", "shape": [4, 2], "datatype": "FP64", "data": [1] * 8}
    answer = post(app, f"{IRIS}/infer", json.dumps({"inputs": [tensor]}), {})
    assert (answer.status, answer.document["error"].startswith("the request has 4 instances")) == (413, True)
    answer = post(app, f"{IRIS}/infer", json.dumps({"inputs": [tensor], "id": "x" * 400}), {})
    assert (answer.status, "longer than 400 bytes" in answer.document["error"]) == (413, True)


@pytest.mark.slow
def test_the_server_is_not_ready_while_it_drains(iris_two: MakeApp) -> None:
    app = iris_two()
    app.gateway.draining()
    answer = app.test_client().get("/v2/health/ready")
    assert answer.status_code == 503
    assert answer.get_json() == {"ready": False, "error": "the server is about to stop"}


def columns_and_tables(
    names: list[str], values: list[list[Any]], datatype: str = "FP64"
) -> list[tuple[list[Any], Any]]:
    """Return each form of these rows as tensors, with a function that gives the pointer of a value (row, column)."""
    shape, width = [len(values), len(names)], len(names)
    table = {"name": "x", "shape": shape, "datatype": datatype}
    columns = [
        {"name": name, "shape": [len(values)], "datatype": datatype, "data": [row[at] for row in values]}
        for at, name in enumerate(names)
    ]
    flat = {**table, "data": [value for row in values for value in row]}
    return [
        ([{**table, "data": values}], lambda row, at: f"#/inputs/0/data/{row}/{at}"),
        ([flat], lambda row, at: f"#/inputs/0/data/{row * width + at}"),
        (columns, lambda row, at: f"#/inputs/{at}/data/{row}"),
        (columns[::-1], lambda row, at: f"#/inputs/{width - 1 - at}/data/{row}"),
    ]


def test_far_more_tensors_than_inputs_are_refused_unread(app: Flask) -> None:
    answer = post(app, f"{IRIS}/infer", json.dumps({"inputs": ["unread"] * 1000}), {})
    assert answer.status == 400
    assert answer.document["error"].endswith("has 1000 tensors; the model takes one for each of its 2 inputs")
    few = [{"name": f"f{at}", "shape": [1], "datatype": "FP64", "data": [1]} for at in range(50)]
    said = post(app, f"{IRIS}/infer", json.dumps({"inputs": few}), {}).document["error"]
    assert said.startswith("52 values are not acceptable: #/inputs/0/name is not an input of this model")


@pytest.mark.slow
def test_a_number_out_of_range_is_pointed_at_in_its_tensor(served: MakeApp, tmp_path: Path) -> None:
    frame = pd.DataFrame({"bmi": [20.0, 30.0, 40.0], "age": [30.0, 50.0, 40.0]})
    frame.to_csv(tmp_path / "sample.csv", index=False)
    model = LinearRegression().fit(frame, frame["bmi"])
    app = served(model, sample=str(tmp_path / "sample.csv"), out_of_range="reject")
    for tensors, place in columns_and_tables(["bmi", "age"], [[20.0, 30.0], [20.0, 99.0]]):
        answer = post(app, "/v2/models/model/infer", json.dumps({"inputs": tensors}), {})
        assert answer.status == 400, answer.content
        assert f"{place(1, 1)} must be within the range seen in training" in answer.document["error"]
