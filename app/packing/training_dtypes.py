"""Find the dtypes of training columns, and their markers of missing values, in fitted parts of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.packing.releases import RELEASE, tells_width
from app.runtime.servable import parts_of

BEFORE_PANDAS_3 = int(pd.__version__.partition(".")[0]) < 3 or RELEASE < (1, 8)
"""Whether the model was trained with pandas 1 or 2: scikit-learn before 1.8 is older than pandas 3."""

TEXT = "object" if BEFORE_PANDAS_3 else "str"
"""The dtype of a column of strings that pandas read in training."""

TIMES = "datetime64[ns]" if BEFORE_PANDAS_3 else "datetime64[us]"
"""The dtype of times that pandas read from text in training."""

LONG_DIGITS, ENOUGH_LONG = 8, 5
"""This many numbers of this many digits do not look like float32 by chance."""

FOLLOW_WIDTH = {
    "coef_": (
        *("CCA", "HuberRegressor", "LinearSVC", "LinearSVR", "LogisticRegressionCV", "PLSCanonical", "PLSRegression"),
        *("QuantileRegressor", "TheilSenRegressor"),
    ),
    "components_": ("DBSCAN", "FactorAnalysis", "IncrementalPCA", "NeighborhoodComponentsAnalysis"),
    **dict.fromkeys(
        (
            *("_fit_X", "X_fit_", "X_train_", "cluster_centers_", "subcluster_centers_", "coefs_", "theta_"),
            *("data_min_", "max_abs_", "center_", "lambdas_", "location_", "means_"),
        ),
        (),
    ),
}
"""Attributes whose dtype is the one of the computation, and classes for which it is float64 in any case."""


def marker(value: Any) -> str | None:
    """Return the name of a marker of missing values; None for a value that is not missing."""
    if value is None:
        return "none"
    if value is pd.NA:
        return "na"
    return "nan" if isinstance(value, float) and value != value else None


def of_categories(categories: NDArray[Any], present: Sequence[Any]) -> str | None:
    """Return the dtype of a training column from the categories of an encoder; None if it is not certain.

    Encoders keep the dtype, but turn nullable numbers of pandas into float64, and all kinds of strings into objects.
    """
    if categories.dtype == object:
        return "object" if present and not any(isinstance(value, str) for value in present) else None
    if categories.dtype.kind in "iubM" or categories.dtype in (np.float32, np.float16):
        return str(categories.dtype)
    return None


def selected(selector: Any) -> str | None:
    """Return the dtype of the columns that a `make_column_selector` selects; None if there may be several."""
    wanted = getattr(selector, "dtype_include", None)
    if isinstance(wanted, list | tuple) and len(wanted) == 1:
        wanted = wanted[0]
    if isinstance(wanted, str) and wanted in ("category", "str"):
        return wanted
    if wanted is None or wanted in (np.number, np.floating, np.integer):
        return None
    try:
        dtype = np.dtype(wanted)
    except TypeError:
        return None
    return str(dtype) if dtype.kind in "iufb" else None


def kept(part: Any, width: int) -> list[str | None]:
    """Return the dtypes of the `width` training columns, if a part has kept a frame or its dtypes; else nothing."""
    for value in vars(part).values() if hasattr(part, "__dict__") else ():
        dtypes = value.dtypes if isinstance(value, pd.DataFrame) else value
        if isinstance(dtypes, pd.Series | dict) and len(dtypes) == width:
            found = list(dtypes.values()) if isinstance(dtypes, dict) else dtypes.tolist()
            if all(isinstance(dtype, np.dtype | pd.api.extensions.ExtensionDtype) for dtype in found):
                return [name_of(dtype) for dtype in found]
    return []


def name_of(dtype: Any) -> str:
    """Return the name of a dtype for `pandas.array`, including the storage of strings, which `str` leaves out."""
    if isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA:
        return f"string[{dtype.storage}]"
    return str(dtype)


def computed_narrow(part: Any) -> bool | None:
    """Whether a part of scikit-learn was fitted on float32; None if no attribute of it or of its parts tells.

    Estimators of scikit-learn keep float32 only if they were fitted on it.
    """
    tells_wide = False
    for inner in parts_of(part):
        if not type(inner).__module__.startswith("sklearn."):
            continue
        for name, value in vars(inner).items():
            first = value[0] if isinstance(value, list) and value else value
            if not isinstance(first, np.ndarray):
                continue
            if first.dtype == np.float32:
                return True
            if name == "support_vectors_":  # always float64, but with the values of the training data
                return is_narrow(first.ravel())
            follows = type(inner).__name__ not in FOLLOW_WIDTH.get(name, (type(inner).__name__,))
            tells_wide = tells_wide or (follows and first.dtype == np.float64 and tells_width(inner, name))
    return False if tells_wide else None


def is_narrow(numbers: NDArray[Any]) -> bool | None:
    """Whether float64 numbers were float32; None for short numbers, which may be either."""
    short = numbers.astype(np.float16).astype(np.float64) == numbers
    return None if short.all() else bool((numbers.astype(np.float32).astype(np.float64) == numbers).all())


def was_narrow(column: pd.Series[Any]) -> bool | None:
    """Whether numbers read from text were written from float32; None for short numbers, which may be either.

    A number is written with the fewest digits that distinguish it from its neighbours: at most 9 for float32. A number
    of 8 digits hardly ever equals a float32 by chance.
    """
    numbers = column.dropna().to_numpy(dtype=np.float64)
    texts = [str(number) for number in numbers.astype(np.float32)]
    if any(float(text) != number for text, number in zip(texts, numbers.tolist(), strict=True)):
        return False
    long = [text for text in texts if len(text.partition("e")[0].replace(".", "").strip("-0")) >= LONG_DIGITS]
    return True if len(long) >= ENOUGH_LONG else None
