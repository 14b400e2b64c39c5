"""Library versions: what is recorded, and which differ."""

from __future__ import annotations

import platform

import numpy as np
import sklearn

from app.runtime.environment import differences, environment


def test_the_versions_of_what_predictions_depend_on() -> None:
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["scikit-learn"] == sklearn.__version__
    assert found["numpy"] == np.__version__
    assert {"pandas", "joblib", "scipy", "skops"} <= set(found)


def test_nothing_differs() -> None:
    assert differences(environment()) == "the library versions are those of packing time"
    assert differences({}) == "the library versions are those of packing time"


def test_what_differs_is_named_with_both_versions_and_the_rest_is_not() -> None:
    now = environment()
    recorded = {**now, "scikit-learn": "0.1", "lightgbm": "4.0"}
    assert differences(recorded) == (
        f"since packing, scikit-learn was 0.1, is {now['scikit-learn']}; lightgbm was 4.0, is not installed"
    )
