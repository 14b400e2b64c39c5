"""Find the quickest way to call an artifact that changes no bit of its answers.

Each way is tried on rows of every kind. Scikit-learn's checks are left out only for estimators that are known to check
nothing but their input, after steps that turn finite numbers into finite numbers.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.probe import Record, attempt, small_batches
from app.packing.stress import Pools
from app.runtime.direct_call import DirectServable, steps_of
from app.runtime.servable import ArtifactServable, Servable
from app.signature import Layout, Signature
from app.signature.batch import Outputs
from app.signature.kinds import limits_of
from app.signature.validator import Validator
from app.storage.manifest import DirectCall

ROWS_OF_A_KIND = 200

MONOTONE = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "SimpleImputer")
"""Transformers that map each column by itself and monotonically: finite at both ends means finite in between."""

CHECKS_INPUT_ONLY = (
    "DecisionTreeClassifier", "DecisionTreeRegressor", "ElasticNet", "ElasticNetCV", "ExtraTreeClassifier",
    "ExtraTreeRegressor", "GaussianNB", "KNeighborsClassifier", "KNeighborsRegressor", "Lasso", "LassoCV",
    "LinearRegression", "LinearSVC", "LinearSVR", "LogisticRegression", "LogisticRegressionCV", "Ridge", "RidgeCV",
    "RidgeClassifier", "RidgeClassifierCV",
)  # fmt: skip
"""Forests are missing: `runtime.direct_call` skips their checks, but leaves some rows to scikit-learn with checks."""

METRICS = ("minkowski", "euclidean", "manhattan")


def direct_servable(
    estimator: Any, read_again: Callable[[], Any], signature: Signature, records: Sequence[Record]
) -> DirectServable | None:
    """Return the quickest servable whose answers equal the estimator's; None if there is none.

    `read_again` reads the artifact once more, because a `DirectServable` changes its estimator.
    """
    if not records:
        return None
    unchecked = checks_are_idle(estimator, signature, records[0])
    framed = signature.layout is Layout.FRAME
    for call in (
        (DirectCall(True, unchecked), DirectCall(False, unchecked)) if framed else (DirectCall(False, unchecked),)
    ):
        try:
            servable = DirectServable(read_again(), signature, call)
            if _gives_equal_answers(ArtifactServable(estimator, signature), servable, signature, records):
                return servable
        except Exception:  # noqa: BLE001, S112 (around run: the next way is tried)
            continue
    return None


def checks_are_idle(estimator: Any, signature: Signature, record: Record) -> bool:
    """Return whether no row that the signature accepts can fail a check of scikit-learn."""
    steps, last = steps_of(estimator)
    if not all(_is_plain(step, MONOTONE) for step in steps) or not _is_plain(last, CHECKS_INPUT_ONLY):
        return False
    if getattr(last, "metric", METRICS[0]) not in METRICS:
        return False
    if any(spec.kind != "number" or spec.dtype != "float64" for spec in signature.inputs):
        return False
    limits = {spec.name: limits_of(spec) for spec in signature.inputs}
    ends = [record | {name: ends[side] for name, ends in limits.items()} for side in (0, 1)]
    return attempt(estimator, signature, ends) is None


def _is_plain(part: Any, names: Sequence[str]) -> bool:
    """Return whether a part is of one of these classes of scikit-learn, and none of its parameters is a function."""
    kind = type(part)
    if not kind.__module__.startswith("sklearn.") or kind.__name__ not in names:
        return False
    return not any(callable(value) for value in part.get_params(deep=False).values())


def _gives_equal_answers(plain: Servable, servable: Servable, signature: Signature, records: Sequence[Record]) -> bool:
    """Return whether a servable gives the outputs of a plain one to the last bit, and no more warnings."""
    validator = Validator(signature, 10**6)

    def answers(by: Servable, rows: Sequence[Record], names: Sequence[str]) -> tuple[Outputs | None, set[str]]:
        """Return the outputs, or None if the model raises, and its warnings.

        The batch is made anew for each call, because some models change it.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                outputs = by.run(validator.validate(rows), names)
            except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
                return None, set()
        return outputs, {str(warning.message) for warning in caught}

    def is_equal(rows: Sequence[Record], names: Sequence[str]) -> bool:
        was, before = answers(plain, rows, names)
        if was is None and len(rows) > 1:
            middle = len(rows) // 2
            return is_equal(rows[:middle], names) and is_equal(rows[middle:], names)
        now, after = answers(servable, rows, names)
        if was is None or now is None:
            return was is now
        return after <= before and all(identical(was[name], now[name]) for name in names)

    chunks = _chunks(signature, records)
    return all(
        is_equal(rows, names) for rows in chunks for names in dict.fromkeys((signature.outputs, signature.defaults))
    )


def _chunks(signature: Signature, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Yield rows of every kind, in batches of one, of a few and of many."""
    yield from small_batches(records)
    pools = Pools(signature, records)
    yield records[:ROWS_OF_A_KIND]
    yield pools.crossed(ROWS_OF_A_KIND)
    for far in (False, True):
        rows = pools.mixed(ROWS_OF_A_KIND, far)
        yield rows
        yield from itertools.islice(([row] for row in rows), 3)


def identical(was: NDArray[Any], now: NDArray[Any]) -> bool:
    """Return whether two outputs are equal to the last bit."""
    if was.dtype != now.dtype or was.shape != now.shape:
        return False
    if was.dtype == object:
        return repr(was.tolist()) == repr(now.tolist())
    return np.array_equal(was, now, equal_nan=was.dtype.kind == "f")
