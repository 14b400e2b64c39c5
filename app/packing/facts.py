"""Collect what a fitted estimator knows of each of its inputs: categories, dtype, markers, typical values, range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.packing import training_dtypes
from app.packing.inspect import VECTORIZERS, is_of, wrapped
from app.packing.releases import boosting_encoder

ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
IMPUTERS = ("SimpleImputer", "MissingIndicator", "KNNImputer", "IterativeImputer")
TRANSPARENT = ("SimpleImputer", "FunctionTransformer", "KNNImputer", "IterativeImputer", "FrozenEstimator")
"""Steps that keep each column in its place, so that the next step knows of the same inputs."""

TYPICAL = ("mean_", "center_", "statistics_", "_x_mean", "var_mean_")
ROWS = (
    "cluster_centers_", "theta_", "_fit_X", "support_vectors_", "X_fit_", "X_train_", "means_", "centroids_",
    "location_",
)  # fmt: skip


@dataclass(slots=True)
class Facts:
    """The known facts of one input. An unknown fact is None.

    `missing` has the markers of missing values that a part has learned: "none" (None), "nan" or "na" (pandas' NA);
    `fills` is the marker that an imputer replaces. `dtype` is that of the column in training, as pandas writes it, if a
    part has kept it; `narrow` says whether the model computed with float32. `used` says whether any part takes the
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
    """Return what an estimator and its parts know of each of its `width` inputs."""
    facts = [Facts() for _ in range(width)]
    _visit(estimator, range(width), facts)
    return facts


def _visit(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool = True) -> None:
    """Collect what a part knows of the inputs at these positions.

    The inputs are `raw` until a function is applied, which may change dtypes and markers of missing values.
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
            _note_dtype(training_dtypes.selected(selectors.get(name)), below, facts)
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
        _categories(part, positions, facts, raw=raw)
        _numbers(part, positions, facts)
        _note_width(part, positions, facts, raw=raw)
        if raw:
            for position, dtype in zip(positions, training_dtypes.kept(part, len(positions)), strict=False):
                _note_dtype(dtype, [position], facts)
        for inner in wrapped(part):
            if getattr(inner, "n_features_in_", len(positions)) == len(positions):
                _visit(inner, positions, facts, raw=raw)


def _visit_steps(steps: Sequence[Any], positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
    """Collect what the steps of a pipeline know; of later steps only the width of their floats."""
    direct = True
    for step in steps:
        if direct:
            _visit(step, positions, facts, raw=raw)
            raw = raw and not is_of(step, ("FunctionTransformer",))
            direct = isinstance(step, str) or step is None or is_of(step, TRANSPARENT)
        else:
            _note_width(step, positions, facts, raw=raw)


def _categories(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
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
            facts[position].fills = training_dtypes.marker(part.missing_values)
            if statistic is None:  # the most frequent value was None, which the imputer does not replace
                facts[position].missing.add("none")
    for position, categories in known:
        values = np.asarray(categories)
        markers = [training_dtypes.marker(value) for value in values.tolist()]
        present = [value for value, missing in zip(values.tolist(), markers, strict=True) if missing is None]
        fact = facts[position]
        fact.missing.update(marker for marker in markers if marker is not None)
        if raw and is_of(part, ENCODERS):
            _note_dtype(training_dtypes.of_categories(values, present), [position], facts)
        # If two encoders take one column, both have to know a value.
        before = fact.categories
        fact.categories = tuple(present if before is None else [c for c in before if c in present])


def _note_dtype(dtype: str | None, positions: Sequence[int], facts: list[Facts]) -> None:
    for position in positions:
        facts[position].dtype = facts[position].dtype or dtype


def _note_width(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
    narrow = training_dtypes.computed_narrow(part)
    for position in positions:
        # The first part that tells is the nearest to the input. A function may turn anything into float64.
        if facts[position].narrow is None and (raw or narrow):
            facts[position].narrow = narrow


def _numbers(part: Any, positions: Sequence[int], facts: list[Facts]) -> None:
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
