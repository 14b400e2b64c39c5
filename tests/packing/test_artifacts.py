"""Artifacts of several parts, of several files, with other suffixes, and files that are not models."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler

from app.errors import PackingRefused
from app.packing.artifacts import opening
from app.packing.artifacts.opening import READERS_OF_KIND, SUFFIXES, Artifact
from app.packing.artifacts.parts import Choice
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.runtime.decoded import Decoded
from app.runtime.loaders import LOADERS
from app.storage.repository import ARTIFACT_SUFFIXES, Repository
from tests.packing.artifacts import saved
from tests.skops_files import skops_dump

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(60, 3)) * [1.0, 10.0, 100.0]
NAMES = ["length", "width", "height"]
KINDS = np.where(FEATURES[:, 0] > 0, "rose", "aster")
ENCODER = LabelEncoder().fit(KINDS)
SCALER = StandardScaler().fit(FEATURES)
MODEL = LogisticRegression().fit(SCALER.transform(FEATURES), ENCODER.transform(KINDS))
PREDICTED = ENCODER.inverse_transform(MODEL.predict(SCALER.transform(FEATURES))).tolist()
BUNDLE = {"model": MODEL, "scaler": SCALER, "columns": NAMES, "encoder": ENCODER, "accuracy": 0.9}


def opened(*given: Path, **choice: Any) -> Artifact:
    return opening.open_artifact([str(path) for path in given], Choice(**choice), "flowers")


def refusal(*given: Path, **choice: Any) -> str:
    with pytest.raises(PackingRefused) as caught:
        opened(*given, **choice)
    return caught.value.detail


def test_the_parts_of_a_dict_are_listed_with_the_command_that_packs_them(tmp_path: Path) -> None:
    path = saved(BUNDLE, tmp_path / "bundle.pkl")
    assert refusal(path) == (
        "it holds parts, not one model: model: LogisticRegression; scaler: StandardScaler; "
        "columns: 3 texts (length, width, height); encoder: LabelEncoder; accuracy: float. To pack one: "
        f"flask models add {path} --name flowers --use model --before scaler --columns columns --labels encoder"
    )


def test_the_parts_of_a_dict_make_one_model(tmp_path: Path) -> None:
    path = saved(BUNDLE, tmp_path / "bundle.pkl")
    found = opened(path, use="model", before=("scaler",), columns="columns", labels="encoder")
    assert found.estimator.predict(FEATURES).tolist() == PREDICTED
    assert found.estimator.classes_.tolist() == ["aster", "rose"]
    assert (found.columns, found.file, found.stored_name) == (tuple(NAMES), None, "model.joblib")
    assert found.notes[-1] == "not used: accuracy"


@pytest.mark.parametrize("bundle", [(SCALER, MODEL), [SCALER, MODEL]])
def test_the_parts_of_a_tuple_are_named_by_their_position(tmp_path: Path, bundle: object) -> None:
    path = saved(bundle, tmp_path / "pair.pkl")
    assert refusal(path).endswith("--use 1 --before 0")
    found = opened(path, use="1", before=("0",))
    assert found.estimator.predict(FEATURES).tolist() == MODEL.predict(SCALER.transform(FEATURES)).tolist()


def test_the_parts_of_nested_dicts_make_one_model(tmp_path: Path) -> None:
    path = saved({"best": {"model": MODEL, "scaler": SCALER}, "note": "x"}, tmp_path / "nested.pkl")
    assert refusal(path).endswith("--use best.model --before best.scaler")
    assert opened(path, use="best.model", before=("best.scaler",)).estimator.predict(FEATURES).shape == (60,)


def test_several_files_make_one_pipeline_in_their_order(tmp_path: Path) -> None:
    pca = PCA(2).fit(SCALER.transform(FEATURES))
    model = LogisticRegression().fit(pca.transform(SCALER.transform(FEATURES)), KINDS)
    paths = [saved(part, tmp_path / name) for part, name in ((SCALER, "a.pkl"), (pca, "b.pkl.gz"), (model, "c.sav"))]
    found = opened(*paths).estimator
    expected = model.predict(pca.transform(SCALER.transform(FEATURES)))
    assert found.predict(FEATURES).tolist() == expected.tolist()
    assert opened(paths[2], *paths[:2]).estimator.predict(FEATURES).tolist() == expected.tolist()
    assert refusal(paths[1], paths[0], paths[2]) == "b gives 2 columns, and a takes 3: are these the right parts?"


def test_several_files_with_labels_and_columns(tmp_path: Path) -> None:
    (tmp_path / "columns.json").write_text(json.dumps(NAMES))
    paths = [saved(SCALER, tmp_path / "scaler.pkl"), saved(MODEL, tmp_path / "model.pkl")]
    encoder = saved(ENCODER, tmp_path / "encoder.pkl")
    for found in (
        opened(*paths, encoder, tmp_path / "columns.json"),
        opened(*paths, encoder, columns=str(tmp_path / "columns.json")),
        opened(*paths, labels=str(encoder), columns=str(tmp_path / "columns.json")),
        opened(*paths, use="model", before=("scaler",), labels=str(encoder), columns=str(tmp_path / "columns.json")),
    ):
        assert found.estimator.predict(FEATURES).tolist() == PREDICTED
        assert found.columns == tuple(NAMES)


@pytest.mark.parametrize("labels", [ENCODER, ["aster", "rose"], {0: "aster", 1: "rose"}, {"aster": 0, "rose": 1}])
def test_labels_of_every_kind_decode_predictions(tmp_path: Path, labels: object) -> None:
    model = make_pipeline(SCALER, MODEL)
    found = opened(saved({"m": model, "labels": labels}, tmp_path / "a.pkl"), use="m", labels="labels")
    assert found.estimator.predict(FEATURES).tolist() == PREDICTED
    assert found.estimator.predict_proba(FEATURES).tolist() == model.predict_proba(FEATURES).tolist()


def test_a_step_of_the_users_module_is_not_a_part(tmp_path: Path) -> None:
    assert opened(saved(MODEL, tmp_path / "a.pkl"), before=("enrich",)).steps == ("enrich",)
    found = opened(saved(BUNDLE, tmp_path / "b.pkl"), use="model", before=("enrich", "scaler"))
    assert found.steps == ("enrich",)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"use": "best"}, "--use best: there is no such part; there are: model, scaler, columns, encoder, accuracy"),
        ({"use": "scaler", "before": ("model",)}, "--before model: it is a LogisticRegression, and has no transform"),
        ({"use": "model", "columns": "accuracy"}, "--columns accuracy: it is a float, not names"),
        ({"use": "model", "labels": "accuracy"}, "--labels accuracy: it is a float, neither a LabelEncoder nor a list"),
        ({"use": "accuracy"}, "it is a float, not a model: it has no predict method"),
    ],
)
def test_an_impossible_choice_of_parts_is_refused(tmp_path: Path, choice: dict[str, Any], message: str) -> None:
    assert refusal(saved(BUNDLE, tmp_path / "bundle.pkl"), **choice).startswith(message)


def test_labels_of_another_model_are_refused(tmp_path: Path) -> None:
    model = LogisticRegression().fit(FEATURES, KINDS)
    path = saved({"model": model, "encoder": ENCODER}, tmp_path / "a.pkl")
    assert refusal(path).endswith("--use model")
    assert "the model predicts aster, rose, which are no positions" in refusal(path, use="model", labels="encoder")


def test_columns_of_another_number_are_refused(tmp_path: Path) -> None:
    path = saved({"model": MODEL, "columns": ["a", "b"]}, tmp_path / "a.pkl")
    assert "it holds 2 names, and the model takes 3" in refusal(path, use="model", columns="columns")


def test_several_files_with_two_models_are_listed(tmp_path: Path) -> None:
    paths = [saved(MODEL, tmp_path / "a.pkl"), saved(MODEL, tmp_path / "b.pkl")]
    assert refusal(*paths).startswith("it holds parts, not one model: a: LogisticRegression; b: LogisticRegression.")
    assert opened(*paths, use="b").estimator.predict(FEATURES).shape == (60,)


@pytest.mark.parametrize("name", ["m.pkl.gz", "m.joblib.gz", "m.sav", "m", "m.model", "m.dat.v2"])
@pytest.mark.parametrize("compress", [0, ("gzip", 3), ("bz2", 3), ("xz", 3), ("zlib", 3)])
@pytest.mark.fault("M05")
def test_a_pickle_is_read_by_its_content(tmp_path: Path, name: str, compress: Any) -> None:
    joblib.dump(MODEL, tmp_path / name, compress=compress)
    found = opened(tmp_path / name)
    assert type(found.estimator) is LogisticRegression
    assert found.stored_name in ("model.joblib", "model.sav")


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle_is_read(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "m.bin").write_bytes(pickle.dumps(MODEL, protocol))
    assert type(opened(tmp_path / "m.bin").estimator) is LogisticRegression


@pytest.mark.slow
def test_a_skops_file_is_read_under_another_suffix(tmp_path: Path) -> None:
    skops_dump(MODEL, tmp_path / "model.pkl")
    found = opened(tmp_path / "model.pkl")
    assert (found.format, found.stored_name) == ("skops", "model.skops")


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return content.getvalue()


PICKLED = pickle.dumps(MODEL)
NO_MODELS = [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file itself: "),
    (b"\n<!DOCTYPE html>\n<html></html>", "is an HTML page, not a model: download the file itself"),
    (b"", "is empty"),
    (PICKLED[: len(PICKLED) // 2], f"is cut off: its {len(PICKLED) // 2} bytes end too early"),
    (gzip.compress(PICKLED)[:-200], "is cut off: "),
    (bz2.compress(PICKLED)[:200], "is cut off: "),
    (zipped("schema.json")[:-10], "is cut off: it begins like a zip archive and has no end"),
    (zipped("archive/data.pkl", "archive/version"), "is a PyTorch file: write it with torch.onnx.export"),
    (zipped("config.json", "model.weights.h5"), "is a Keras file: convert it to ONNX"),
    (zipped("a.npy"), "is an archive of NumPy arrays, not a model"),
    (zipped("model.pkl"), "is a zip archive, not a model: unpack it; it holds model.pkl"),
    (b"a,b\n1,2\n", "is a text file, not a model; its first line is 'a,b'"),
    (b'{"a": 1}', "is JSON, not a model"),
    (b"\x89HDF\r\n", "is an HDF5 file, as Keras writes it"),
    (b"PAR1", "is a Parquet file of rows, not a model"),
    (b'<?xml version="1.0"?><PMML version="4.4">', "is PMML, which is not served"),
]


@pytest.mark.parametrize(("content", "message"), NO_MODELS)
@pytest.mark.fault("M05")
def test_a_file_that_is_not_a_model_is_refused_by_its_kind(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.pkl").write_bytes(content)
    assert refusal(tmp_path / "model.pkl").startswith(f"{tmp_path / 'model.pkl'} {message}")


def test_every_suffix_that_the_repository_knows_has_a_reader_and_a_loader() -> None:
    assert set(ARTIFACT_SUFFIXES) <= {suffix for some in SUFFIXES.values() for suffix in some}
    assert set(SUFFIXES) <= set(LOADERS)
    assert set(SUFFIXES) <= set(READERS_OF_KIND)


def test_the_files_of_a_folder_are_listed(tmp_path: Path) -> None:
    saved(MODEL, tmp_path / "model.pkl")
    assert refusal(tmp_path) == f"{tmp_path} is a folder, not a model: it holds model.pkl"


def test_an_address_on_the_network_is_refused() -> None:
    with pytest.raises(PackingRefused, match="is not on this machine: download it, and add the file"):
        opening.open_artifact(["s3://bucket/model.pkl"], Choice(), "flowers")


def request(folder: Path, *files: Path, **asked: Any) -> PackRequest:
    return PackRequest(str(files[0]), "flowers", str(folder / "models"), beside=tuple(map(str, files[1:])), **asked)


@pytest.mark.slow
def test_a_model_with_labels_is_served_as_one_graph(tmp_path: Path) -> None:
    path = saved(BUNDLE, tmp_path / "bundle.pkl")
    frame = pd.DataFrame(FEATURES, columns=NAMES).assign(kind=KINDS)
    frame[["kind", "height", "length", "width"]].to_csv(tmp_path / "rows.csv")
    chosen = {"use": "model", "before": ("scaler",), "columns": "columns", "labels": "encoder"}
    result = pack(request(tmp_path, path, sample=str(tmp_path / "rows.csv"), target="kind", **chosen))
    manifest = Repository(tmp_path / "models").manifest("flowers", 1)
    assert list(manifest.signature.names) == NAMES
    assert (manifest.runtime, manifest.signature.classes) == ("graph", ("aster", "rose"))
    assert manifest.examples[0].outputs["prediction"] == PREDICTED[0]
    assert manifest.before == ()
    assert "sample column 'Unnamed: 0' dropped: it is an index, and the model does not name it" in result.remarks


@pytest.mark.slow
def test_a_name_that_is_neither_a_part_nor_a_step_is_refused(tmp_path: Path) -> None:
    path = saved(BUNDLE, tmp_path / "bundle.pkl")
    for known in (None, ("enrich",)):
        with pytest.raises(PackingRefused, match=r"--before sclaer: it is neither a part of the artifact nor a step"):
            pack(request(tmp_path, path, use="model", before=("sclaer",), known_steps=known))
    pack(request(tmp_path, path, use="model", before=("enrich", "scaler"), known_steps=("enrich",)))
    assert Repository(tmp_path / "models").manifest("flowers", 1).before == ("enrich",)


def test_a_decoded_classifier_equals_its_parts() -> None:
    decoded = pickle.loads(pickle.dumps(Decoded(MODEL, ENCODER.classes_)))
    assert decoded.n_features_in_ == 3
    assert not hasattr(decoded, "feature_names_in_")
    named = LogisticRegression().fit(pd.DataFrame(FEATURES, columns=NAMES), ENCODER.transform(KINDS))
    assert Decoded(named, ["a", "b"]).feature_names_in_.tolist() == NAMES
    assert hasattr(decoded, "predict_proba")
    assert not hasattr(Decoded(BaseEstimator(), ["a"]), "predict_proba")
