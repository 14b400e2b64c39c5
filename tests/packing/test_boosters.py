"""Models in the files of XGBoost and LightGBM, and bare boosters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from app.errors import PackingRefused
from app.packing.artifacts import opening
from app.packing.artifacts.parts import Choice

FEATURES = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 3)), columns=["a", "b", "c"])
KINDS = (FEATURES["a"] > 0).astype(int) + (FEATURES["b"] > 0)
AMOUNTS = FEATURES["a"] * 3 + FEATURES["b"]


def opened(path: Path) -> Any:
    return opening.open_artifact([str(path)], Choice(), "trees")


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_a_file_of_xgboost_is_read_as_its_estimator(tmp_path: Path, suffix: str) -> None:
    classifier = xgboost.XGBClassifier(n_estimators=4).fit(FEATURES, KINDS)
    regressor = xgboost.XGBRegressor(n_estimators=4).fit(FEATURES, AMOUNTS)
    for estimator in (classifier, regressor):
        estimator.save_model(tmp_path / f"m.{suffix}")
        found = opened(tmp_path / f"m.{suffix}")
        assert type(found.estimator) is type(estimator)
        assert found.estimator.predict(FEATURES).tolist() == estimator.predict(FEATURES).tolist()
        assert found.estimator.feature_names_in_.tolist() == ["a", "b", "c"]
        assert (found.file, found.stored_name) == (None, "model.joblib")


def test_a_bare_booster_of_xgboost_is_wrapped(tmp_path: Path) -> None:
    matrix = xgboost.DMatrix(FEATURES, KINDS > 0)
    booster = xgboost.train({"objective": "binary:logistic"}, matrix, 4)
    joblib.dump(booster, tmp_path / "m.pkl")
    found = opened(tmp_path / "m.pkl").estimator
    assert found.predict_proba(FEATURES)[:, 1].tolist() == booster.predict(matrix).tolist()


@pytest.mark.parametrize(
    ("objective", "target"), [("binary", KINDS > 0), ("multiclass", KINDS), ("regression", AMOUNTS)]
)
@pytest.mark.parametrize("named", [True, False])
def test_lightgbm_is_read_from_a_text_file_and_from_a_booster(
    tmp_path: Path, objective: str, target: Any, named: bool
) -> None:
    parameters = {"objective": objective, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    parameters |= {"num_class": 3} if objective == "multiclass" else {}
    rows = FEATURES if named else FEATURES.to_numpy()
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, target.to_numpy()), 4)
    booster.save_model(tmp_path / "m.txt")
    joblib.dump(booster, tmp_path / "m.pkl")
    wanted = booster.predict(rows)
    for name in ("m.txt", "m.pkl"):
        found = opened(tmp_path / name).estimator
        if objective == "regression":
            assert np.array_equal(found.predict(rows), wanted)
            continue
        shares = found.predict_proba(rows)
        assert np.array_equal(shares if objective == "multiclass" else shares[:, 1], wanted)
        assert set(found.predict(rows)) <= set(found.classes_)


def test_a_catboost_file_names_the_library_that_it_needs(tmp_path: Path) -> None:
    (tmp_path / "m.cbm").write_bytes(b"CBM1\x00\x00")
    with pytest.raises(PackingRefused, match=r"(which needs catboost: pip install catboost|CatBoost does not take it)"):
        opened(tmp_path / "m.cbm")


@pytest.mark.parametrize("content", [b'{"learner": {"attributes": {}', b"tree\nversion=v4\n"])
def test_files_that_are_cut_off_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(PackingRefused, match=r"(is cut off|LightGBM does not take it)"):
        opened(tmp_path / "m")
