"""Inspect a fitted estimator as a whole: whether it is a model, its task, the names and the kind of its inputs.

Sources: scikit-learn's developer guide on fitted attributes, `feature_names_in_` and `n_features_in_` (SLEP007,
SLEP010).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_outlier_detector, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from app.errors import PackingRefused
from app.packing.releases import column_names, is_clusterer

VECTORIZERS = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
WRAPPERS = ("best_estimator_", "regressor_", "calibrated_classifiers_", "estimators_", "estimator_", "estimator")
"""Fitted attributes of meta-estimators that contain the inner estimators."""
COMPOSED = ("steps", "transformers_", "transformer_list")


def require_model(estimator: Any) -> None:
    """Refuse an object that is not a fitted model: it has neither `predict` nor `transform`, or was not fitted."""
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
    """Return the task of a model: classifier, regressor, clusterer, outlier_detector, transformer or model."""
    checks = {
        "classifier": is_classifier,
        "regressor": is_regressor,
        "outlier_detector": is_outlier_detector,
        "clusterer": is_clusterer,
    }
    for task, is_one in checks.items():
        try:
            if is_one(estimator):
                return task
        except AttributeError:  # not derived from BaseEstimator, so without tags
            continue
    return "model" if hasattr(estimator, "predict") else "transformer"


def describe(estimator: Any) -> str:
    """Return the class of the estimator and, for a pipeline, the classes of its steps, in one line."""
    name = type(estimator).__name__
    if hasattr(estimator, "steps"):
        return f"{name}({', '.join(describe(step) for _, step in estimator.steps)})"
    if type(estimator).__module__ == "app.runtime.decoded":
        return f"{name}({describe(estimator.estimator)})"
    return name if not isinstance(estimator, str) else estimator


def names_of(estimator: Any) -> list[str] | None:
    """Return the column names that the estimator was fitted with; None if it was fitted without names."""
    if (names := _catboost_names(estimator)) is not None:
        return None if names == [str(place) for place in range(len(names))] else names
    known = column_names(estimator)
    return None if known is None else [str(name) for name in known]


def width_of(estimator: Any) -> int | None:
    """Return the number of columns that the estimator was fitted with; None if unknown."""
    names = _catboost_names(estimator)
    width = getattr(estimator, "n_features_in_", None) if names is None else len(names)
    return None if width is None else int(width)


def _catboost_names(estimator: Any) -> list[str] | None:
    """Return the column names in a CatBoost model, or positions as text; None for other estimators.

    The `n_features_in_` of a CatBoost model may be 0.
    """
    if not type(estimator).__module__.startswith("catboost."):
        return None
    return [str(name) for name in estimator.feature_names_ or ()] or None


def takes_text(estimator: Any) -> bool:
    """Return whether the model takes a sequence of texts: a text vectorizer comes first."""
    return next(_first_parts(estimator, VECTORIZERS), None) is not None


def takes_records(estimator: Any) -> bool:
    """Return whether the model takes a sequence of dicts: a `DictVectorizer` comes first."""
    return next(_first_parts(estimator, ("DictVectorizer",)), None) is not None


def typical_record(estimator: Any) -> dict[str, Any]:
    """Return a record with each name that the `DictVectorizer` of the model knows, and a known value or 1."""
    known: dict[str, Any] = {}
    for vectorizer in _first_parts(estimator, ("DictVectorizer",)):
        for feature in getattr(vectorizer, "feature_names_", ()):
            name, is_text, value = str(feature).partition(vectorizer.separator)
            known.setdefault(name, value if is_text else 1.0)
    return known


def _first_parts(estimator: Any, names: Sequence[str]) -> Iterator[Any]:
    """Yield the parts of these classes that take the input of the model itself."""
    if hasattr(estimator, "steps"):
        steps = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
        yield from _first_parts(steps[0], names) if steps else ()
    elif hasattr(estimator, "transformer_list"):
        for _, part in estimator.transformer_list:
            yield from _first_parts(part, names)
    elif is_of(estimator, names):
        yield estimator
    else:
        for part in wrapped(estimator):
            yield from _first_parts(part, names)


def wrapped(part: Any) -> list[Any]:
    """Return the fitted estimators inside a meta-estimator.

    Return one plain estimator of each class, because a forest has hundreds of trees. Return all composed estimators,
    because each may take other columns.
    """
    for name in WRAPPERS:
        inner = getattr(part, name, None)
        if inner is None or isinstance(inner, str):
            continue
        parts = [part for part in flat(inner) if hasattr(part, "__dict__")]
        unique = {id(p) if any(hasattr(p, of) for of in COMPOSED) else type(p).__name__: p for p in parts}
        if unique:
            return list(unique.values())
    return []


def flat(inner: Any) -> list[Any]:
    """Return the elements of nested lists, tuples and arrays in one list."""
    # np.ravel would also unpack an ensemble, which is a sequence.
    return [p for part in inner for p in flat(part)] if isinstance(inner, list | tuple | np.ndarray) else [inner]


def is_of(part: Any, names: Sequence[str]) -> bool:
    """Return whether a part is of one of these classes, by name, or derived from one."""
    return any(base.__name__ in names for base in type(part).__mro__)
