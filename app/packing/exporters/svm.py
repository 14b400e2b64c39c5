"""Support vector machines, predicted like `svm_predict_values` and `svm_predict_probability` in svm.cpp of libsvm.

`multiclass_probability` couples the probabilities of the pairs of classes by the second method of Wu, Lin and Weng,
"Probability estimates for multi-class classification by pairwise coupling", JMLR 5 (2004).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.packing.exporters import similarity
from app.packing.exporters.formulas import affine, expit, reduced, signs
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor

MAX_TERMS = 1 << 14
"""The most products of kernels and weights that are added in the order of libsvm; more would take too much memory."""


@predictor("NuSVR", "SVR")
def regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`SVR.predict`: a weighted sum of kernels with the support vectors."""
    return {"prediction": g.pick(_machines(g, est, features, est._dual_coef_, est._intercept_), 0)}


@predictor("OneClassSVM")
def one_class(g: Graph, est: Any, features: Features) -> Outputs:
    """`OneClassSVM`: an inlier if the sum is above 0."""
    score = g.pick(_machines(g, est, features, est._dual_coef_, est._intercept_), 0)
    return signs(g, score > 0.0) | {"decision_scores": score}


@predictor("NuSVC", "SVC")
def classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`SVC`: one machine, with one vote, for each pair of classes."""
    count = len(est.classes_)
    pairs = list(combinations(range(count), 2))
    weights = _pair_weights(est, pairs)
    probable = est._probA.size > 0
    if count == 2:
        # `decision_function` has the opposite sign of libsvm.
        scores = _machines(g, est, features, -weights, -est._intercept_)
        decision = g.pick(scores, 0)
        labels = g.labels(est.classes_, g.cast(decision >= 0.0, "int64"))
        outputs = {"prediction": labels, "decision_scores": decision}
        if probable:
            outputs["probabilities"] = coupled(g, scores, -est._probA, est._probB, pairs)
        return outputs
    scores = _machines(g, est, features, weights, est._intercept_)
    outputs = {"decision_scores": scores}
    if est.decision_function_shape == "ovr":
        # `_ovr_decision_function`: the votes plus the sums of the scores, which are scaled to less than 1/3.
        sums = scores @ _incidence(pairs, count)
        outputs["decision_scores"] = _votes(g, scores >= 0.0, pairs, count) + sums / ((abs(sums) + 1.0) * 3.0)
    if est.break_ties and est.decision_function_shape == "ovr":
        winner = g.argmax(outputs["decision_scores"])
    else:
        winner = g.argmax(_votes(g, scores > 0.0, pairs, count))
    outputs["prediction"] = g.labels(est.classes_, winner)
    if probable:
        outputs["probabilities"] = coupled(g, scores, est._probA, est._probB, pairs)
    return outputs


def _machines(g: Graph, est: Any, features: Features, weights: NDArray[Any], intercept: NDArray[Any]) -> Tensor:
    """Sum the kernels with the support vectors: shape (rows, machines) for weights of shape (machines, vectors)."""
    if est._sparse:
        raise NotExportable("it was fitted on a sparse matrix")
    x, vectors = g.matrix(features), np.asarray(est.support_vectors_)
    parameters = {"gamma": est._gamma, "coef0": est.coef0}
    if est.kernel == "poly":
        kernel = _power(similarity.shifted(x, vectors, parameters), est.degree)
    else:
        kernel = similarity.pairwise_kernel(g, est.kernel, x, vectors, **parameters)
    return _summed(g, kernel, weights, intercept)


def _power(base: Tensor, degree: int) -> Tensor:
    """`powi` of libsvm: exponentiation by squaring."""
    power = None if degree else base**0.0
    while degree:
        if degree % 2:
            power = base if power is None else power * base
        degree //= 2
        if degree:
            base = base * base
    return power or base


def _summed(g: Graph, kernel: Tensor, weights: NDArray[Any], intercept: NDArray[Any]) -> Tensor:
    """Sum the kernels (rows, vectors) times the weights of each machine, in the order of libsvm.

    The terms are large and have both signs, so another order would change the sum.
    """
    members = [np.flatnonzero(row) for row in weights]
    longest = max(1, *map(len, members))
    if weights.size == 0 or len(members) * longest > MAX_TERMS:
        return affine(g, (kernel,), weights, intercept)
    places = np.zeros((len(members), longest), dtype=int)
    factors = np.zeros(places.shape)
    for row, member in enumerate(members):
        places[row, : len(member)], factors[row, : len(member)] = member, weights[row, member]
    terms = g.take(kernel, places, axis=1) * factors
    sums = g.node("CumSum", [terms, g.constant(2, "int64")], "float64", longest)
    total = g.node("Gather", [sums, g.constant(longest - 1, "int64")], "float64", len(members), axis=2)
    return total + intercept


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


MIN_PROBABILITY, MAX_ITERATIONS = 1e-7, 100


def coupled(g: Graph, scores: Tensor, slope: ArrayLike, shift: ArrayLike, pairs: list[tuple[int, int]]) -> Tensor:
    """Return `predict_proba` from the scores of the pairs: shape (rows, pairs) in, (rows, classes) out.

    The probability of the first class of a pair is the sigmoid of `-(slope * score + shift)`.
    """
    count = 1 + max(second for _, second in pairs)
    sigmoid = expit(g, scores * -np.asarray(slope) - shift)
    first = sigmoid.clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    matrix, diagonal = _equations(g, first, 1.0 - first, pairs, count)
    start = diagonal * 0.0 + 1.0 / count
    return g.loop(max(MAX_ITERATIONS, count), [start], lambda state: _iterated(g, matrix, diagonal, state[0], count))[0]


def _equations(
    g: Graph, first: Tensor, second: Tensor, pairs: list[tuple[int, int]], count: int
) -> tuple[Tensor, Tensor]:
    """Return the matrix Q, shape (rows, classes, classes), and its diagonal, (rows, classes), as in the article."""
    both = g.concat([first, second])
    squares = both * both
    sums = np.zeros((2 * len(pairs), count))
    places = np.zeros((count, count), dtype=int)
    for position, (i, j) in enumerate(pairs):
        sums[position, j] = sums[len(pairs) + position, i] = 1.0
        places[i, j] = places[j, i] = count + position
    np.fill_diagonal(places, range(count))
    diagonal = squares @ sums
    entries = g.concat([diagonal, -(first * second)])
    return g.take(entries, places, axis=1), diagonal


def _iterated(g: Graph, matrix: Tensor, diagonal: Tensor, before: Tensor, count: int) -> list[Tensor]:
    """Iterate once over the classes; return whether any row has not converged, and the probabilities.

    Rows that have converged keep their probabilities. `qp` and `pqp` are `Qp` and `pQp` in svm.cpp.
    """
    product = g.node("MatMul", [matrix, before.unsqueeze(2)], "float64", 1)
    qp = g.node("Squeeze", [product, g.constant([2], "int64")], "float64", count)
    pqp = reduced(g, "ReduceSum", before * qp)
    active = reduced(g, "ReduceMax", abs(qp - pqp)) >= 0.005 / count
    after = before
    for position in range(count):
        entry, product = (g.take(block, [position], axis=1) for block in (diagonal, qp))
        step = (pqp - product) / entry
        divisor = step + 1.0
        pqp = (pqp + step * (step * entry + (product + product))) / divisor / divisor
        row = g.node("Gather", [matrix, g.constant(position, "int64")], "float64", count, axis=1)
        qp = (qp + step * row) / divisor
        after = (after + step * np.eye(count)[position]) / divisor
    return [g.any(active), g.where(active, after, before)]
