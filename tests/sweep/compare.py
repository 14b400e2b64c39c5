"""Frames as a client sends them, and answers as a client must receive them."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier

REL_TOL, ABS_TOL = 1e-9, 1e-12


def rows(frame: pd.DataFrame | np.ndarray | list[str]) -> list[list[Any]]:
    """Return the input of `predict` as rows of JSON values; missing values are null."""
    if isinstance(frame, list):
        return [[text] for text in frame]
    if isinstance(frame, pd.DataFrame):
        columns = [[plain(value) for value in frame.iloc[:, position].tolist()] for position in range(frame.shape[1])]
        return [list(row) for row in zip(*columns, strict=True)]
    return [[plain(value) for value in row] for row in frame.tolist()]


def plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN, infinities and pandas' missing values are null, in lists and arrays too."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(element) for element in value]
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def notebook(estimator: Any, frame: Any) -> dict[str, Any]:
    """Return the estimator's own answers for these rows, under the names of the HTTP answer.

    The probabilities of several targets are transposed, so that axis 0 is the row.
    """
    answer = getattr(estimator, "predict" if hasattr(estimator, "predict") else "transform")
    expected = {"prediction": plain(answer(frame))}
    if is_classifier(estimator) and hasattr(estimator, "predict_proba"):
        found = estimator.predict_proba(frame)
        by_row = [list(targets) for targets in zip(*found, strict=True)] if isinstance(found, list) else found
        expected |= {"probabilities": plain(by_row), "classes": plain(estimator.classes_)}
    return expected


def differences(expected: Any, found: Any, place: str = "", rel_tol: float = REL_TOL) -> list[str]:
    """List where two JSON values differ: floats beyond the tolerance, others if not identical and of the same type."""
    if isinstance(expected, dict) and isinstance(found, dict):
        missing = [f"{place}.{key} is missing" for key in expected if key not in found]
        pairs = [(f"{place}.{key}", expected[key], found[key]) for key in expected if key in found]
        return missing + [line for where, a, b in pairs for line in differences(a, b, where, rel_tol)]
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return [f"{place} has {len(found)} entries, not {len(expected)}"]
        numbered = enumerate(zip(expected, found, strict=True))
        return [line for position, (a, b) in numbered for line in differences(a, b, f"{place}[{position}]", rel_tol)]
    if isinstance(expected, float) and isinstance(found, float):
        same = math.isclose(expected, found, rel_tol=rel_tol, abs_tol=ABS_TOL)
    else:
        same = type(expected) is type(found) and expected == found
    return [] if same else [f"{place} is {json.dumps(found)}, not {json.dumps(expected)}"]
