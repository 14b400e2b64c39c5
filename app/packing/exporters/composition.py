"""Pipelines, column transformers and unions; models around other models: searches, thresholds, voting, stacking."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.formulas import (
    OUTPUT_OF_METHOD,
    method_of,
    most_probable,
    response_of_method,
    supported,
    total,
)
from app.packing.exporters.functions import FUNCTIONS
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor, transformer
from app.runtime.decoded import Decoded

SELECTORS = (
    "GenericUnivariateSelect", "RFE", "RFECV", "SelectFdr", "SelectFpr", "SelectFromModel", "SelectFwe",
    "SelectKBest", "SelectPercentile", "SequentialFeatureSelector", "VarianceThreshold",
)  # fmt: skip


@transformer("Pipeline")
def pipeline(g: Graph, est: Any, features: Features) -> Features:
    """`Pipeline.transform`: each step takes the columns of the step before it."""
    return functools.reduce(lambda columns, step: g.transform(step, columns), _steps(est), features)


@predictor("Pipeline")
def pipeline_predict(g: Graph, est: Any, features: Features) -> Outputs:
    """`Pipeline`: the outputs of the last step for the columns that the steps before it return."""
    *steps, last = _steps(est)
    columns = functools.reduce(lambda columns, step: g.transform(step, columns), steps, features)
    return g.predict(last, columns)


def _steps(est: Any) -> list[Any]:
    return [step for _, step in est.steps if step is not None and not isinstance(step, str)]


@transformer("ColumnTransformer")
def column_transformer(g: Graph, est: Any, features: Features) -> Features:
    """`ColumnTransformer.transform`: the results of the transformers on their columns, side by side."""
    blocks: list[Tensor] = []
    for name, inner, _ in est.transformers_:
        positions = list(est._transformer_to_input_indices[name])
        if positions and inner != "drop":
            columns = g.select(features, positions)
            blocks += _weighted(g, est, name, columns if inner == "passthrough" else g.transform(inner, columns))
    return tuple(blocks)


@transformer("FeatureUnion")
def feature_union(g: Graph, est: Any, features: Features) -> Features:
    """`FeatureUnion.transform`: the results of the transformers on all columns, times their weights, side by side."""
    blocks: list[Tensor] = []
    for name, inner in est.transformer_list:
        if inner != "drop":
            columns = features if inner == "passthrough" else g.transform(inner, features)
            blocks += _weighted(g, est, name, columns)
    return tuple(blocks)


def _weighted(g: Graph, est: Any, name: str, features: Features) -> Features:
    weight = (est.transformer_weights or {}).get(name)
    if weight is None or not features:
        return features
    return (g.matrix(features) * weight,)


@transformer("FunctionTransformer")
def function(g: Graph, est: Any, features: Features) -> Features:
    """`FunctionTransformer.transform` for functions of NumPy, shape (rows, columns)."""
    if est.func is None:
        return features
    if est.func not in FUNCTIONS or est.kw_args:
        named = est.func.func if isinstance(est.func, functools.partial) else est.func
        name = getattr(named, "__qualname__", None) or getattr(named, "__name__", type(named).__name__)
        raise NotExportable(f"it applies the function {name}{' with arguments' * bool(est.kw_args)}")
    return (FUNCTIONS[est.func](g, g.matrix(features)),)


@transformer(*SELECTORS)
def selector(g: Graph, est: Any, features: Features) -> Features:
    """`SelectorMixin.transform`: the columns of `get_support()`, in their order."""
    return g.select(features, np.flatnonzero(est.get_support()).tolist())


@predictor("RFE", "RFECV")
def eliminator(g: Graph, est: Any, features: Features) -> Outputs:
    """`RFE` and `RFECV`: the outputs of the estimator for the selected columns; these columns are `transformed`."""
    columns = selector(g, est, features)
    return g.predict(est.estimator_, columns) | {"transformed": g.matrix(columns)}


SEARCHES = ("GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV")
INNER = {"FrozenEstimator": "estimator", "SelfTrainingClassifier": "estimator_"}
"""The attribute that contains the inner estimator, by class; for a search, it is `best_estimator_`."""


@predictor("FrozenEstimator", "SelfTrainingClassifier", *SEARCHES)
def inner_prediction(g: Graph, est: Any, features: Features) -> Outputs:
    """Export an estimator that predicts like its inner estimator."""
    return supported(est, g.predict(_inner(est), features))


@transformer("FrozenEstimator", *SEARCHES)
def inner_transform(g: Graph, est: Any, features: Features) -> Features:
    """Export an estimator that transforms like its inner estimator."""
    return g.transform(_inner(est), features)


def _inner(est: Any) -> Any:
    return getattr(est, INNER.get(type(est).__name__, "best_estimator_"))


@predictor("FixedThresholdClassifier")
def fixed_threshold(g: Graph, est: Any, features: Features) -> Outputs:
    """`FixedThresholdClassifier.predict`: the positive class if the response is at least the threshold."""
    inner = getattr(est, "estimator_", est.estimator)
    threshold = est.threshold
    if threshold == "auto":
        threshold = 0.5 if method_of(inner, _methods(est)) == "predict_proba" else 0.0
    return _thresholded(g, est, inner, features, threshold, est.pos_label)


@predictor("TunedThresholdClassifierCV")
def tuned_threshold(g: Graph, est: Any, features: Features) -> Outputs:
    """`TunedThresholdClassifierCV.predict`: like a fixed threshold, with the best threshold found."""
    positive = est._curve_scorer._get_pos_label()
    return _thresholded(g, est, est.estimator_, features, est.best_threshold_, positive)


def _methods(est: Any) -> list[str]:
    return ["predict_proba", "decision_function"] if est.response_method == "auto" else [est.response_method]


def _thresholded(g: Graph, est: Any, inner: Any, features: Features, threshold: float, positive: Any) -> Outputs:
    """`_threshold_scores_to_class_labels` of scikit-learn for the response of the inner estimator."""
    outputs = g.predict(inner, features)
    score = response_of_method(g, inner, outputs, method_of(inner, _methods(est)), positive)
    above = score >= threshold
    classes: NDArray[Any] = np.asarray(inner.classes_)
    if positive is not None and classes.tolist().index(positive) == 0:
        classes = classes[::-1]
    return supported(est, outputs) | {"prediction": g.labels(classes, g.cast(above, "int64"))}


@predictor("app.Decoded")
def decoded(g: Graph, est: Decoded, features: Features) -> Outputs:
    """`Decoded.predict`: the labels at the positions that the estimator predicts."""
    outputs = dict(g.predict(est.estimator, features))
    positions = g.cast(outputs["prediction"], "int64")
    if positions.width not in (None, 1):
        raise NotExportable("it predicts several columns, and there is one column of labels")
    index = positions if positions.width is None else g.pick(positions, 0)
    return outputs | {"prediction": g.labels(np.asarray(est.labels), index)}


@predictor("VotingClassifier")
def voting_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`VotingClassifier`: the greatest mean probability, or the most votes; `transformed` has the members' outputs."""
    if est.voting == "hard":
        return _majority(g, est, features)
    members = [g.cast(g.predict(member, features)["probabilities"], "float64") for member in est.estimators_]
    weights = est._weights_not_none
    weighted = members if weights is None else [m * weight for m, weight in zip(members, weights, strict=True)]
    outputs = most_probable(g, est.classes_, total(g, weighted) / _weight_sum(g, est))
    return outputs | ({"transformed": g.concat(members)} if est.flatten_transform else {})


