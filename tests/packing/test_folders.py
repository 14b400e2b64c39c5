"""Folders that MLflow and skops write around a model."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from app.errors import PackingRefused
from app.packing.artifacts import opening
from app.packing.artifacts.folders import located
from app.packing.artifacts.parts import Choice
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.storage.manifest import Manifest
from app.storage.repository import Repository
from tests.skops_files import skops_dump

NAMES = [f"petal width of the {place} flower (cm)" for place in ("first", "second", "gardener's")]
FEATURES = np.random.default_rng(0).normal(size=(40, 3))
MODEL = LogisticRegression().fit(FEATURES, FEATURES[:, 0] > 0)

MLMODEL = """\
artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.7
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.4.2
mlflow_version: 2.14.1
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  type: dataframe
signature:
  inputs: '[{"type": "double", "name": "petal width of the first flower (cm)", "required":
    true}, {"type": "double", "name": "petal width of the second flower (cm)", "required":
    true}, {"type": "double", "name": "petal width of the gardener''s flower (cm)",
    "required": true}]'
  outputs: '[{"type": "boolean", "required": true}]'
  params: null
utc_time_created: '2024-07-01 12:00:00.123456'
"""


def mlflow_folder(folder: Path, said: str = MLMODEL) -> Path:
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(said)
    (folder / "model.pkl").write_bytes(pickle.dumps(MODEL))
    rows = {"columns": NAMES[::-1], "data": FEATURES[:4, ::-1].tolist()}
    (folder / "input_example.json").write_text(json.dumps(rows))
    return folder


def packed(folder: Path, given: str) -> tuple[Manifest, tuple[str, ...]]:
    result = pack(PackRequest(given, "flowers", str(folder / "models")))
    assert result.version is not None
    return Repository(folder / "models").manifest("flowers", result.version), result.remarks


@pytest.mark.slow
def test_a_folder_of_mlflow_gives_names_and_example_rows(tmp_path: Path) -> None:
    manifest, remarks = packed(tmp_path, str(mlflow_folder(tmp_path / "m")))
    assert located(str(tmp_path / "m" / "model.pkl")) == located(str(tmp_path / "m"))
    assert list(manifest.signature.names) == NAMES
    assert not manifest.examples_made_up
    assert list(manifest.examples[0].instance.values()) == FEATURES[0].tolist()
    assert manifest.examples[0].outputs["prediction"] == bool(MODEL.predict(FEATURES[:1])[0])
    assert "MLflow model, flavor sklearn, file model.pkl, written by MLflow 2.14.1" in remarks
    assert "its examples are those in input_example.json" in remarks


@pytest.mark.slow
def test_an_example_of_another_form_is_left_out_with_a_note(tmp_path: Path) -> None:
    folder = mlflow_folder(tmp_path / "m")
    (folder / "input_example.json").write_text("7")
    manifest, remarks = packed(tmp_path, str(folder))
    assert manifest.examples_made_up
    assert any(remark.startswith("its own examples are not taken: ") for remark in remarks)


def test_a_file_uri_is_opened(tmp_path: Path) -> None:
    folder = mlflow_folder(tmp_path / "my model")
    assert located(folder.as_uri()).file == folder / "model.pkl"


def test_a_run_in_a_local_store_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = mlflow_folder(tmp_path / "mlruns" / "0" / "abc123" / "artifacts" / "model")
    assert located("runs:/abc123/model").file.resolve() == folder / "model.pkl"
    registered = tmp_path / "mlruns" / "models" / "flowers" / "version-2"
    registered.mkdir(parents=True)
    (registered / "meta.yaml").write_text(f"name: flowers\nstorage_location: {folder.as_uri()}\nversion: '2'\n")
    for uri in ("models:/flowers/2", "models:/flowers/latest"):
        assert located(uri).file == folder / "model.pkl"


def test_a_store_elsewhere_needs_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PackingRefused, match="needs mlflow, which is not installed: pip install mlflow, or add the "):
        located("models:/flowers/1")


def test_a_flavor_that_is_not_served_is_named(tmp_path: Path) -> None:
    said = "flavors:\n  python_function:\n    loader_module: mlflow.pytorch\n  pytorch:\n    model_data: data\n"
    with pytest.raises(PackingRefused, match="is an MLflow model of the flavor pytorch; those that are served are: sk"):
        located(str(mlflow_folder(tmp_path / "m", said)))


def test_a_missing_file_that_mlmodel_names_is_refused(tmp_path: Path) -> None:
    folder = mlflow_folder(tmp_path / "m")
    (folder / "model.pkl").unlink()
    with pytest.raises(PackingRefused, match=r"names the file model.pkl, which is not there"):
        located(str(folder))


def hub_folder(folder: Path, config: Any) -> Path:
    folder.mkdir()
    skops_dump(MODEL, folder / "model.skops")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_a_folder_of_the_hugging_face_hub_is_opened(tmp_path: Path) -> None:
    example = {name: FEATURES[:3, place].tolist() for place, name in enumerate(NAMES)}
    config = {"sklearn": {"columns": NAMES, "example_input": example, "model": {"file": "model.skops"}}}
    manifest, remarks = packed(tmp_path, str(hub_folder(tmp_path / "hub", config)))
    assert list(manifest.signature.names) == NAMES
    assert (manifest.format, manifest.examples_made_up) == ("skops", False)
    assert "model of the Hugging Face Hub, file model.skops" in remarks


@pytest.mark.slow
def test_a_folder_of_the_hub_with_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackingRefused, match="is a model of bert from the Hugging Face Hub, not one of scikit-learn"):
        located(str(hub_folder(tmp_path / "hub", {"model_type": "bert"})))


@pytest.mark.slow
def test_types_that_skops_does_not_know_need_trust(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(2, random_state=0).fit(FEATURES, FEATURES[:, 0] > 0)
    skops_dump(forest, tmp_path / "m.skops")
    with pytest.raises(PackingRefused, match=r"sklearn\.tree\._tree\.Tree; if you trust whoever made it: --trust"):
        opening.open_artifact([str(tmp_path / "m.skops")], Choice(), "m")
    found = opening.open_artifact([str(tmp_path / "m.skops")], Choice(), "m", trust=True)
    assert found.estimator.predict(FEATURES).tolist() == forest.predict(FEATURES).tolist()
    assert (found.file, found.format) == (None, "joblib")
    assert found.notes == ("trusted, as asked: sklearn.tree._tree.Tree",)
