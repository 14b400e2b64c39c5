"""The graph of a version is kept if it is proven; else the reason is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from app import create_app
from app.packing import graph
from app.packing.exporters.graph import PREDICTORS
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.settings import Settings
from app.storage.manifest import Manifest
from app.storage.repository import Repository

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(300, 3))
TARGET = ROWS @ [1.0, -2.0, 0.5]


def twice(values: Any) -> Any:
    return values * 2


def packed(estimator: Any, folder: Path, **options: Any) -> Manifest:
    joblib.dump(estimator, folder / "model.joblib")
    pack(PackRequest(str(folder / "model.joblib"), "model", str(folder / "models"), **options))
    return Repository(folder / "models").manifest("model", 1)


def test_a_proven_graph_is_stored_beside_the_artifact_with_its_hash(tmp_path: Path) -> None:
    manifest = packed(LogisticRegression().fit(ROWS, TARGET > 0), tmp_path)
    assert manifest.runtime == "graph"
    assert set(manifest.files) == {"model.joblib", "model.onnx", "recorded.json.gz", "explanation.npz"}
    assert manifest.proof["proven"] is True
    assert manifest.proof["rows"] > 1000
    assert manifest.proof["largest_difference"] <= 1e-9


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [(make_pipeline(FunctionTransformer(twice), LogisticRegression()), "it applies the function twice")],
)
def test_a_model_without_a_graph_is_served_as_the_artifact_with_the_reason(
    estimator: Any, reason: str, tmp_path: Path
) -> None:
    manifest = packed(estimator.fit(ROWS, TARGET > 0), tmp_path)
    assert manifest.runtime == "artifact"
    assert set(manifest.files) == {"model.joblib", "recorded.json.gz", "explanation.npz"}
    assert manifest.proof == {"proven": False, "reason": reason}


def test_a_graph_larger_than_allowed_is_not_kept(tmp_path: Path) -> None:
    manifest = packed(LogisticRegression().fit(ROWS, TARGET > 0), tmp_path, graph_limit_bytes=10)
    assert "larger than RETORT_GRAPH_LIMIT_BYTES=10" in str(manifest.proof["reason"])
    assert set(manifest.files) == {"model.joblib", "recorded.json.gz", "explanation.npz"}


def test_a_wrong_graph_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = LogisticRegression().fit(ROWS, TARGET > 0)
    right = PREDICTORS["sklearn.LogisticRegression"]

    def slightly_wrong(g: Any, est: Any, features: Any) -> Any:
        outputs = right(g, est, features)
        scores = outputs["decision_scores"]
        shifted = g.node("Add", [scores, g.constant(1e-7)], "float64", scores.width)
        return outputs | {"decision_scores": shifted}

    monkeypatch.setitem(PREDICTORS, "sklearn.LogisticRegression", slightly_wrong)
    manifest = packed(estimator, tmp_path)
    assert manifest.runtime == "artifact"
    assert str(manifest.proof["reason"]).startswith("the graph's decision_scores is ")


def test_an_error_in_an_exporter_does_not_prevent_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(g: Any, est: Any, features: Any) -> Any:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setitem(PREDICTORS, "sklearn.LogisticRegression", broken)
    manifest = packed(LogisticRegression().fit(ROWS, TARGET > 0), tmp_path)
    assert manifest.proof == {"proven": False, "reason": "its graph could not be made (ZeroDivisionError: a mistake)"}


@pytest.mark.fault("M06")
def test_weights_beside_the_graph_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_ONE_FILE_BYTES", 100)
    estimator = KNeighborsRegressor().fit(ROWS, TARGET)
    manifest = packed(estimator, tmp_path)
    assert manifest.runtime == "graph", manifest.proof
    assert set(manifest.files) == {
        "model.joblib",
        "model.onnx",
        "model.onnx.data",
        "recorded.json.gz",
        "explanation.npz",
    }
    client = create_app(Settings(models_dir=tmp_path / "models")).test_client()
    answer = client.post("/predict", json=ROWS[:3].tolist()).json
    assert np.allclose(answer["prediction"], estimator.predict(ROWS[:3]), rtol=1e-9)
    weights = tmp_path / "models/model/1/model.onnx.data"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    damaged = create_app(Settings(models_dir=tmp_path / "models")).test_client()
    assert "model.onnx.data is damaged" in damaged.get("/readyz").json["reasons"][0]["reason"]


def centred(values: Any) -> Any:
    return values - values.mean(axis=0)


@pytest.mark.parametrize(("function", "shares"), [(twice, True), (centred, False)])
def test_a_model_whose_rows_depend_on_one_another_is_not_batched(function: Any, shares: bool, tmp_path: Path) -> None:
    manifest = packed(
        make_pipeline(FunctionTransformer(function), LogisticRegression()).fit(ROWS, TARGET > 0), tmp_path
    )
    assert set(manifest.artifact_cost_us) == ({"1", "32"} if shares else {"1"})
