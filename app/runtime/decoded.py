"""A classifier that predicts numbers, combined with the labels of these numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metaestimators import available_if

Method = TypeVar("Method")


def _has(method: str) -> Callable[[Method], Method]:
    """Return a decorator that hides a method if the estimator lacks `method`."""
    decorator: Callable[[Method], Method] = available_if(lambda self: hasattr(self.estimator, method))
    return decorator


class Decoded(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A fitted classifier whose predictions are decoded by a `LabelEncoder`.

    Packing builds it from a classifier and the encoder that was saved beside it. It is never fitted itself.
    """

    def __init__(self, estimator: Any, labels: Sequence[Any] | NDArray[Any]) -> None:
        self.estimator = estimator
        self.labels = labels

    @property
    def classes_(self) -> Any:
        """The labels, in the order of the columns of the probabilities."""
        labels = np.asarray(self.labels)
        classes = getattr(self.estimator, "classes_", None)
        return labels if classes is None else labels[np.asarray(classes).astype(np.int64)]

    @property
    def n_features_in_(self) -> int:
        """The number of columns that the estimator was fitted on."""
        return int(self.estimator.n_features_in_)

    @property
    def feature_names_in_(self) -> Any:
        """The names of the columns, if the estimator was fitted with names."""
        return self.estimator.feature_names_in_

    def predict(self, features: Any) -> Any:
        """Return the label of each row."""
        return np.asarray(self.labels)[np.asarray(self.estimator.predict(features)).astype(np.int64)]

    @_has("predict_proba")
    def predict_proba(self, features: Any) -> Any:
        """Return the estimator's own probabilities."""
        return self.estimator.predict_proba(features)

    @_has("decision_function")
    def decision_function(self, features: Any) -> Any:
        """Return the estimator's own scores."""
        return self.estimator.decision_function(features)
