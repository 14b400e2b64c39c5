"""Predict with a random forest tree by tree, without joblib and its locks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.telemetry import check_deadline

CLASSIFIERS = ("RandomForestClassifier", "ExtraTreesClassifier")
REGRESSORS = ("RandomForestRegressor", "ExtraTreesRegressor")
MANY_ROWS = 1000
"""From so many on, the deadline is looked at before each tree."""


class Forest:
    """The trees of a forest with one target. Immutable, safe to share.

    Trees are added in the order of scikit-learn's `ForestClassifier` and `ForestRegressor` with one job, so the sums
    are equal to the last bit.
    """

    def __init__(self, forest: Any) -> None:
        self._trees = [tree.tree_ for tree in forest.estimators_]
        self._width = forest.n_features_in_
        self._classes: NDArray[Any] | None = getattr(forest, "classes_", None)

    @classmethod
    def of(cls, estimator: Any) -> Forest | None:
        """Wrap a forest of scikit-learn itself with one target; return None for any other estimator."""
        kind = type(estimator)
        forest = kind.__module__ == "sklearn.ensemble._forest" and kind.__name__ in CLASSIFIERS + REGRESSORS
        return cls(estimator) if forest and estimator.n_outputs_ == 1 else None

    def outputs(self, features: Any, names: Sequence[str]) -> dict[str, NDArray[Any]] | None:
        """Compute outputs for features of shape (rows, inputs).

        Returns:
            The outputs by name; None if the forest itself has to compute them, because an output is another one or
            because its checks might refuse the features.
        """
        if not isinstance(features, np.ndarray) or features.dtype.kind not in "iuf":
            return None
        if features.ndim != 2 or features.shape[1] != self._width or not len(features):
            return None
        if not set(names) <= ({"prediction"} if self._classes is None else {"prediction", "probabilities"}):
            return None
        with np.errstate(over="ignore"):
            narrow = features.astype(np.float32)
        if not np.isfinite(narrow).all():
            return None
        mean = self._mean(narrow)
        if self._classes is None:
            return {"prediction": mean[:, 0]}
        answers = {"prediction": self._classes.take(np.argmax(mean, axis=1)), "probabilities": mean}
        return {name: answers[name] for name in names}

    def _mean(self, narrow: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean over the trees, shape (rows, classes), or (rows, 1) for a regressor."""
        columns = 1 if self._classes is None else len(self._classes)
        total = np.zeros((len(narrow), columns), dtype=np.float64)
        for tree in self._trees:
            if len(narrow) >= MANY_ROWS:
                check_deadline()
            total += tree.predict(narrow)
        total /= len(self._trees)
        return total
