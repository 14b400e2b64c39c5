"""An artifact called with no more than its answer needs, where packing found that it answers the same, bit for bit.

Most of what scikit-learn spends on one row it spends before the model: a frame is made and its names are compared,
finite numbers are found to be finite, a pipeline transforms once for the labels and again for the probabilities, and a
forest has joblib run its trees.
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
from app.storage.manifest import LeanCall, Manifest

SEARCHES = ("GridSearchCV", "RandomizedSearchCV")


def lean(servable: Servable, manifest: Manifest) -> Servable:
    """The artifact called as packing recorded; as it is where nothing was recorded, or for another scikit-learn."""
    if manifest.lean is None or not isinstance(servable, ArtifactServable):
        return servable
    if manifest.environment.get("scikit-learn") != environment().get("scikit-learn"):
        return servable
    return LeanServable(servable.estimator, manifest.signature, manifest.lean)


class LeanServable:
    """The estimator, which is changed to be called so: it has to be this servable's alone.

    Thread-safe as far as scikit-learn's `predict` is; scikit-learn's configuration belongs to the thread.
    """

    def __init__(self, estimator: Any, signature: Signature, call: LeanCall) -> None:
        from sklearn import config_context  # imported by now, for the estimator; who serves graphs alone has none

        self._signature = signature
        self.call = call
        self._configured = config_context
        single_threaded(estimator)
        if call.matrix:
            without_names(estimator)
        self._steps, self._last = steps_of(estimator)
        self._forest = Forest.of(self._last)

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """What `ArtifactServable.run` gives."""
        features = self._features(batch)
        if not self.call.unchecked:
            return self._answers(features, outputs)
        with self._configured(assume_finite=True, skip_parameter_validation=True):
            return self._answers(features, outputs)

    def _features(self, batch: Batch) -> Any:
        if self.call.matrix and self._signature.layout is Layout.FRAME:
            # Column after column, as pandas hands over its values: the order decides in which order products add up.
            return np.asfortranarray(batch.matrix())
        return frame_of(batch, self._signature)

    def _answers(self, features: Any, outputs: Sequence[str]) -> Outputs:
        for step in self._steps:
            features = step.transform(features)
        answers = None if self._forest is None else self._forest.outputs(features, outputs)
        return answers or {name: by_row(call(self._last, name, features)) for name in outputs}


def steps_of(estimator: Any) -> tuple[list[Any], Any]:
    """The transformers that come first, and the estimator whose methods give the outputs.

    These are what the methods of scikit-learn's own `Pipeline` and searches call, one after the other; of any class
    derived from them nothing is known, and it stays whole.
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
