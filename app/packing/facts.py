"""Collect the facts that a fitted estimator has kept about each input: categories, dtype, markers, range and others.

The dtypes of training columns and their markers of missing values come from its fitted parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.packing.inspect import VECTORIZERS, is_of, wrapped
from app.packing.releases import RELEASE, boosting_encoder, tells_width
from app.runtime.servable import parts_of

BEFORE_PANDAS_3 = int(pd.__version__.partition(".")[0]) < 3 or RELEASE < (1, 8)
"""Whether the model was trained with pandas 1 or 2: scikit-learn before 1.8 is older than pandas 3."""

TEXT = "object" if BEFORE_PANDAS_3 else "str"
"""The dtype of a column of strings that pandas read in training."""

TIMES = "datetime64[ns]" if BEFORE_PANDAS_3 else "datetime64[us]"
"""The dtype of times that pandas read from text in training."""

LONG_DIGITS, ENOUGH_LONG = 8, 5
"""Five numbers of eight digits do not all equal a float32 by chance."""

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
"""Attributes that have the dtype of the computation, each with the classes where it is always float64."""


def marker(value: Any) -> str | None:
    """Return the name of a marker of missing values; None for a value that is not missing."""
    if value is None:
        return "none"
    if value is pd.NA:
        return "na"
    return "nan" if isinstance(value, float) and value != value else None


def dtype_of_categories(categories: NDArray[Any], present: Sequence[Any]) -> str | None:
    """Return the dtype of a training column from the categories of an encoder; None if it is not certain.

    Encoders keep the dtype, but turn nullable numbers of pandas into float64, and all kinds of strings into objects.
    """
    if categories.dtype == object:
        return "object" if present and not any(isinstance(value, str) for value in present) else None
    if categories.dtype.kind in "iubM" or categories.dtype in (np.float32, np.float16):
        return str(categories.dtype)
    return None


def selected_dtype(selector: Any) -> str | None:
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


def kept_dtypes(part: Any, width: int) -> list[str | None]:
    """Return the dtypes of the `width` training columns if a part has kept them, else an empty list."""
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
    """Return whether a part of scikit-learn was fitted on float32; None if no attribute of it or of its parts shows it.

    Estimators of scikit-learn keep float32 only if they were fitted on it.
    """
    is_wide = False
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
            is_wide = is_wide or (follows and first.dtype == np.float64 and tells_width(inner, name))
    return False if is_wide else None


def is_narrow(numbers: NDArray[Any]) -> bool | None:
    """Return whether float64 numbers were float32; None for short numbers, which may be either."""
    short = numbers.astype(np.float16).astype(np.float64) == numbers
    return None if short.all() else bool((numbers.astype(np.float32).astype(np.float64) == numbers).all())


def was_narrow(column: pd.Series[Any]) -> bool | None:
    """Return whether numbers read from text were written from float32; None for short numbers, which may be either.

    A number is written with the fewest digits that distinguish it from its neighbours: at most 9 for float32. A number
    of 8 digits hardly ever equals a float32 by chance.
    """
    numbers = column.dropna().to_numpy(dtype=np.float64)
    texts = [str(number) for number in numbers.astype(np.float32)]
    if any(float(text) != number for text, number in zip(texts, numbers.tolist(), strict=True)):
        return False
    long = [text for text in texts if len(text.partition("e")[0].replace(".", "").strip("-0")) >= LONG_DIGITS]
    return True if len(long) >= ENOUGH_LONG else None


ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
IMPUTERS = ("SimpleImputer", "MissingIndicator", "KNNImputer", "IterativeImputer")
TRANSPARENT = ("SimpleImputer", "FunctionTransformer", "KNNImputer", "IterativeImputer", "FrozenEstimator")
"""Steps that keep each column in its place, so that the next step has the same inputs."""

TYPICAL = ("mean_", "center_", "statistics_", "_x_mean", "var_mean_")
"""Attributes with a typical number of each input."""

ROWS = (
    "cluster_centers_", "theta_", "_fit_X", "support_vectors_", "X_fit_", "X_train_", "means_", "centroids_",
    "location_",
)  # fmt: skip
"""Attributes whose rows are like rows of the training data."""


@dataclass(slots=True)
class Facts:
    """The known facts of one input. An unknown fact is None.

    `missing` has the markers of missing values that a part has learned: "none" (None), "nan" or "na" (pandas' NA);
    `fills` is the marker that an imputer replaces. `dtype` is the dtype of the column in training, as pandas writes it,
    if a part has kept it; `narrow` says whether the model computed with float32. `used` says whether any part takes the
    input. `typical` is a number from the middle of the training data.
    """

    categories: tuple[Any, ...] | None = None
    missing: set[str] = field(default_factory=set)
    fills: str | None = None
    dtype: str | None = None
    narrow: bool | None = None
    text: bool = False
    used: bool = False
    typical: float | None = None
    minimum: float | None = None
    maximum: float | None = None


def facts_of(estimator: Any, width: int) -> list[Facts]:
    """Return the facts that an estimator and its parts have kept about each of its `width` inputs."""
    facts = [Facts() for _ in range(width)]
    _visit(estimator, range(width), facts)
    return facts


def _visit(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool = True) -> None:
    """Collect the facts of a part about the inputs at these positions.

    The inputs are `raw` until a function may have changed their dtypes and markers of missing values.
    """
    if part is None or isinstance(part, str):
        for position in positions:
            facts[position].used = facts[position].used or part != "drop"
    elif hasattr(part, "steps"):
        _visit_steps([step for _, step in part.steps], positions, facts, raw=raw)
    elif hasattr(part, "transformers_"):
        indices = getattr(part, "_transformer_to_input_indices", {})
        selectors = {name: columns for name, _, columns in part.transformers} if raw else {}
        for name, transformer, _ in part.transformers_:
            below = [positions[i] for i in indices.get(name, ()) if i < len(positions)]
            _note_dtype(selected_dtype(selectors.get(name)), below, facts)
            _visit(transformer, below, facts, raw=raw)
    elif hasattr(part, "transformer_list"):
        for _, transformer in part.transformer_list:
            _visit(transformer, positions, facts, raw=raw)
    elif is_of(part, VECTORIZERS):
        for position in positions:
            facts[position].text = facts[position].used = True
    else:
        for position in positions:
            facts[position].used = True
        _note_categories(part, positions, facts, raw=raw)
        _note_numbers(part, positions, facts)
        _note_width(part, positions, facts, raw=raw)
        if raw:
            for position, dtype in zip(positions, kept_dtypes(part, len(positions)), strict=False):
                _note_dtype(dtype, [position], facts)
        for inner in wrapped(part):
            if getattr(inner, "n_features_in_", len(positions)) == len(positions):
                _visit(inner, positions, facts, raw=raw)


def _visit_steps(steps: Sequence[Any], positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
    """Collect the facts of the steps of a pipeline; of later steps only the width of their floats."""
    direct = True
    for step in steps:
        if direct:
            _visit(step, positions, facts, raw=raw)
            raw = raw and not is_of(step, ("FunctionTransformer",))
            direct = isinstance(step, str) or step is None or is_of(step, TRANSPARENT)
        else:
            _note_width(step, positions, facts, raw=raw)


def _note_categories(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
    """Collect the categories and the markers of missing values that an encoder or an imputer has learned."""
    known: Iterable[tuple[int, Any]] = ()
    if is_of(part, ENCODERS) and len(getattr(part, "categories_", ())) == len(positions):
        known = zip(positions, part.categories_, strict=True)
    elif type(part).__name__ == "CategoricalNB":
        known = ((p, np.arange(n)) for p, n in zip(positions, part.n_categories_, strict=False))
    elif (encoder := boosting_encoder(part)) is not None:
        categorical = [positions[i] for i in np.flatnonzero(part.is_categorical_).tolist()]
        known = zip(categorical, encoder.categories_, strict=False)
        if raw and getattr(part, "categorical_features", None) == "from_dtype":
            _note_dtype("category", categorical, facts)
    elif is_of(part, IMPUTERS):
        for position, statistic in zip(positions, getattr(part, "statistics_", positions), strict=False):
            facts[position].fills = marker(part.missing_values)
            if statistic is None:  # the most frequent value was None, which the imputer does not replace
                facts[position].missing.add("none")
    for position, categories in known:
        values = np.asarray(categories)
        markers = [marker(value) for value in values.tolist()]
        present = [value for value, missing in zip(values.tolist(), markers, strict=True) if missing is None]
        fact = facts[position]
        fact.missing.update(marker for marker in markers if marker is not None)
        if raw and is_of(part, ENCODERS):
            _note_dtype(dtype_of_categories(values, present), [position], facts)
        # If two encoders take one column, both must know a value.
        before = fact.categories
        fact.categories = tuple(present if before is None else [c for c in before if c in present])


def _note_dtype(dtype: str | None, positions: Sequence[int], facts: list[Facts]) -> None:
    for position in positions:
        facts[position].dtype = facts[position].dtype or dtype


def _note_width(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
    narrow = computed_narrow(part)
    for position in positions:
        # The first part that shows the width is the nearest to the input. A function may turn anything into float64.
        if facts[position].narrow is None and (raw or narrow):
            facts[position].narrow = narrow


def _note_numbers(part: Any, positions: Sequence[int], facts: list[Facts]) -> None:
    """Collect typical values and ranges from fitted attributes with one number for each input."""
    for name in TYPICAL:
        _note(getattr(part, name, None), positions, facts, "typical")
    for name in ROWS:
        rows = getattr(part, name, None)
        if isinstance(rows, np.ndarray) and rows.ndim == 2 and len(rows):
            _note(rows[0], positions, facts, "typical")
    _note(getattr(part, "data_min_", None), positions, facts, "minimum")
    _note(getattr(part, "data_max_", None), positions, facts, "maximum")
    tree = getattr(part, "tree_", None)
    if tree is not None:
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
            if 0 <= feature < len(positions) and facts[positions[feature]].typical is None:
                facts[positions[feature]].typical = float(threshold)


def _note(values: Any, positions: Sequence[int], facts: list[Facts], field: str) -> None:
    if not isinstance(values, np.ndarray) or values.shape != (len(positions),) or values.dtype.kind not in "iuf":
        return
    for position, value in zip(positions, values.tolist(), strict=True):
        if np.isfinite(value) and getattr(facts[position], field) is None:
            setattr(facts[position], field, float(value))
