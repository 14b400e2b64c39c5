"""Derive how the predictions of a version are explained: exactly for trees and linear models, else by sampling."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.packing.counted_trees import TREES, NotExplainable, leaves_of, score_of
from app.packing.exporters.linear import LINEAR
from app.packing.graph import columns_graph
from app.packing.probe import Record, spread
from app.runtime.explanation import ExplainedServable, explained
from app.runtime.servable import Servable
from app.signature import EXPLANATION, Signature
from app.signature.batch import Batch
from app.signature.validator import Validator
from app.storage.manifest import Explanation

FILE = "explanation.npz"
TOLERANCE = 1e-6
"""Base and contributions add up to the output within this, relative to outputs above 1."""
COMPARED_ROWS = {"trees": 100, "linear": 100, "sampled": 3}
MOST_INTERVALS = 2_000_000
BACKGROUND_ROWS, BACKGROUND_CELLS = 32, 100_000
LONGEST_S = 5.0
"""A model that takes longer to explain one row is not explained."""
Arrays = dict[str, NDArray[Any]]


def derive_explanation(
    estimator: Any | None,
    servable: Servable,
    signature: Signature,
    records: Sequence[Record],
    folder: Path,
    *,
    has_arrays: bool = False,
) -> Explanation | None:
    """Write the file of an explainer into the folder; return None if no method explains the model.

    Args:
        estimator: the fitted model; None if only its servable is known.
        servable: the model.
        signature: its signature, without the explanation.
        records: rows that it answers.
        folder: where the version is put together.
        has_arrays: whether an input fills several columns of the estimator.
    """
    if not records or (estimator is not None and not hasattr(estimator, "predict")):
        return None
    methods: list[tuple[str, Callable[[], tuple[str, Arrays]]]] = []
    if estimator is not None and not has_arrays:
        methods += [("trees", lambda: _trees(estimator, signature, records))]
        methods += [("linear", lambda: _linear(estimator, signature, records))]
    methods.append(("sampled", lambda: _sampled(signature, records)))
    for method, derive in methods:
        try:
            output, arrays = derive()
            with (folder / FILE).open("wb") as stream:
                np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
            found = Explanation(FILE, method, output, 0, 0.0)  # type: ignore[arg-type]
            return _compared(found, servable, signature, records, folder)
        except OSError:  # the disk is full: nothing can be packed
            raise
        except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
            (folder / FILE).unlink(missing_ok=True)
    return None


def _compared(
    explanation: Explanation, servable: Servable, signature: Signature, records: Sequence[Record], folder: Path
) -> Explanation:
    """Compare base and contributions with the output.

    Raises:
        NotExplainable: they do not add up to it, or it takes too long.
    """
    validator = Validator(signature, 10**6)
    with (folder / explanation.file).open("rb") as stream:
        explaining = explained(stream, servable, explanation, signature, validator.validate)
    began_s = time.monotonic()
    explaining.run(validator.validate(list(records[:1])), (EXPLANATION,))
    if time.monotonic() - began_s > LONGEST_S:
        raise NotExplainable("it takes too long")
    rows = list(records[: COMPARED_ROWS[explanation.method]])
    difference = _largest_difference(explaining, validator.validate(rows), explanation.output)
    if not difference <= TOLERANCE:
        raise NotExplainable(f"base and contributions differ from {explanation.output} by {difference:.1e}")
    return Explanation(explanation.file, explanation.method, explanation.output, len(rows), difference)


def _largest_difference(explaining: ExplainedServable, batch: Batch, output: str) -> float:
    outputs = explaining.run(batch, (output, EXPLANATION))
    wanted = np.asarray(outputs[output], dtype=np.float64).reshape(batch.rows, -1)
    sums = np.array(
        [
            np.ravel(each["base"]) + np.sum([np.ravel(one) for one in each["contributions"].values()], axis=0)
            for each in outputs[EXPLANATION]
        ]
    ).reshape(wanted.shape)
    return float(np.max(np.abs(sums - wanted) / np.maximum(1.0, np.abs(wanted)), initial=0.0))


# --- trees


def _trees(estimator: Any, signature: Signature, records: Sequence[Record]) -> tuple[str, Arrays]:
    steps, last = split(estimator)
    find = TREES.get(type(last).__name__) if type(last).__module__.startswith("sklearn.") else None
    if find is None:
        raise NotExplainable("it is no model of trees")
    output, start, counted = find(last)
    if output not in signature.outputs:
        raise NotExplainable(f"it has no {output}")
    leaves = [leaf for each in counted for leaf in leaves_of(each)]
    base = start + np.sum([leaf.mean for leaf in leaves], axis=0)
    split_leaves = sorted((leaf for leaf in leaves if leaf.intervals), key=lambda leaf: len(leaf.intervals))
    intervals = [interval for leaf in split_leaves for interval in leaf.intervals.items()]
    if len(intervals) > MOST_INTERVALS:
        raise NotExplainable(f"its leaves have more than {MOST_INTERVALS} intervals")
    column = np.array([name for name, _ in intervals], dtype=np.int64)
    low, high, share, takes_missing = zip(*(each for _, each in intervals), strict=True) if intervals else [()] * 4
    return output, {
        **columns_of(steps, signature, records, np.unique(column)),
        "base": base,
        "lengths": np.array([len(leaf.intervals) for leaf in split_leaves], dtype=np.int64),
        "values": np.array([leaf.values for leaf in split_leaves]).reshape(len(split_leaves), len(base)),
        "column": column,
        "low": np.array(low, dtype=np.float64),
        "high": np.array(high, dtype=np.float64),
        "share": np.array(share, dtype=np.float64),
        "takes_missing": np.array(takes_missing, dtype=np.bool_),
    }


# --- linear models

EXPLAINED_AS_LINEAR = (
    *LINEAR, "LinearDiscriminantAnalysis", "LinearSVC", "LogisticRegression", "LogisticRegressionCV",
    "PassiveAggressiveClassifier", "Perceptron", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier",
)  # fmt: skip


def _linear(estimator: Any, signature: Signature, records: Sequence[Record]) -> tuple[str, Arrays]:
    steps, last = split(estimator)
    if type(last).__name__ not in EXPLAINED_AS_LINEAR or not type(last).__module__.startswith("sklearn."):
        raise NotExplainable("it is no linear model")
    output = score_of(last)
    if output not in signature.outputs:
        raise NotExplainable(f"it has no {output}")
    weights = np.atleast_2d(np.asarray(last.coef_, dtype=np.float64))
    arrays = columns_of(steps, signature, records, np.flatnonzero(np.any(weights != 0, axis=0)))
    means = arrays.pop("matrix").mean(axis=0)
    base = weights @ means + np.broadcast_to(np.asarray(last.intercept_, dtype=np.float64), len(weights))
    return output, {**arrays, "base": base, "weights": weights, "means": means}


# --- any model


def _sampled(signature: Signature, records: Sequence[Record]) -> tuple[str, Arrays]:
    is_classifier = signature.classes is not None
    wanted = ("probabilities", "decision_scores") if is_classifier else ("decision_scores", "prediction")
    output = next((name for name in wanted if name in signature.outputs), None)
    if output is None or signature.multioutput or len(signature.inputs) == 0:
        raise NotExplainable("it has no numbers to explain")
    cells = sum(spec.width for spec in signature.inputs)
    count = max(1, min(BACKGROUND_ROWS, BACKGROUND_CELLS // max(1, cells)))
    background = msgspec.json.encode(spread(records, count))
    return output, {"background": np.frombuffer(background, dtype=np.uint8)}


# --- the columns of the last estimator


def split(estimator: Any) -> tuple[list[Any], Any]:
    """Return the transformers before the last estimator, and that estimator, without the searches around it."""
    if hasattr(estimator, "best_estimator_"):
        return split(estimator.best_estimator_)
    if type(estimator).__name__ == "Pipeline":
        *before, (_, last) = estimator.steps
        steps, inner = split(last)
        return [step for _, step in before if step is not None and step != "passthrough"] + steps, inner
    return [], estimator


def columns_of(steps: Sequence[Any], signature: Signature, records: Sequence[Record], used: NDArray[np.intp]) -> Arrays:
    """Return the graph of the columns, the `matrix` of their values for the records, and their `owners`, the inputs.

    Raises:
        NotExportable: the transformers have no graph.
        NotExplainable: a used column does not depend on exactly one input.
    """
    graph, sources, compute = columns_graph(steps, signature)
    validator = Validator(signature, 10**6)
    matrix = compute(validator.validate(list(records)))
    owned = np.zeros((len(signature.inputs), matrix.shape[1]), dtype=bool)
    for position, spec in enumerate(signature.inputs):
        owned[position] = [spec.name in names for names in sources]
    several = owned.sum(axis=0) > 1
    if several.any():
        owned[:, several] = _changed(signature, records, validator, compute)[:, several]
    if np.any(owned.sum(axis=0)[used] != 1):
        raise NotExplainable("a column depends on several inputs")
    return {"graph": np.frombuffer(graph, dtype=np.uint8), "owners": np.argmax(owned, axis=0), "matrix": matrix}


TRIED_RECORDS, TRIED_VALUES = 3, 200


def _changed(
    signature: Signature,
    records: Sequence[Record],
    validator: Validator,
    compute: Callable[[Batch], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """Return which columns change with each input, tried one input after the other: shape (inputs, columns)."""
    bases = list(records[:TRIED_RECORDS])
    before = compute(validator.validate(bases))
    changed = np.zeros((len(signature.inputs), before.shape[1]), dtype=bool)
    for position, spec in enumerate(signature.inputs):
        values = [record.get(spec.name) for record in records[:TRIED_VALUES]]
        values += [*(spec.categories or ())][:TRIED_VALUES]
        values += [value for value in (spec.minimum, spec.maximum) if value is not None and spec.kind == "number"]
        values += [None] if spec.may_be_missing else []
        for place, base in enumerate(bases):
            varied = compute(validator.validate([{**base, spec.name: value} for value in values]))
            same = (varied == before[place]) | (np.isnan(varied) & np.isnan(before[place]))
            changed[position] |= ~same.all(axis=0)
    return changed
