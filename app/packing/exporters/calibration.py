"""Calibrated classifiers: scores or probabilities of a classifier are mapped to calibrated probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict, Tensor
from app.packing.exporters.responses import method_of, response, row_sums, total

METHODS = ("decision_function", "predict_proba")


def calibrated_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """CalibratedClassifierCV: the mean of the probabilities of its calibrated pairs, and the most probable class."""
    pairs = est.calibrated_classifiers_
    scores = [g.cast(response(g, pair.estimator, features, METHODS), "float64") for pair in pairs]
    if est.method == "temperature":
        blocks = [_temperature(g, pair, score) for pair, score in zip(pairs, scores, strict=True)]
        mean = total(g, blocks)
    elif est.method in ("sigmoid", "isotonic"):
        columns = [g.column(score) if score.width is None else score for score in scores]
        fitted = _sigmoids(g, pairs, columns) if est.method == "sigmoid" else _isotonic(g, pairs, columns)
        mean = (_of_two if len(est.classes_) == 2 else _of_more)(g, est, fitted)
    else:
        raise NotExportable(f"it calibrates by the method {est.method!r}")
    if len(pairs) > 1:
        mean = g.node("Div", [mean, g.constant(float(len(pairs)))], "float64", mean.width)
    return {"prediction": g.labels(est.classes_, g.argmax(mean)), "probabilities": mean}


def _sigmoids(g: Graph, pairs: list[Any], scores: list[Tensor]) -> Tensor:
    """`_SigmoidCalibration.predict` of each column of each pair, side by side.

    expit(-(a T + b)), written as SciPy's 1 / (1 + exp(a T + b)).
    """
    calibrators = [calibrator for pair in pairs for calibrator in pair.calibrators]
    width = len(calibrators)
    slopes = g.constant([float(calibrator.a_) for calibrator in calibrators])
    offsets = g.constant([float(calibrator.b_) for calibrator in calibrators])
    line = g.node("Add", [g.node("Mul", [g.concat(scores), slopes], "float64", width), offsets], "float64", width)
    grown = g.node("Add", [g.node("Exp", [line], "float64", width), g.constant(1.0)], "float64", width)
    return g.node("Reciprocal", [grown], "float64", width)


def _isotonic(g: Graph, pairs: list[Any], scores: list[Tensor]) -> Tensor:
    """`IsotonicRegression.predict` of each column of each pair, side by side: `numpy.interp`, clipped to its knots.

    Each column has a row in the tables, with one segment from each knot to the next, and one at the last knot.
    """
    calibrators = [calibrator for pair in pairs for calibrator in pair.calibrators]
    width, most = len(calibrators), max(len(calibrator.X_thresholds_) for calibrator in calibrators)
    starts, slopes = np.full((width, most), np.inf), np.zeros((width, most))
    origins, offsets = np.zeros((width, most)), np.zeros((width, most))
    for row, calibrator in enumerate(calibrators):
        knots, values = np.asarray(calibrator.X_thresholds_), np.asarray(calibrator.y_thresholds_)
        starts[row, : len(knots)] = origins[row, : len(knots)] = knots
        offsets[row, : len(knots)] = values
        slopes[row, : len(knots) - 1] = np.diff(values) / np.diff(knots)
    x = g.node("Max", [g.concat(scores), g.constant([float(c.X_min_) for c in calibrators])], "float64", width)
    x = g.node("Min", [x, g.constant([float(c.X_max_) for c in calibrators])], "float64", width)
    each = g.node("Unsqueeze", [x, g.constant([2], "int64")], "float64", 1)
    passed = g.cast(g.node("GreaterOrEqual", [each, g.constant(starts[:, 1:])], "bool", most - 1), "int64")
    segment = g.node("ReduceSum", [passed, g.constant([2], "int64")], "int64", width, keepdims=0)
    place = g.node("Add", [segment, g.constant(np.arange(width) * most, "int64")], "int64", width)

    def of_segment(table: NDArray[np.float64]) -> Tensor:
        return g.node("Gather", [g.constant(table.ravel()), place], "float64", width, axis=0)

    run = g.node("Sub", [x, of_segment(origins)], "float64", width)
    rise = g.node("Mul", [run, of_segment(slopes)], "float64", width)
    return g.node("Add", [rise, of_segment(offsets)], "float64", width)


def _of_two(g: Graph, est: Any, fitted: Tensor) -> Tensor:
    """Sum 1 - p and p over the pairs."""
    count = fitted.width or 0
    both = g.concat([g.node("Sub", [g.constant(1.0), fitted], "float64", count), fitted])
    return _summed(g, est, both, np.repeat([0, 1], count))


def _of_more(g: Graph, est: Any, fitted: Tensor) -> Tensor:
    """Sum the probabilities of the pairs, after dividing those of each pair by their sum; zeros become uniform."""
    pairs, classes = est.calibrated_classifiers_, np.asarray(est.classes_)
    width = len(pairs) * len(classes)
    # A class that is missing in a fold has no calibrator: its probability is 0.
    places = [
        turn * len(classes) + place
        for turn, pair in enumerate(pairs)
        for place in np.searchsorted(classes, pair.estimator.classes_)[: len(pair.calibrators)]
    ]
    if places != list(range(width)):
        fitted = g.node("MatMul", [fitted, g.constant(np.eye(width)[places])], "float64", width)
    of_pair = np.repeat(np.arange(len(pairs)), len(classes))
    each = g.node("MatMul", [fitted, g.constant(np.eye(len(pairs))[of_pair])], "float64", len(pairs))
    sums = g.node("Gather", [each, g.constant(of_pair, "int64")], "float64", width, axis=1)
    zero = g.node("Equal", [sums, g.constant(0.0)], "bool", width)
    shares = g.node("Div", [fitted, sums], "float64", width)
    shares = g.node("Where", [zero, g.constant(1 / len(classes)), shares], "float64", width)
    return _summed(g, est, shares, np.tile(np.arange(len(classes)), len(pairs)))


def _summed(g: Graph, est: Any, shares: Tensor, classes: NDArray[np.int64]) -> Tensor:
    """Sum the columns of each class in order. Interpolated values are clipped to 1, which rounding may exceed."""
    if est.method == "isotonic":
        shares = g.node("Min", [shares, g.constant(1.0)], "float64", shares.width)
    count = len(est.classes_)
    return g.node("MatMul", [shares, g.constant(np.eye(count)[classes])], "float64", count)


def _temperature(g: Graph, pair: Any, scores: Tensor) -> Tensor:
    """`_TemperatureScaling.predict`: softmax of the logits times a constant.

    `_convert_to_logits` takes the logarithm if all rows of the batch look like probabilities.
    """
    if scores.width is not None:
        logits = _logits(g, scores)
    elif method_of(pair.estimator, METHODS) == "predict_proba":
        column = g.column(scores)
        logits = _logarithms(g, g.concat([g.node("Sub", [g.constant(1.0), column], "float64", 1), column]))
    else:
        # One multiplication gives -x and x.
        logits = g.node("Mul", [g.column(scores), g.constant([-1.0, 1.0])], "float64", 2)
    width = logits.width
    scaled = g.node("Mul", [logits, g.constant(float(pair.calibrators[0].beta_))], "float64", width)
    greatest = g.node("ReduceMax", [scaled, g.constant([1], "int64")], "float64", 1, keepdims=1)
    powers = g.node("Exp", [g.node("Sub", [scaled, greatest], "float64", width)], "float64", width)
    return g.node("Div", [powers, row_sums(g, powers)], "float64", width)


def _logarithms(g: Graph, probabilities: Tensor) -> Tensor:
    raised = g.node("Add", [probabilities, g.constant(1e-12)], "float64", probabilities.width)
    return g.node("Log", [raised], "float64", probabilities.width)


def _logits(g: Graph, scores: Tensor) -> Tensor:
    """`_convert_to_logits` of several columns: logarithms if all rows of the batch lie in 0..1 and sum to 1."""
    sums = row_sums(g, scores)
    distance = g.node("Abs", [g.node("Sub", [sums, g.constant(1.0)], "float64", 1)], "float64", 1)
    far = g.node("ReduceMax", [distance], "float64", None, keepdims=0)
    low = g.node("ReduceMin", [scores], "float64", None, keepdims=0)
    high = g.node("ReduceMax", [scores], "float64", None, keepdims=0)
    # The tolerance is that of `isclose` to 1: 1e-8 absolute and 1e-5 relative.
    near = g.node("LessOrEqual", [far, g.constant(1e-8 + 1e-5)], "bool", None)
    within = [
        g.node("GreaterOrEqual", [low, g.constant(0.0)], "bool", None),
        g.node("LessOrEqual", [high, g.constant(1.0)], "bool", None),
    ]
    all_rows = g.node("And", [near, g.node("And", within, "bool", None)], "bool", None)
    return g.node("Where", [all_rows, _logarithms(g, scores), scores], "float64", scores.width)


PREDICTORS: dict[str, Predict] = {"CalibratedClassifierCV": calibrated_classifier}
