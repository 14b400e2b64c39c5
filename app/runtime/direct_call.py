"""Call the steps of an artifact directly, if packing found that the answers are equal to the last bit.

Scikit-learn spends most of the time of one row before the model runs: it makes a frame, compares its names, checks that
all numbers are finite, transforms once for the labels and again for the probabilities, and starts joblib for the trees
of a forest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.runtime.environment import environment
from app.runtime.fitted import single_threaded, without_names
from app.runtime.forest import Forest
from app.runtime.servable import ArtifactServable, Servable, by_row, call, frame_of
from app.signature import Layout, Signature
from app.signature.batch import Batch, Outputs
from app.storage.manifest import DirectCall, Manifest

SEARCHES = ("GridSearchCV", "RandomizedSearchCV")


def call_directly(servable: Servable, manifest: Manifest) -> Servable:
    """Return the servable that packing recorded for an artifact.

    Without a record, or under another version of scikit-learn, return the servable as it is.
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
        from sklearn import (
            config_context,
        )  # imported by now, for the estimator; not installed where only graphs are served

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
    """Split an estimator into its transformers, in order, and the last estimator, which gives the outputs.

    Only scikit-learn's own `Pipeline` and searches are split. A class derived from them may call its steps otherwise,
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
