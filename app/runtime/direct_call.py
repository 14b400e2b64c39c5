"""Call the steps of an artifact directly, if packing found that the answers are equal to the last bit.

For one row, scikit-learn spends most of the time before the model runs: it makes a frame, compares its names, checks
that all numbers are finite, transforms once for the labels and again for the probabilities, and starts joblib for the
trees of a forest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.runtime.environment import environment
from app.runtime.servable import ArtifactServable, Servable, by_row, call, frame_of, single_threaded, without_names
from app.signature import Layout, Signature
from app.signature.batch import Batch, Outputs
from app.storage.manifest import DirectCall, Manifest
from app.telemetry import check_deadline

SEARCHES = ("GridSearchCV", "RandomizedSearchCV")


def call_directly(servable: Servable, manifest: Manifest) -> Servable:
    """Return a servable that calls an artifact in the way that packing recorded.

    Without a record, or with another version of scikit-learn, return the servable unchanged.
    """
    if manifest.lean is None or not isinstance(servable, ArtifactServable):
        return servable
    if manifest.environment.get("scikit-learn") != environment().get("scikit-learn"):
        return servable
    return DirectServable(servable.estimator, manifest.signature, manifest.lean)


class DirectServable:
    """An estimator whose steps are called directly. The estimator is changed, so nothing else may use it.

    Thread-safe as far as scikit-learn's `predict` is; scikit-learn's configuration belongs to the thread.
    """

    def __init__(self, estimator: Any, signature: Signature, call: DirectCall) -> None:
        # Imported by now, for the estimator; not installed where only graphs are served.
        from sklearn import config_context

        self._signature = signature
        self.call = call
        self._configured = config_context
        single_threaded(estimator)
        if call.matrix:
            without_names(estimator)
        self._steps, self._last = steps_of(estimator)
        self._forest = Forest.of(self._last)

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the same outputs as `ArtifactServable.run`."""
        features = self._features(batch)
        if not self.call.unchecked:
            return self._answers(features, outputs)
        with self._configured(assume_finite=True, skip_parameter_validation=True):
            return self._answers(features, outputs)

    def _features(self, batch: Batch) -> Any:
        if self.call.matrix and self._signature.layout is Layout.FRAME:
            # Column-major, as pandas passes its values: the layout decides in which order products are added.
            return np.asfortranarray(batch.matrix())
        return frame_of(batch, self._signature)

    def _answers(self, features: Any, outputs: Sequence[str]) -> Outputs:
        for step in self._steps:
            features = step.transform(features)
        answers = None if self._forest is None else self._forest.outputs(features, outputs)
        return answers or {name: by_row(call(self._last, name, features)) for name in outputs}


def steps_of(estimator: Any) -> tuple[list[Any], Any]:
    """Split an estimator into its transformers, in order, and the last estimator, which computes the outputs.

    Only scikit-learn's own `Pipeline` and searches are split. A class derived from them may call its steps differently,
    so it is returned whole.
    """
    kind = type(estimator)
    if kind.__module__ == "sklearn.model_selection._search" and kind.__name__ in SEARCHES:
        return steps_of(estimator.best_estimator_)
    if kind.__module__ == "sklearn.pipeline" and kind.__name__ == "Pipeline":
        *steps, last = (step for _, step in estimator.steps)
        if last is not None and last != "passthrough":
            before, final = steps_of(last)
            return [step for step in steps if step is not None and step != "passthrough"] + before, final
    return [], estimator


CLASSIFIERS = ("RandomForestClassifier", "ExtraTreesClassifier")
REGRESSORS = ("RandomForestRegressor", "ExtraTreesRegressor")
MANY_ROWS = 1000
"""From this number on, the deadline is checked before each tree."""


class Forest:
    """The trees of a forest that predicts one target. Immutable, safe to share.

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
            The outputs by name; None if the forest itself must compute them, because an output is neither the
            prediction nor the probabilities, or because the forest's checks might refuse the features.
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
