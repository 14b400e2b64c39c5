"""Explain predictions: how much each input adds to an output, compared with the average (Shapley values).

Trees and linear models are explained exactly, other models from samples. Packing writes the arrays that each explainer
needs into one file (`app.packing.explain`).

Sources: Lundberg et al., "From local explanations to global understanding with explainable AI for trees", 2020
(path-dependent TreeSHAP); Strumbelj and Kononenko, "Explaining prediction models and individual predictions with
feature contributions", 2014 (sampling).
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.runtime.servable import Servable
from app.signature import EXPLANATION, Signature
from app.signature.batch import Batch, Column, Outputs, objects_of
from app.storage.manifest import Explanation, Manifest
from app.telemetry import check_deadline

COLUMNS = "columns"
"""The output of the graph that computes the matrix of a model's last estimator."""
LONGEST_TABLED = 10
MOST_TABLED = 4_000_000
"""Longest path of a leaf whose weights are looked up, and most entries of the table; others are computed by row."""
LEAST_SHARE = 1e-300
MOST_SAMPLED_ROWS, MOST_ORDERS, LEAST_ORDERS = 4096, 64, 4
MOST_EXPLAINED, MOST_CONTRIBUTIONS = 1000, 200_000
"""Limits of one request: the explained instances, and the numbers in their explanations."""
MOST_RUN_ROWS, MOST_RUN_VALUES = 100_000, 10_000_000
"""Limits of the rows for which a model runs to explain one request from samples, and of the values in them."""

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
Validate = Callable[[Sequence[Any]], Batch]


