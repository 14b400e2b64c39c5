"""Models around one model: searches, self-training, frozen estimators, tuned thresholds, decoded labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import (
    Features,
    Graph,
    NotExportable,
    Outputs,
    Predict,
    Transform,
    predictor,
    transformer,
)
from app.packing.exporters.links import chosen, method_of, offered
from app.runtime.decoded import Decoded


def inner_prediction(attribute: str) -> Predict:
    """Return the exporter of an estimator that predicts like the one in this attribute."""

    def predict(g: Graph, est: Any, features: Features) -> Outputs:
        return offered(est, g.predict(getattr(est, attribute), features))

    return predict


def inner_transform(attribute: str) -> Transform:
    """Return the exporter of an estimator that transforms like the one in this attribute."""

    def transform(g: Graph, est: Any, features: Features) -> Features:
        return g.transform(getattr(est, attribute), features)

    return transform


@predictor("FixedThresholdClassifier")
def fixed_threshold(g: Graph, est: Any, features: Features) -> Outputs:
    """FixedThresholdClassifier.predict: the positive class if the response is at or above the threshold."""
    inner = getattr(est, "estimator_", est.estimator)
    threshold = est.threshold
    if threshold == "auto":
        threshold = 0.5 if method_of(inner, _methods(est)) == "predict_proba" else 0.0
    return _thresholded(g, est, inner, features, threshold, est.pos_label)


@predictor("TunedThresholdClassifierCV")
def tuned_threshold(g: Graph, est: Any, features: Features) -> Outputs:
    """TunedThresholdClassifierCV.predict: like a fixed threshold, with the best threshold found."""
    positive = est._curve_scorer._get_pos_label()
    return _thresholded(g, est, est.estimator_, features, est.best_threshold_, positive)


def _methods(est: Any) -> list[str]:
    return ["predict_proba", "decision_function"] if est.response_method == "auto" else [est.response_method]


def _thresholded(g: Graph, est: Any, inner: Any, features: Features, threshold: float, positive: Any) -> Outputs:
    """`_threshold_scores_to_class_labels` of scikit-learn on the response of the inner estimator."""
    outputs = g.predict(inner, features)
    score = chosen(g, inner, outputs, method_of(inner, _methods(est)), positive)
    above = score >= threshold
    classes: NDArray[Any] = np.asarray(inner.classes_)
    if positive is not None and classes.tolist().index(positive) == 0:
        classes = classes[::-1]
    return offered(est, outputs) | {"prediction": g.labels(classes, g.cast(above, "int64"))}


@predictor("app.Decoded")
def decoded(g: Graph, est: Decoded, features: Features) -> Outputs:
    """Decoded.predict: the labels at the positions that the estimator predicts."""
    outputs = dict(g.predict(est.estimator, features))
    positions = g.cast(outputs["prediction"], "int64")
    if positions.width not in (None, 1):
        raise NotExportable("it predicts several columns, and there is one column of labels")
    index = positions if positions.width is None else g.pick(positions, 0)
    return outputs | {"prediction": g.labels(np.asarray(est.labels), index)}


SEARCHES = ("GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV")


transformer("FrozenEstimator")(inner_transform("estimator"))
transformer(*SEARCHES)(inner_transform("best_estimator_"))
predictor("FrozenEstimator")(inner_prediction("estimator"))
predictor("SelfTrainingClassifier")(inner_prediction("estimator_"))
predictor(*SEARCHES)(inner_prediction("best_estimator_"))
