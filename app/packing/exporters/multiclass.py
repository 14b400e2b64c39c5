"""Multiclass and multioutput models, chains, and the dummy predictors that some of them fall back on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

from app.packing.exporters.formulas import OUTPUT_OF_METHOD, expit, repeated, response_of_method, row_sums
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.releases import LEAVES_ZEROS, ONE_VS_REST_TAKES_FIRST, is_one_vs_rest


@predictor("OneVsRestClassifier")
def one_vs_rest(g: Graph, est: Any, features: Features) -> Outputs:
    """`OneVsRestClassifier`: the class with the greatest score, or all labels above the threshold if multilabel."""
    members = [g.predict(member, features) for member in est.estimators_]
    if est.label_binarizer_.y_type_ == "multiclass":
        scores = _scores(g, est.estimators_, members)
        outputs = {"prediction": g.labels(est.classes_, g.argmax(scores, last=not ONE_VS_REST_TAKES_FIRST))}
    elif est.label_binarizer_.y_type_ == "binary":
        outputs = {"prediction": _thresholded(g, est, _score(g, est.estimators_[0], members[0]))}
    else:
        threshold = g.constant(_threshold(est.estimators_[0]))
        scores = _scores(g, est.estimators_, members)
        outputs = {"prediction": g.cast(scores > threshold, "int64")}
    # scikit-learn checks the first member only, and fails if another member lacks the method.
    if all(hasattr(member, "predict_proba") for member in est.estimators_):
        outputs["probabilities"] = _probabilities(g, est, members)
    if all(hasattr(member, "decision_function") for member in est.estimators_):
        scores = g.concat([g.cast(outputs["decision_scores"], "float64").unsqueeze(1) for outputs in members])
        outputs["decision_scores"] = scores if len(members) > 1 else members[0]["decision_scores"]
    return outputs


def _probabilities(g: Graph, est: Any, members: Sequence[Outputs]) -> Tensor:
    """`OneVsRestClassifier.predict_proba`: the members' probabilities, divided by their sum unless multilabel."""
    inner = zip(est.estimators_, members, strict=True)
    positive = [_positive(g, member, outputs) for member, outputs in inner]
    if len(positive) == 1:
        return g.concat([1.0 - positive[0], positive[0]])
    block = g.concat(positive)
    if est.multilabel_:
        return block
    sums = row_sums(g, block)
    if LEAVES_ZEROS:
        sums = g.where(sums.equal(0.0), 1.0, sums)
    return block / sums


def _positive(g: Graph, member: Any, outputs: Outputs) -> Tensor:
    """Return the probability of the second class, shape (rows, 1), accurate near 0 because it is a divisor."""
    if type(member).__name__.startswith("LogisticRegression") and is_one_vs_rest(member):
        return expit(g, outputs["decision_scores"].unsqueeze(1))
    return g.select((outputs["probabilities"],), [1])[0]


@predictor("OneVsOneClassifier")
def one_vs_one(g: Graph, est: Any, features: Features) -> Outputs:
    """`OneVsOneClassifier`: one vote for each pair, ties broken by confidence (`_ovr_decision_function`)."""
    if est.pairwise_indices_ is not None:
        raise NotExportable("it is fitted on a kernel matrix")
    if any(is_regressor(member) for member in est.estimators_):
        raise NotExportable("its members are regressors")
    members = [g.predict(member, features) for member in est.estimators_]
    votes = g.concat([g.cast(outputs["prediction"].unsqueeze(1), "float64") for outputs in members])
    # The classifier of a pair votes 0 for its first class and 1 for its second.
    count = len(est.classes_)
    pairs = np.array(list(combinations(range(count), 2)))
    direction = np.eye(count)[pairs[:, 1]] - np.eye(count)[pairs[:, 0]]
    first = g.constant(np.bincount(pairs[:, 0], minlength=count).astype(float))
    confidence = _scores(g, est.estimators_, members) @ direction
    scores = votes @ direction + first + confidence / ((abs(confidence) + 1.0) * 3.0)
    if count == 2:
        second = g.pick(scores, 1)
        return {"prediction": _thresholded(g, est, second), "decision_scores": second}
    return {"prediction": g.labels(est.classes_, g.argmax(scores)), "decision_scores": scores}


@predictor("OutputCodeClassifier")
def output_codes(g: Graph, est: Any, features: Features) -> Outputs:
    """`OutputCodeClassifier`: the class with the nearest code, the first one in a tie (`pairwise_distances_argmin`).

    Squared distances are computed as in scikit-learn, |x|² - 2 x·c + |c|² and at least 0: rounding decides near ties.
    """
    scores = _scores(g, est.estimators_, [g.predict(member, features) for member in est.estimators_])
    code = np.asarray(est.code_book_, dtype=float)
    squared = row_sums(g, scores * scores) + scores @ (-2.0 * code.T)
    squared = (squared + (code * code).sum(axis=1)).maximum(0.0)
    return {"prediction": g.labels(est.classes_, g.argmin(squared))}


@predictor("_ConstantPredictor")
def constant_predictor(g: Graph, est: Any, features: Features) -> Outputs:
    """`_ConstantPredictor`, which replaces a classifier if the training data has one class."""
    label = repeated(g, features, g.constant([int(est.y_[0])], "int64"), None)
    both = g.constant([[1.0 - est.y_[0], est.y_[0]]])
    return {"prediction": label, "decision_scores": label, "probabilities": repeated(g, features, both, 2)}


