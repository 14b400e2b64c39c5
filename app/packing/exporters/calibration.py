"""Calibrated classifiers: map scores or probabilities of a classifier to calibrated probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.formulas import (
    interpolated,
    mean,
    method_of,
    most_probable,
    reduced,
    response_of_method,
    row_sums,
    total,
)
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor

METHODS = ("decision_function", "predict_proba")


@predictor("CalibratedClassifierCV")
def calibrated_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`CalibratedClassifierCV`: the mean of the probabilities of its calibrated members."""
    members = est.calibrated_classifiers_
    inner = [member.estimator for member in members]
    responses = [response_of_method(g, e, g.predict(e, features), method_of(e, METHODS)) for e in inner]
    scores = [g.cast(response, "float64") for response in responses]
    if est.method == "temperature":
        summed = total(g, [_temperature(g, member, score) for member, score in zip(members, scores, strict=True)])
    elif est.method in ("sigmoid", "isotonic"):
        columns = [score.unsqueeze(1) if score.width is None else score for score in scores]
        fitted = _sigmoids(g, members, columns) if est.method == "sigmoid" else _isotonic(g, members, columns)
        summed = _probabilities(g, est, fitted)
    else:
        raise NotExportable(f"it calibrates by the method {est.method!r}")
    return most_probable(g, est.classes_, mean(g, summed, len(members)))


def _sigmoids(g: Graph, members: list[Any], scores: list[Tensor]) -> Tensor:
    """`_SigmoidCalibration.predict` of all columns of all members: `1 / (1 + exp(a T + b))`, as SciPy computes it."""
    calibrators = [calibrator for member in members for calibrator in member.calibrators]
    slopes = g.constant([float(calibrator.a_) for calibrator in calibrators])
    offsets = g.constant([float(calibrator.b_) for calibrator in calibrators])
    return ((g.concat(scores) * slopes + offsets).exp() + 1.0).reciprocal()


def _isotonic(g: Graph, members: list[Any], scores: list[Tensor]) -> Tensor:
    """`IsotonicRegression.predict` of all columns of all members: `numpy.interp`, clipped to the knots.

    Each column has a row in the tables, with a segment from each knot to the next, and one at the last knot.
    """
    calibrators = [calibrator for member in members for calibrator in member.calibrators]
    width, most = len(calibrators), max(len(calibrator.X_thresholds_) for calibrator in calibrators)
    starts, slopes = np.full((width, most), np.inf), np.zeros((width, most))
    origins, offsets = np.zeros((width, most)), np.zeros((width, most))
    for row, calibrator in enumerate(calibrators):
        knots, values = np.asarray(calibrator.X_thresholds_), np.asarray(calibrator.y_thresholds_)
        starts[row, : len(knots)] = origins[row, : len(knots)] = knots
        offsets[row, : len(knots)] = values
        slopes[row, : len(knots) - 1] = np.diff(values) / np.diff(knots)
    x = g.concat(scores).maximum([float(c.X_min_) for c in calibrators])
    x = x.minimum([float(c.X_max_) for c in calibrators])
    return interpolated(g, x, starts[:, 1:], slopes, origins, offsets)


def _probabilities(g: Graph, est: Any, fitted: Tensor) -> Tensor:
    """Sum the probabilities of the members: shape (rows, columns of all members) in, (rows, classes) out.

    Two classes: 1 - p and p. More classes: p divided by its sum over the classes, or uniform if the sum is 0.
    """
    if len(est.classes_) == 2:
        return _summed(est, g.concat([1.0 - fitted, fitted]), np.repeat([0, 1], fitted.width or 0))
    members, classes = est.calibrated_classifiers_, np.asarray(est.classes_)
    width = len(members) * len(classes)
    # A class that is missing in a fold has no calibrator: its probability is 0.
    places = [
        number * len(classes) + position
        for number, member in enumerate(members)
        for position in np.searchsorted(classes, member.estimator.classes_)[: len(member.calibrators)]
    ]
    if places != list(range(width)):
        fitted = fitted @ np.eye(width)[places]
    of_member = np.repeat(np.arange(len(members)), len(classes))
    sums = g.take(fitted @ np.eye(len(members))[of_member], of_member, axis=1)
    probabilities = g.where(sums.equal(0.0), 1 / len(classes), fitted / sums)
    return _summed(est, probabilities, np.tile(np.arange(len(classes)), len(members)))


def _summed(est: Any, probabilities: Tensor, classes: NDArray[np.int64]) -> Tensor:
    """Sum the columns of each class, in order. Interpolated values may exceed 1 by rounding and are clipped."""
    if est.method == "isotonic":
        probabilities = probabilities.minimum(1.0)
    return probabilities @ np.eye(len(est.classes_))[classes]


def _temperature(g: Graph, member: Any, scores: Tensor) -> Tensor:
    """`_TemperatureScaling.predict`: softmax of the logits times a constant.

    `_convert_to_logits` takes the logarithm if all rows of the batch look like probabilities.
    """
    if scores.width is not None:
        logits = _logits(g, scores)
    elif method_of(member.estimator, METHODS) == "predict_proba":
        column = scores.unsqueeze(1)
        logits = _logarithms(g.concat([1.0 - column, column]))
    else:
        # One multiplication gives -x and x.
        logits = scores.unsqueeze(1) * [-1.0, 1.0]
    scaled = logits * float(member.calibrators[0].beta_)
    powers = (scaled - reduced(g, "ReduceMax", scaled)).exp()
    return powers / row_sums(g, powers)


def _logarithms(probabilities: Tensor) -> Tensor:
    return (probabilities + 1e-12).log()


def _logits(g: Graph, scores: Tensor) -> Tensor:
    """`_convert_to_logits` of several columns: logarithms if all values are in [0, 1] and all rows sum to 1."""
    far = g.node("ReduceMax", [abs(row_sums(g, scores) - 1.0)], "float64", None, keepdims=0)
    low = g.node("ReduceMin", [scores], "float64", None, keepdims=0)
    high = g.node("ReduceMax", [scores], "float64", None, keepdims=0)
    # The tolerance is that of `isclose` to 1: 1e-8 absolute and 1e-5 relative.
    are_probabilities = (far <= 1e-8 + 1e-5) & (low >= 0.0) & (high <= 1.0)
    return g.where(are_probabilities, _logarithms(scores), scores)