def _majority(g: Graph, est: Any, features: Features) -> Outputs:
    """Hard voting: `argmax(bincount(votes, weights))`, the first class in a tie; members predict encoded labels."""
    weights = est._weights_not_none
    if weights is None:
        weights = [1.0] * len(est.estimators_)
    if min(weights) < 0:
        raise NotExportable("it counts votes with negative weights")
    votes = [g.cast(g.predict(member, features)["prediction"], "int64") for member in est.estimators_]
    one_hot = np.eye(len(est.classes_))
    counts = total(g, [g.take(weight * one_hot, vote) for weight, vote in zip(weights, votes, strict=True)])
    return {
        "prediction": g.labels(est.classes_, g.argmax(counts)),
        "transformed": g.concat([vote.unsqueeze(1) for vote in votes]),
    }


@predictor("VotingRegressor")
def voting_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`VotingRegressor`: `numpy.average` of the members' predictions; these are `transformed`."""
    members = [g.predict(member, features)["prediction"] for member in est.estimators_]
    if any(member.width is not None for member in members):
        raise NotExportable("its members predict several targets")
    stacked = g.concat([g.cast(member.unsqueeze(1), "float64") for member in members])
    weights = est._weights_not_none
    weights = np.ones(len(members)) if weights is None else np.asarray(weights, dtype=float)
    summed = g.node("MatMul", [stacked, g.constant(weights)], "float64", None)
    return {"prediction": summed / _weight_sum(g, est), "transformed": stacked}