class ExplainedServable:
    """A servable with one more output, which explains another output. Thread-safe.

    The first request for an explanation makes the explainer, because most workers never need it.
    """

    def __init__(
        self, servable: Servable, make_explainer: Callable[[], Explainer], output: str, signature: Signature
    ) -> None:
        self._servable = servable
        self._make_explainer = make_explainer
        self._explainer: Explainer | None = None
        self._lock = threading.Lock()
        self._output = output
        self._names = signature.names
        self._is_scalar = output == "prediction" or (output == "decision_scores" and len(signature.classes or ()) <= 2)

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the outputs. An explanation is an object with `output`, `base`, `contributions` and `exact`."""
        if EXPLANATION not in outputs:
            return self._servable.run(batch, outputs)
        others = [name for name in outputs if name != EXPLANATION]
        results = dict(self._servable.run(batch, others)) if others else {}
        with self._lock:
            self._explainer = explainer = self._explainer or self._make_explainer()
        bases, contributions = explainer.explain(batch)
        explanations = [
            {
                "output": self._output,
                "base": self._value(base),
                "contributions": dict(zip(self._names, map(self._value, of_inputs), strict=True)),
                "exact": explainer.is_exact,
            }
            for base, of_inputs in zip(bases, contributions, strict=True)
        ]
        results[EXPLANATION] = objects_of(explanations)
        return results

    def _value(self, values: Floats) -> float | list[float]:
        if self._is_scalar and len(values) == 1:
            return float(values[0])
        numbers: list[float] = values.tolist()
        return numbers


class AdditiveExplainer:
    """The explainer of models whose output is a sum of terms, each of which depends on one column.

    The columns are those of the last estimator. Each depends on one input, its owner. The contribution of an input is
    the sum of the terms of its columns.
    """

    is_exact = True

    def __init__(self, arrays: Arrays, signature: Signature, columns: NDArray[np.intp]) -> None:
        from app.runtime.graph import GraphServable, session_of  # imported only if ONNX Runtime is used anyway

        session = session_of(arrays["graph"].tobytes())
        self._graph = GraphServable(session, replace(signature, outputs=(COLUMNS,)))
        self._base: Floats = arrays["base"]
        self._inputs = len(signature.inputs)
        owners = arrays["owners"][columns]
        self._order = np.argsort(owners, kind="stable")
        owners = owners[self._order]
        self._starts = np.flatnonzero(np.diff(owners, prepend=-1))
        self._owners = owners[self._starts]

    def explain(self, batch: Batch) -> tuple[Floats, Floats]:
        """Return the bases, shape (rows, values), and the contributions, shape (rows, inputs, values).

        `values` counts the values of the explained output in a row. A base and its contributions add up to them.
        """
        matrix = self._graph.run(batch, (COLUMNS,))[COLUMNS].astype(np.float64, copy=False)
        contributions = np.zeros((batch.rows, self._inputs, len(self._base)))
        if len(self._starts):
            for row, explained in zip(matrix, contributions, strict=True):
                check_deadline()
                terms = self._terms(row)[:, self._order]
                explained[self._owners] = np.add.reduceat(terms, self._starts, axis=1).T
        return np.tile(self._base, (batch.rows, 1)), contributions

    def _terms(self, row: Floats) -> Floats:
        """Return the terms of one row of the matrix, shape (values, terms)."""
        raise NotImplementedError


class LinearExplainer(AdditiveExplainer):
    """The explainer of linear models: a term is the weight of a column times its distance from the mean."""

    def __init__(self, arrays: Arrays, signature: Signature) -> None:
        super().__init__(arrays, signature, np.arange(arrays["weights"].shape[1]))
        self._weights: Floats = arrays["weights"]
        self._means: Floats = arrays["means"]

    def _terms(self, row: Floats) -> Floats:
        terms: Floats = self._weights * (row - self._means)
        return terms


class TreeExplainer(AdditiveExplainer):
    """The explainer of sums of trees, by path-dependent TreeSHAP.

    A leaf adds its value for the rows that pass every interval on its path: `low < x <= high` for each column there.
    If a column is unknown, its factor is the share of training rows that passed. So a leaf is a product of one factor
    for each column. Its Shapley values are integrals of polynomials, which Gauss-Legendre quadrature computes exactly.
    The intervals are stored leaf by leaf, the shortest paths first.
    """

    def __init__(self, arrays: Arrays, signature: Signature) -> None:
        self._column = arrays["column"]
        super().__init__(arrays, signature, self._column)
        self._low, self._high = arrays["low"], arrays["high"]
        self._takes_missing, self._share = arrays["takes_missing"], arrays["share"]
        lengths = arrays["lengths"]
        self._values = np.repeat(arrays["values"], lengths, axis=0).T
        ends = np.cumsum(lengths)
        sizes = lengths << np.minimum(lengths, LONGEST_TABLED)
        tabled = int(np.sum((lengths <= LONGEST_TABLED) & (np.cumsum(sizes) <= MOST_TABLED)))
        self._tabled = int(ends[tabled - 1]) if tabled else 0
        """The number of intervals whose weights are looked up."""
        self._make_tables(lengths[:tabled])
        self._long: list[tuple[slice, int]] = []
        for length in np.unique(lengths[tabled:]).tolist():
            places = np.flatnonzero(lengths[tabled:] == length) + tabled
            self._long.append((slice(int(ends[places[0]]) - length, int(ends[places[-1]])), length))

    def _make_tables(self, lengths: NDArray[np.int64]) -> None:
        """Compute the weights of each interval of a leaf for each pattern of intervals that a row passes."""
        ends = np.cumsum(lengths)
        tables, first = [np.empty(0)], 0
        for length in np.unique(lengths).tolist():
            count = int(np.sum(lengths == length))
            share = self._share[first : first + count * length].reshape(count, 1, length)
            patterns = (np.arange(1 << length)[:, None] >> np.arange(length)) & 1
            tables.append(interval_weights(np.broadcast_to(patterns, (count, *patterns.shape)), share).ravel())
            first += count * length
        self._table = np.concatenate(tables)
        self._leaf_starts = ends - lengths
        within = np.arange(self._tabled) - np.repeat(self._leaf_starts, lengths)
        self._bits = 1 << within
        sizes = lengths << lengths
        self._within = np.repeat(np.cumsum(sizes) - sizes, lengths) + within
        self._lengths = np.repeat(lengths, lengths)
        self._leaves = np.repeat(np.arange(len(lengths)), lengths)

    def _terms(self, row: Floats) -> Floats:
        values = row[self._column]
        passes = (values > self._low) & (values <= self._high)
        missing = np.isnan(values)
        if missing.any():
            passes |= missing & self._takes_missing
        weights = np.empty(len(passes))
        if self._tabled:
            patterns = np.add.reduceat(passes[: self._tabled] * self._bits, self._leaf_starts)
            weights[: self._tabled] = self._table[self._within + patterns[self._leaves] * self._lengths]
        for part, length in self._long:
            weights[part] = interval_weights(
                passes[part].reshape(-1, length), self._share[part].reshape(-1, length)
            ).ravel()
        terms: Floats = weights * self._values
        return terms


def interval_weights(passes: NDArray[Any], share: Floats) -> Floats:
    """Return the Shapley values of a leaf of value 1 for each interval on its path.

    Args:
        passes: whether a row passes each interval (0 or 1), shape (..., intervals).
        share: the share of training rows that passed it, shape (..., intervals).
    """
    nodes, node_weights = np.polynomial.legendre.leggauss((share.shape[-1] + 1) // 2)
    others = np.zeros(np.broadcast_shapes(passes.shape, share.shape))
    for node, weight in zip(((nodes + 1) / 2).tolist(), (node_weights / 2).tolist(), strict=True):
        factors = np.maximum(node * passes + (1 - node) * share, LEAST_SHARE)
        others += weight * np.prod(factors, axis=-1, keepdims=True) / factors
    weights: Floats = others * (passes - share)
    return weights


class SamplingExplainer:
    """The explainer of any model, by sampled Shapley values, which are approximate.

    It starts with a training row and replaces its inputs by those of the explained row, one after the other. The
    contribution of an input is the change of the output. Contributions are averaged over orders and training rows.
    Every order is also taken backwards, which makes the error smaller. The orders, and so the answers, never change.
    """

    is_exact = False

    def __init__(self, servable: Servable, background: Batch, output: str) -> None:
        self._servable = servable
        self._background = background
        self._output = output
        inputs = len(background.columns)
        orders = _orders(inputs) // 2
        random = np.random.default_rng(0)
        forward = [random.permutation(inputs) for _ in range(orders)]
        self._orders = np.array([order for one_way in forward for order in (one_way, one_way[::-1])])
        rows = np.arange(orders) % background.rows
        self._rows = np.repeat(rows, 2)
        steps = np.argsort(self._orders, axis=1)  # the step in which each input is replaced
        self._is_replaced = steps[:, None, :] < np.arange(inputs + 1)[None, :, None]
        """Shape (orders, inputs + 1, inputs): which inputs are those of the explained row."""

    def explain(self, batch: Batch) -> tuple[Floats, Floats]:
        """Like `AdditiveExplainer.explain`."""
        explained = [self._explain(batch, row) for row in range(batch.rows)]
        values = explained[0][0].shape[0] if explained else 1
        inputs = len(self._background.columns)
        bases = np.array([base for base, _ in explained]).reshape(batch.rows, values)
        contributions = np.array([of_inputs for _, of_inputs in explained]).reshape(batch.rows, inputs, values)
        return bases, contributions

    def _explain(self, batch: Batch, row: int) -> tuple[Floats, Floats]:
        orders, steps, inputs = self._is_replaced.shape
        background_rows, explained_row = np.repeat(self._rows, steps), self._background.rows
        columns: dict[str, Column] = {}
        for position, (name, background) in enumerate(self._background.columns.items()):
            # Joined, because a column without missing values may have another dtype than one with them.
            joined = np.concatenate([background, batch.columns[name][row : row + 1]])
            columns[name] = joined[np.where(self._is_replaced[:, :, position].ravel(), explained_row, background_rows)]
        check_deadline()
        mixed = Batch(columns, len(background_rows))
        output = self._servable.run(mixed, (self._output,))[self._output].astype(np.float64)
        values = output.reshape(orders, steps, -1)
        contributions = np.zeros((inputs, values.shape[-1]))
        np.add.at(contributions, self._orders.ravel(), np.diff(values, axis=1).reshape(orders * inputs, -1))
        return values[:, 0].mean(axis=0), contributions / orders


Explainer = AdditiveExplainer | SamplingExplainer
"""Explains the rows of a batch. Thread-safe."""


def _orders(inputs: int) -> int:
    """Return the number of orders in which inputs are replaced, for each explained row."""
    return min(MOST_ORDERS, max(LEAST_ORDERS, MOST_SAMPLED_ROWS // (inputs + 1)))


def most_explained(explanation: Explanation, signature: Signature) -> int:
    """Return the largest number of instances of a request that are explained."""
    inputs = len(signature.inputs)
    most = min(MOST_EXPLAINED, MOST_CONTRIBUTIONS // max(1, inputs * len(signature.classes or (None,))))
    if explanation.method == "sampled":
        rows = _orders(inputs) * (inputs + 1)
        width = sum(spec.width for spec in signature.inputs)
        most = min(most, MOST_RUN_ROWS // rows, MOST_RUN_VALUES // (rows * max(1, width)))
    return max(1, most)


def offering(manifest: Manifest) -> Manifest:
    """Return the manifest with the output "explanation" in its signature."""
    signature = manifest.signature
    return replace(manifest, signature=replace(signature, outputs=(*signature.outputs, EXPLANATION)))


def explained(
    stream: BinaryIO, servable: Servable, explanation: Explanation, signature: Signature, validate: Validate
) -> ExplainedServable:
    """Return a servable that also explains, with the arrays in the file that packing wrote.

    `validate` turns instances into a batch.
    """
    content = stream.read()

    def make() -> Explainer:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if explanation.method == "trees":
            return TreeExplainer(arrays, signature)
        if explanation.method == "linear":
            return LinearExplainer(arrays, signature)
        background = validate(msgspec.json.decode(arrays["background"].tobytes()))
        return SamplingExplainer(servable, background, explanation.output)

    return ExplainedServable(servable, make, explanation.output, signature)
