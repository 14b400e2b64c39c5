"""Support vector machines, as libsvm predicts: svm_predict_values and svm_predict_probability of its svm.cpp."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import similarity
from app.packing.exporters.coupling import coupled
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict, Tensor
from app.packing.exporters.links import affine, signs

MAX_TERMS = 1 << 14
"""The most products of kernels and weights that are added in the order of libsvm; more would take too much memory."""


def regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`SVR.predict`: a weighted sum of kernels with the support vectors."""
    return {"prediction": g.pick(_machines(g, est, features, est._dual_coef_, est._intercept_), 0)}


def one_class(g: Graph, est: Any, features: Features) -> Outputs:
    """`OneClassSVM`: an inlier where the sum is above 0."""
    score = g.pick(_machines(g, est, features, est._dual_coef_, est._intercept_), 0)
    return signs(g, g.node("Greater", [score, g.constant(0.0)], "bool", None)) | {"decision_scores": score}


def classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`SVC`: one machine for each pair of classes, with one vote each."""
    count = len(est.classes_)
    pairs = list(combinations(range(count), 2))
    weights = _pair_weights(est, pairs)
    probable = est._probA.size > 0
    if count == 2:
        # `decision_function` has the opposite sign of libsvm.
        scores = _machines(g, est, features, -weights, -est._intercept_)
        decision = g.pick(scores, 0)
        second = g.node("GreaterOrEqual", [decision, g.constant(0.0)], "bool", None)
        outputs = {"prediction": g.labels(est.classes_, g.cast(second, "int64")), "decision_scores": decision}
        if probable:
            outputs["probabilities"] = coupled(g, scores, -est._probA, est._probB, pairs)
        return outputs
    scores = _machines(g, est, features, weights, est._intercept_)
    outputs = {"decision_scores": scores}
    if est.decision_function_shape == "ovr":
        outputs["decision_scores"] = _one_against_rest(g, scores, pairs, count)
    if est.break_ties and est.decision_function_shape == "ovr":
        winner = g.argmax(outputs["decision_scores"])
    else:
        winner = g.argmax(_votes(g, g.node("Greater", [scores, g.constant(0.0)], "bool", scores.width), pairs, count))
    outputs["prediction"] = g.labels(est.classes_, winner)
    if probable:
        outputs["probabilities"] = coupled(g, scores, est._probA, est._probB, pairs)
    return outputs


def _machines(g: Graph, est: Any, features: Features, weights: NDArray[Any], intercept: NDArray[Any]) -> Tensor:
    """Sum kernels with the support vectors: weights (machines, vectors) give shape (rows, machines)."""
    if est._sparse:
        raise NotExportable("it was fitted on a sparse matrix")
    x, vectors = g.matrix(features), np.asarray(est.support_vectors_)
    if est.kernel == "poly":
        kernel = _power(g, similarity.shifted(g, x, vectors, est._gamma, est.coef0), est.degree)
    else:
        kernel = similarity.named(g, est.kernel, x, vectors, gamma=est._gamma, coef0=est.coef0)
    return _summed(g, kernel, weights, intercept)


def _power(g: Graph, base: Tensor, degree: int) -> Tensor:
    """`powi` of libsvm: exponentiation by squaring."""
    power = None if degree else g.node("Pow", [base, g.constant(0.0)], "float64", base.width)
    while degree:
        if degree % 2:
            power = base if power is None else g.node("Mul", [power, base], "float64", base.width)
        degree //= 2
        if degree:
            base = g.node("Mul", [base, base], "float64", base.width)
    return power or base


def _summed(g: Graph, kernel: Tensor, weights: NDArray[Any], intercept: NDArray[Any]) -> Tensor:
    """Sum the kernels (rows, vectors) times the weights of each machine, one after the other, like libsvm.

    The terms are large and of both signs, so that another order would change the sum.
    """
    members = [np.flatnonzero(row) for row in weights]
    longest = max(1, *map(len, members))
    if weights.size == 0 or len(members) * longest > MAX_TERMS:
        return affine(g, (kernel,), weights, intercept)
    places = np.zeros((len(members), longest), dtype=int)
    factors = np.zeros(places.shape)
    for row, member in enumerate(members):
        places[row, : len(member)], factors[row, : len(member)] = member, weights[row, member]
    chosen = g.node("Gather", [kernel, g.constant(places, "int64")], "float64", longest, axis=1)
    terms = g.node("Mul", [chosen, g.constant(factors)], "float64", longest)
    sums = g.node("CumSum", [terms, g.constant(2, "int64")], "float64", longest)
    total = g.node("Gather", [sums, g.constant(longest - 1, "int64")], "float64", len(members), axis=2)
    return g.node("Add", [total, g.constant(intercept)], "float64", len(members))


def _pair_weights(est: Any, pairs: list[tuple[int, int]]) -> NDArray[Any]:
    """Return the dual coefficients with one row for each pair of classes; vectors of other classes have weight 0.

    `_dual_coef_` has one row less than there are classes: a vector of class i has its coefficient against class j in
    row j - 1 for i < j, and in row j for i > j.
    """
    dual = np.asarray(est._dual_coef_)
    ends = np.cumsum(est._n_support)
    of_class = [slice(end - count, end) for end, count in zip(ends, est._n_support, strict=True)]
    weights = np.zeros((len(pairs), dual.shape[1]))
    for row, (i, j) in zip(weights, pairs, strict=True):
        row[of_class[i]] = dual[j - 1, of_class[i]]
        row[of_class[j]] = dual[i, of_class[j]]
    return weights


def _incidence(pairs: list[tuple[int, int]], count: int) -> NDArray[Any]:
    """Return 1 for the first class of a pair and -1 for the second, shape (pairs, classes)."""
    matrix = np.zeros((len(pairs), count))
    for row, (i, j) in zip(matrix, pairs, strict=True):
        row[i], row[j] = 1.0, -1.0
    return matrix


def _votes(g: Graph, first: Tensor, pairs: list[tuple[int, int]], count: int) -> Tensor:
    """Count the pairs that each class wins, given whether the first of each pair wins: shape (rows, classes)."""
    incidence = _incidence(pairs, count)
    seconds = (incidence < 0).sum(axis=0)
    return affine(g, (first,), incidence.T, seconds)


def _one_against_rest(g: Graph, scores: Tensor, pairs: list[tuple[int, int]], count: int) -> Tensor:
    """`_ovr_decision_function`: the votes plus the sums of the scores, which are scaled to less than 1/3."""
    votes = _votes(g, g.node("GreaterOrEqual", [scores, g.constant(0.0)], "bool", scores.width), pairs, count)
    sums = g.node("MatMul", [scores, g.constant(_incidence(pairs, count))], "float64", count)
    raised = g.node("Add", [g.node("Abs", [sums], "float64", count), g.constant(1.0)], "float64", count)
    tripled = g.node("Mul", [raised, g.constant(3.0)], "float64", count)
    return g.node("Add", [votes, g.node("Div", [sums, tripled], "float64", count)], "float64", count)


PREDICTORS: dict[str, Predict] = {
    "NuSVC": classifier,
    "NuSVR": regressor,
    "OneClassSVM": one_class,
    "SVC": classifier,
    "SVR": regressor,
}
