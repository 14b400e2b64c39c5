"""Read models of XGBoost, LightGBM and CatBoost in the formats of these libraries, and wrap bare boosters.

Each becomes the scikit-learn estimator of its library, which gives the labels and the probabilities of a classifier.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from app.errors import LoadingFailed, one_line

CLASSIFIES = ("binary", "multi", "cross_entropy")
CATBOOST_CLASSIFIES = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll", "MultiLogloss")


def read_xgboost(path: Path) -> Any:
    """Read the estimator in a `.json` or `.ubj` file."""
    return _of_xgboost(_library("xgboost", "XGBoost"), bytearray(path.read_bytes()))


def read_lightgbm(path: Path) -> Any:
    """Read the estimator in a text file of LightGBM."""
    library = _library("lightgbm", "LightGBM")
    try:
        booster = library.Booster(model_str=path.read_text(encoding="utf-8"))
    except Exception as error:
        raise LoadingFailed(f"LightGBM does not take it ({one_line(error)})") from error
    return _of_lightgbm(library, booster)


def read_catboost(path: Path) -> Any:
    """Read the estimator in a `.cbm` file."""
    library = _library("catboost", "CatBoost")
    try:
        found = library.CatBoost().load_model(str(path), format="cbm")
        loss = str(found.get_all_params().get("loss_function", "")).partition(":")[0]
        kind = library.CatBoostClassifier if loss in CATBOOST_CLASSIFIES else library.CatBoostRegressor
        return kind().load_model(str(path), format="cbm")
    except Exception as error:
        raise LoadingFailed(f"CatBoost does not take it ({one_line(error)})") from error


def estimator_of(part: Any) -> Any:
    """Wrap a bare booster in an estimator; return any other object as it is."""
    kind = type(part)
    if kind.__name__ == "Booster" and kind.__module__.startswith("xgboost."):
        return _of_xgboost(importlib.import_module("xgboost"), part.save_raw("ubj"))
    if kind.__name__ == "Booster" and kind.__module__.startswith("lightgbm."):
        return _of_lightgbm(importlib.import_module("lightgbm"), part)
    return part


def _of_xgboost(library: ModuleType, content: bytearray) -> Any:
    import json

    try:
        booster = library.Booster()
        booster.load_model(content)
        objective = str(json.loads(booster.save_config())["learner"]["objective"]["name"])
    except Exception as error:
        raise LoadingFailed(f"XGBoost does not take it ({one_line(error)})") from error
    if objective.startswith("rank"):
        kind = library.XGBRanker
    else:
        kind = library.XGBClassifier if objective.startswith(CLASSIFIES) else library.XGBRegressor
    estimator = kind()
    estimator.load_model(content)
    return estimator


def _of_lightgbm(library: ModuleType, booster: Any) -> Any:
    """Wrap a booster in an estimator, with the attributes that its `fit` would set."""
    found = re.search("^objective=(.*?)( |$)", booster.model_to_string(0, 0), re.MULTILINE)
    objective = found[1] if found else ""
    names = [str(name) for name in booster.feature_name()]
    classifies = objective.startswith(CLASSIFIES)
    estimator = (library.LGBMClassifier if classifies else library.LGBMRegressor)(n_jobs=1)
    estimator._Booster = booster
    estimator._objective = objective
    estimator._n_features = estimator._n_features_in = booster.num_feature()
    estimator._best_iteration = booster.best_iteration
    estimator._fitted_with_feature_names = names != [f"Column_{place}" for place in range(len(names))]
    if not estimator._fitted_with_feature_names:
        estimator._feature_name = None
    estimator._evals_result, estimator._best_score = {}, {}
    estimator.fitted_ = True
    if classifies:
        from sklearn.preprocessing import LabelEncoder

        count = max(2, booster.num_model_per_iteration())
        estimator._n_classes, estimator._classes = count, np.arange(count)
        estimator._class_map = {number: number for number in range(count)}
        estimator._le = LabelEncoder().fit(estimator._classes)
    return estimator


def _library(name: str, title: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise LoadingFailed(f"it is a model of {title}, which needs {name}: pip install {name}") from None
