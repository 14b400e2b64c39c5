"""The recorded library versions, and their differences."""

from __future__ import annotations

import platform

import numpy as np
import sklearn

from app.runtime.environment import differences, environment


def test_the_environment_has_the_versions_of_installed_libraries() -> None:
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["scikit-learn"] == sklearn.__version__
    assert found["numpy"] == np.__version__
    assert {"pandas", "joblib", "scipy", "skops"} <= set(found)


def test_an_unchanged_environment_has_no_differences() -> None:
    assert differences(environment()) == "the library versions are those of packing time"
    assert differences({}) == "the library versions are those of packing time"


def test_changed_libraries_are_named_with_both_versions() -> None:
    now = environment()
    recorded = {**now, "scikit-learn": "0.1", "lightgbm": "4.0"}
    assert differences(recorded) == (
        f"since packing, scikit-learn was 0.1, is {now['scikit-learn']}; lightgbm was 4.0, is not installed"
    )