def _scores(g: Graph, estimators: Sequence[Any], members: Sequence[Outputs]) -> Tensor:
    """Return the scores of the members side by side, shape (rows, members)."""
    return g.concat([_score(g, est, outputs).unsqueeze(1) for est, outputs in zip(estimators, members, strict=True)])


def _score(g: Graph, est: Any, outputs: Outputs) -> Tensor:
    """`_predict_binary` of scikit-learn: the greater the score, the likelier the second class; shape (rows,)."""
    if is_regressor(est):
        score = outputs["prediction"]
    elif hasattr(est, "decision_function"):
        score = outputs["decision_scores"]
    else:
        score = g.pick(outputs["probabilities"], 1)
    if score.width is not None:
        score = g.pick(score, 0)
    return g.cast(score, "float64")


def _threshold(est: Any) -> float:
    """`_threshold_for_binary_predict` of scikit-learn."""
    return 0.0 if hasattr(est, "decision_function") and is_classifier(est) else 0.5


def _thresholded(g: Graph, est: Any, score: Tensor) -> Tensor:
    """Return the second of two classes if the score is above the threshold, else the first."""
    if len(est.classes_) != 2:
        raise NotExportable("it knows a single class")
    return g.labels(est.classes_, g.cast(score > _threshold(est.estimators_[0]), "int64"))


@predictor("MultiOutputClassifier", "MultiOutputRegressor")
def multi_output(g: Graph, est: Any, features: Features) -> Outputs:
    """`MultiOutputRegressor` and `MultiOutputClassifier`: the prediction of each member is a column.

    `predict_proba` gives a list with a block for each target: `probabilities_0`, `probabilities_1`, ….
    """
    members = [g.predict(member, features) for member in est.estimators_]
    outputs = {"prediction": _stacked(g, [member["prediction"] for member in members])}
    if hasattr(est, "predict_proba"):
        outputs |= {f"probabilities_{target}": member["probabilities"] for target, member in enumerate(members)}
    return outputs


def _stacked(g: Graph, predictions: Sequence[Tensor]) -> Tensor:
    """Return the predictions as columns of one type, the type that NumPy would choose."""
    types = {prediction.type for prediction in predictions}
    if len(types) > 1 and "string" in types:
        raise NotExportable("some of its targets are strings and some are numbers")
    type_ = next(t for t in ("string", "float64", "float32", "int64", "bool") if t in types)
    return g.concat([g.cast(prediction.unsqueeze(1), type_) for prediction in predictions])


@predictor("ClassifierChain", "RegressorChain")
def chain(g: Graph, est: Any, features: Features) -> Outputs:
    """`ClassifierChain` and `RegressorChain`: each model takes the columns and the outputs of the models before it.

    `_BaseChain._get_predictions` keeps every output in an array of float64, including labels.
    """
    chained = getattr(est, "chain_method_", "predict")
    if chained not in OUTPUT_OF_METHOD:
        raise NotExportable(f"its chain passes on {chained}")
    binary = all(len(getattr(model, "classes_", ())) <= 2 for model in est.estimators_)
    # With more than two classes scikit-learn gives no probabilities: its array has one column for each target.
    methods = ["predict", *(m for m in ("predict_proba", "decision_function") if binary and hasattr(est, m))]
    inputs: Features = (g.matrix(features),)
    responses: dict[str, list[Tensor]] = {method: [] for method in methods}
    for model in est.estimators_:
        outputs = g.predict(model, inputs)
        for method in methods:
            responses[method].append(_response_column(g, model, outputs, method))
        inputs = (*inputs, _response_column(g, model, outputs, chained))
    places = np.argsort(est.order_)
    return {OUTPUT_OF_METHOD[method]: g.concat([responses[method][place] for place in places]) for method in methods}


def _response_column(g: Graph, model: Any, outputs: Outputs, method: str) -> Tensor:
    """Return the response of one model of the chain, shape (rows, 1)."""
    tensor = response_of_method(g, model, outputs, method)
    return g.cast(tensor.unsqueeze(1) if tensor.width is None else tensor, "float64")


@predictor("DummyClassifier")
def dummy_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`DummyClassifier`: a constant class and constant probabilities, unless its strategy is random."""
    if est._strategy in ("stratified", "uniform"):
        raise NotExportable(f"its strategy {est._strategy} is random")
    if est.n_outputs_ != 1:
        raise NotExportable("it has several targets")
    prior = np.asarray(est.class_prior_)
    if est._strategy == "constant":
        position = int(np.flatnonzero(est.classes_ == np.ravel(est.constant)[0])[0])
    else:
        position = int(prior.argmax())
    probabilities = prior if est._strategy == "prior" else np.eye(len(prior))[position]
    index = repeated(g, features, g.constant([position], "int64"), None)
    return {
        "prediction": g.labels(est.classes_, index),
        "probabilities": repeated(g, features, g.constant(probabilities[None, :]), len(prior)),
    }


@predictor("DummyRegressor")
def dummy_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`DummyRegressor`: its constant."""
    constant = np.asarray(est.constant_).reshape(1, -1)
    flat = constant.shape[1] == 1
    type_ = "int64" if constant.dtype.kind in "iu" else "float64"
    row = g.constant(constant[0] if flat else constant, type_)
    return {"prediction": repeated(g, features, row, None if flat else constant.shape[1])}
