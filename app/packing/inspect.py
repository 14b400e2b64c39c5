"""What a fitted estimator knows of its inputs: names, categories, texts, typical values, the range seen.

Sources: scikit-learn's developer guide on fitted attributes (a trailing underscore), `feature_names_in_` and
`n_features_in_` (SLEP007, SLEP010).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_outlier_detector, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from app.errors import PackingRefused
from app.packing import training_dtypes
from app.packing.releases import boosting_encoder, column_names, is_clusterer

ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
VECTORIZERS = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
IMPUTERS = ("SimpleImputer", "MissingIndicator", "KNNImputer", "IterativeImputer")
TRANSPARENT = ("SimpleImputer", "FunctionTransformer", "KNNImputer", "IterativeImputer", "FrozenEstimator")
"""Steps that leave each column where it is, so that the next step tells of the same inputs."""

WRAPPERS = ("best_estimator_", "regressor_", "calibrated_classifiers_", "estimators_", "estimator_", "estimator")
TYPICAL = ("mean_", "center_", "statistics_", "_x_mean", "var_mean_")
ROWS = (
    "cluster_centers_",
    "theta_",
    "_fit_X",
    "support_vectors_",
    "X_fit_",
    "X_train_",
    "means_",
    "centroids_",
    "location_",
)


@dataclass(slots=True)
class Facts:
    """What is known of one input; whatever nothing is known of is None.

    `missing` are the markers of missing values that a part has learned: "none" (None), "nan" or "na" (pandas' NA).
    `fills` is the marker that an imputer looks for. `dtype` is the column's dtype in training, as pandas writes it,
    where a part has kept it. `narrow` says whether float32 was computed with; None where no part tells.
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


def require_model(estimator: Any) -> None:
    """Refuses what is not a fitted model.

    Raises:
        PackingRefused: it has no `predict` and no `transform`, or was never fitted.
    """
    if isinstance(estimator, type):
        raise PackingRefused(f"it is the class {estimator.__name__}, not a fitted model")
    # A DataFrame has a transform too, but no fit.
    transforms = callable(getattr(estimator, "transform", None)) and hasattr(estimator, "fit")
    if not callable(getattr(estimator, "predict", None)) and not transforms:
        if hasattr(estimator, "fit_predict"):
            detail = f"{type(estimator).__name__} labels the rows it was fitted on and has no predict for new rows"
            raise PackingRefused(detail)
        raise PackingRefused(f"it is a {type(estimator).__name__}, not a model: it has no predict method")
    if not hasattr(estimator, "fit"):
        return
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise PackingRefused(f"this {type(estimator).__name__} is not fitted: call fit before saving it") from None
    except TypeError:
        return


def task_of(estimator: Any) -> str:
    """What the model does: classifier, regressor, clusterer, outlier_detector or transformer."""
    asked = {
        "classifier": is_classifier,
        "regressor": is_regressor,
        "outlier_detector": is_outlier_detector,
        "clusterer": is_clusterer,
    }
    for task, is_one in asked.items():
        try:
            if is_one(estimator):
                return task
        except AttributeError:  # not derived from BaseEstimator, so without tags
            continue
    return "model" if hasattr(estimator, "predict") else "transformer"


def describe(estimator: Any) -> str:
    """The estimator in one line: its class, and those of its parts where it has steps."""
    name = type(estimator).__name__
    if hasattr(estimator, "steps"):
        return f"{name}({', '.join(describe(step) for _, step in estimator.steps)})"
    if type(estimator).__module__ == "app.runtime.decoded":
        return f"{name}({describe(estimator.estimator)})"
    return name if not isinstance(estimator, str) else estimator


def names_of(estimator: Any) -> list[str] | None:
    """The names of the columns it was fitted with, if it was fitted with names."""
    if (told := _told_by_catboost(estimator)) is not None:
        return None if told == [str(place) for place in range(len(told))] else told
    names = column_names(estimator)
    return None if names is None else [str(name) for name in names]


def width_of(estimator: Any) -> int | None:
    """How many columns it was fitted with, if it knows."""
    told = _told_by_catboost(estimator)
    width = getattr(estimator, "n_features_in_", None) if told is None else len(told)
    return None if width is None else int(width)


def _told_by_catboost(estimator: Any) -> list[str] | None:
    """The names in a model of CatBoost, whose `n_features_in_` may be 0; positions where it was fitted without."""
    if not type(estimator).__module__.startswith("catboost."):
        return None
    return [str(name) for name in estimator.feature_names_ or ()] or None


def takes_text(estimator: Any) -> bool:
    """Whether it takes a sequence of texts, not columns: a text vectorizer comes first."""
    return next(_beginnings(estimator, VECTORIZERS), None) is not None


def takes_records(estimator: Any) -> bool:
    """Whether it takes a sequence of dicts, not columns: a DictVectorizer comes first."""
    return next(_beginnings(estimator, ("DictVectorizer",)), None) is not None


def record_known_to(estimator: Any) -> dict[str, Any]:
    """A record of the names that its DictVectorizer has seen, each with a value that it has seen or 1."""
    known: dict[str, Any] = {}
    for vectorizer in _beginnings(estimator, ("DictVectorizer",)):
        for feature in getattr(vectorizer, "feature_names_", ()):
            name, is_text, value = str(feature).partition(vectorizer.separator)
            known.setdefault(name, value if is_text else 1.0)
    return known


def _beginnings(estimator: Any, names: Sequence[str]) -> Iterator[Any]:
    """The parts of these classes that are given the model's own input."""
    if hasattr(estimator, "steps"):
        steps = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
        yield from _beginnings(steps[0], names) if steps else ()
    elif hasattr(estimator, "transformer_list"):
        for _, part in estimator.transformer_list:
            yield from _beginnings(part, names)
    elif _is(estimator, names):
        yield estimator
    else:
        for part in _wrapped(estimator):
            yield from _beginnings(part, names)


def facts_of(estimator: Any, width: int) -> list[Facts]:
    """What it and its parts know of each of its `width` inputs."""
    facts = [Facts() for _ in range(width)]
    _visit(estimator, range(width), facts)
    return facts


def _visit(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool = True) -> None:
    """Collects what `part`, which takes the inputs at `positions`, knows of them.

    They are `raw` until a function has been applied: it may have changed dtypes and markers of missing values.
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
    elif _is(part, VECTORIZERS):
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
        for wrapped in _wrapped(part):
            if getattr(wrapped, "n_features_in_", len(positions)) == len(positions):
                _visit(wrapped, positions, facts, raw=raw)


def _visit_steps(steps: Sequence[Any], positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
    """Collects what the steps of a pipeline know: of a later one only the width of the floats that it computed with."""
    direct = True
    for step in steps:
        if direct:
            _visit(step, positions, facts, raw=raw)
            raw = raw and not _is(step, ("FunctionTransformer",))
            direct = isinstance(step, str) or step is None or _is(step, TRANSPARENT)
        else:
            _note_width(step, positions, facts, raw=raw)


def _categories(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
    known: Iterable[tuple[int, Any]] = ()
    if _is(part, ENCODERS) and len(getattr(part, "categories_", ())) == len(positions):
        known = zip(positions, part.categories_, strict=True)
    elif type(part).__name__ == "CategoricalNB":
        known = ((p, np.arange(n)) for p, n in zip(positions, part.n_categories_, strict=False))
    elif (encoder := boosting_encoder(part)) is not None:
        categorical = [positions[i] for i in np.flatnonzero(part.is_categorical_).tolist()]
        known = zip(categorical, encoder.categories_, strict=False)
        if raw and getattr(part, "categorical_features", None) == "from_dtype":
            _note_dtype("category", categorical, facts)
    elif _is(part, IMPUTERS):
        for position, statistic in zip(positions, getattr(part, "statistics_", positions), strict=False):
            facts[position].fills = training_dtypes.marker(part.missing_values)
            if statistic is None:  # the commonest value was None, which is not what it fills
                facts[position].missing.add("none")
    for position, categories in known:
        values = np.asarray(categories)
        markers = [training_dtypes.marker(value) for value in values.tolist()]
        present = [value for value, missing in zip(values.tolist(), markers, strict=True) if missing is None]
        fact = facts[position]
        fact.missing.update(marker for marker in markers if marker is not None)
        if raw and _is(part, ENCODERS):
            _note_dtype(training_dtypes.of_categories(values, present), [position], facts)
        # Two encoders over one column both have to know a value that is to be accepted.
        before = fact.categories
        fact.categories = tuple(present if before is None else [c for c in before if c in present])


def _note_dtype(dtype: str | None, positions: Sequence[int], facts: list[Facts]) -> None:
    for position in positions:
        facts[position].dtype = facts[position].dtype or dtype


def _note_width(part: Any, positions: Sequence[int], facts: list[Facts], *, raw: bool) -> None:
    narrow = training_dtypes.computed_narrow(part)
    for position in positions:
        # The first part that tells is the nearest to the input. A function may make float64 of whatever it is given.
        if facts[position].narrow is None and (raw or narrow):
            facts[position].narrow = narrow


def _numbers(part: Any, positions: Sequence[int], facts: list[Facts]) -> None:
    """Typical values and ranges, from whatever fitted attribute has one number for each input."""
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


def thresholds_of(estimator: Any, width: int) -> list[tuple[int, float]]:
    """The (input, threshold) pairs of every split of the trees in it that see the inputs themselves."""
    found: set[tuple[int, float]] = set()

    def collect(part: Any) -> None:
        if getattr(part, "n_features_in_", width) != width:
            return
        tree = getattr(part, "tree_", None)
        if tree is not None:
            splits = zip(tree.feature.tolist(), tree.threshold.tolist(), strict=True)
            found.update((feature, threshold) for feature, threshold in splits if feature >= 0)
        for predictor in _flat(getattr(part, "_predictors", [])):
            nodes = predictor.nodes[~predictor.nodes["is_leaf"].astype(bool)]
            found.update(zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True))
        for name in WRAPPERS:
            for inner in _flat(getattr(part, name, None)):
                if hasattr(inner, "predict"):
                    collect(inner)

    collect(estimator)
    return sorted(found)


def _note(values: Any, positions: Sequence[int], facts: list[Facts], field: str) -> None:
    if not isinstance(values, np.ndarray) or values.shape != (len(positions),) or values.dtype.kind not in "iuf":
        return
    for position, value in zip(positions, values.tolist(), strict=True):
        if np.isfinite(value) and getattr(facts[position], field) is None:
            setattr(facts[position], field, float(value))


def _wrapped(part: Any) -> list[Any]:
    """The fitted estimators inside a meta-estimator that see the same inputs as it does.

    Of plain estimators one of each class is enough: a forest has hundreds of trees. Composed ones may each know of
    other columns.
    """
    for name in WRAPPERS:
        inner = getattr(part, name, None)
        if inner is None or isinstance(inner, str):
            continue
        unique = {id(p) if _composed(p) else type(p).__name__: p for p in _flat(inner) if hasattr(p, "__dict__")}
        if unique:
            return list(unique.values())
    return []


def _composed(part: Any) -> bool:
    return any(hasattr(part, name) for name in ("steps", "transformers_", "transformer_list"))


def _flat(inner: Any) -> list[Any]:
    # Not np.ravel: it would unpack an ensemble, which is a sequence too.
    return [p for part in inner for p in _flat(part)] if isinstance(inner, list | tuple | np.ndarray) else [inner]


def _is(part: Any, names: Sequence[str]) -> bool:
    """Whether it is one of these scikit-learn classes or derived from one."""
    return any(base.__name__ in names for base in type(part).__mro__)