def _weight_sum(g: Graph, est: Any) -> Tensor:
    """Return the divisor of `numpy.average`: the sum of the weights of the members, or their number."""
    weights = est._weights_not_none
    return g.constant(float(len(est.estimators_) if weights is None else np.asarray(weights).sum()))


@predictor("StackingClassifier")
def stacking_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`StackingClassifier`: the final classifier on the outputs of the members; it predicts encoded labels."""
    stacked = _stacked(g, est, features)
    outputs = supported(est, g.predict(est.final_estimator_, (stacked,))) | {"transformed": stacked}
    if isinstance(est._label_encoder, list):
        return _multilabel(g, est, outputs)
    return outputs | {"prediction": g.labels(est.classes_, g.cast(outputs["prediction"], "int64"))}


def _multilabel(g: Graph, est: Any, outputs: Outputs) -> Outputs:
    """Multilabel targets: scikit-learn returns the first column of the probabilities of each target."""
    if any(len(classes) != 2 for classes in est.classes_):
        raise NotExportable("one of its targets always has the same label")
    parts = [outputs.pop(name) for name in list(outputs) if name.startswith("probabilities")]
    if parts:
        outputs["probabilities"] = g.concat([_columns(g, part, range(1)) for part in parts])
    return outputs


@predictor("StackingRegressor")
def stacking_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`StackingRegressor`: the final regressor on the members' predictions."""
    stacked = _stacked(g, est, features)
    return {"prediction": g.predict(est.final_estimator_, (stacked,))["prediction"], "transformed": stacked}


def _stacked(g: Graph, est: Any, features: Features) -> Tensor:
    """`_concatenate_predictions`: the responses of the members side by side, then the features if `passthrough`.

    The first column of probabilities is left out if there are two classes, and for each target if there are several.
    """
    blocks: list[Tensor] = []
    for member, method in zip(est.estimators_, est.stack_method_, strict=True):
        output = OUTPUT_OF_METHOD[method]
        outputs = g.predict(member, features)
        targets = [tensor for name, tensor in outputs.items() if name.startswith(f"{output}_")]
        if targets:
            blocks += [_columns(g, target, range(1, target.width or 0)) for target in targets]
            continue
        tensor = outputs[output]
        if tensor.width is None:
            blocks.append(tensor.unsqueeze(1))
        elif method == "predict_proba" and len(est.classes_) == 2:
            blocks.append(_columns(g, tensor, range(1, tensor.width)))
        else:
            blocks.append(tensor)
    if est.passthrough:
        blocks.append(g.matrix(features))
    same = len({block.type for block in blocks}) == 1
    return g.concat(blocks) if same else g.matrix(tuple(blocks))


def _columns(g: Graph, block: Tensor, positions: range) -> Tensor:
    return g.select((block,), positions)[0]
