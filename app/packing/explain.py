"""Derive the explanation of predictions: exact for trees and linear models, else by sampling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import boosting, trees
from app.packing.exporters.linear import LINEAR
from app.packing.exporters.tree_ensemble import LEAF, Tree
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
"""The largest difference between an output and the sum of base and contributions, relative to outputs above 1."""
COMPARED_ROWS = {"trees": 100, "linear": 100, "sampled": 3}
MOST_INTERVALS = 2_000_000
BACKGROUND_ROWS, BACKGROUND_CELLS = 32, 100_000
LONGEST_S = 5.0
"""The longest time in which one row must be explained."""
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
        folder: the staging folder of the version.
        has_arrays: whether an input fills several columns of the estimator.
    """
    if not records or (estimator is not None and not hasattr(estimator, "predict")):
        return None
    methods: dict[str, Callable[[Signature, Sequence[Record]], tuple[str, Arrays]]] = {"sampled": _sampled}
    if estimator is not None and not has_arrays:
        methods = {"trees": partial(_trees, estimator), "linear": partial(_linear, estimator), **methods}
    for method, derive in methods.items():
        try:
            output, arrays = derive(signature, records)
            with (folder / FILE).open("wb") as stream:
                np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
            explanation = Explanation(FILE, method, output, 0, 0.0)  # type: ignore[arg-type]
            return _verified(explanation, servable, signature, records, folder)
        except OSError:  # the disk is full: nothing can be packed
            raise
        except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
            (folder / FILE).unlink(missing_ok=True)
    return None


def _verified(
    explanation: Explanation, servable: Servable, signature: Signature, records: Sequence[Record], folder: Path
) -> Explanation:
    """Compare base and contributions with the output.

    Raises:
        NotExplainable: they do not add up to it, or explaining takes too long.
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
    expected = np.asarray(outputs[output], dtype=np.float64).reshape(batch.rows, -1)
    sums = np.array(
        [
            np.ravel(explained_row["base"])
            + np.sum([np.ravel(part) for part in explained_row["contributions"].values()], axis=0)
            for explained_row in outputs[EXPLANATION]
        ]
    ).reshape(expected.shape)
    return float(np.max(np.abs(sums - expected) / np.maximum(1.0, np.abs(expected)), initial=0.0))


def _trees(estimator: Any, signature: Signature, records: Sequence[Record]) -> tuple[str, Arrays]:
    """Return the output that trees explain, and the arrays of their leaves."""
    steps, last = split(estimator)
    find = TREES.get(type(last).__name__) if type(last).__module__.startswith("sklearn.") else None
    if find is None:
        raise NotExplainable("it is no model of trees")
    output, start, weighted_trees = find(last)
    if output not in signature.outputs:
        raise NotExplainable(f"it has no {output}")
    leaves = [leaf for tree in weighted_trees for leaf in leaves_of(tree)]
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


EXPLAINED_AS_LINEAR = (
    *LINEAR, "LinearDiscriminantAnalysis", "LinearSVC", "LogisticRegression", "LogisticRegressionCV",
    "PassiveAggressiveClassifier", "Perceptron", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier",
)  # fmt: skip


def _linear(estimator: Any, signature: Signature, records: Sequence[Record]) -> tuple[str, Arrays]:
    """Return the output that weights explain, the weights, and the means of the columns."""
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


def _sampled(signature: Signature, records: Sequence[Record]) -> tuple[str, Arrays]:
    """Return the output that sampling explains, and records to sample from."""
    is_classifier = signature.classes is not None
    candidates = ("probabilities", "decision_scores") if is_classifier else ("decision_scores", "prediction")
    output = next((name for name in candidates if name in signature.outputs), None)
    if output is None or signature.multioutput or len(signature.inputs) == 0:
        raise NotExplainable("it has no numbers to explain")
    cells = sum(spec.width for spec in signature.inputs)
    count = max(1, min(BACKGROUND_ROWS, BACKGROUND_CELLS // max(1, cells)))
    return output, {"background": np.frombuffer(msgspec.json.encode(spread(records, count)), dtype=np.uint8)}


def split(estimator: Any) -> tuple[list[Any], Any]:
    """Return the transformers before the last estimator, and that estimator; unwrap searches."""
    if hasattr(estimator, "best_estimator_"):
        return split(estimator.best_estimator_)
    if type(estimator).__name__ == "Pipeline":
        *before, (_, last) = estimator.steps
        steps, inner = split(last)
        return [step for _, step in before if step is not None and step != "passthrough"] + steps, inner
    return [], estimator


def columns_of(steps: Sequence[Any], signature: Signature, records: Sequence[Record], used: NDArray[np.intp]) -> Arrays:
    """Return the graph of the columns, the `matrix` of their values for the records, and the input that owns each.

    Raises:
        NotExportable: the transformers have no graph.
        NotExplainable: a used column does not depend on exactly one input.
    """
    graph, sources, compute = columns_graph(steps, signature)
    validator = Validator(signature, 10**6)
    matrix = compute(validator.validate(list(records)))
    owned = np.array([[spec.name in names for names in sources] for spec in signature.inputs], dtype=bool)
    several = owned.sum(axis=0) > 1
    if several.any():
        owned[:, several] = _changed_columns(signature, records, validator, compute)[:, several]
    if np.any(owned.sum(axis=0)[used] != 1):
        raise NotExplainable("a column depends on several inputs")
    return {"graph": np.frombuffer(graph, dtype=np.uint8), "owners": np.argmax(owned, axis=0), "matrix": matrix}


TRIED_RECORDS, TRIED_VALUES = 3, 200


def _changed_columns(
    signature: Signature,
    records: Sequence[Record],
    validator: Validator,
    compute: Callable[[Batch], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """Vary one input at a time; return the columns that change with it, shape (inputs, columns)."""
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


class NotExplainable(Exception):
    """A method does not explain a model; the text is the reason, as the end of a sentence."""


WeightedTree = tuple[Tree, NDArray[np.float64]]
"""A fitted tree whose `values` have shape (nodes, values), and the weight of the training rows at each node."""

TreeSum = tuple[str, NDArray[np.float64], list[WeightedTree]]
"""An output of a model that is the sum of a constant and of trees: its name, the constant, and the trees."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf: its values, its mean over the training rows, and its path.

    `intervals` has for each column on the path `low` and `high` (a row passes if `low < x <= high`), the share of the
    training rows that passed, and whether a missing value passes.
    """

    values: NDArray[np.float64]
    mean: NDArray[np.float64]
    intervals: dict[int, tuple[float, float, float, bool]]


def leaves_of(weighted_tree: WeightedTree) -> Iterator[Leaf]:
    """Yield the leaves of a tree."""
    tree, weight = weighted_tree
    waiting: list[tuple[int, dict[int, tuple[float, float, float, bool]]]] = [(0, {})]
    while waiting:
        node, path = waiting.pop()
        if tree.left[node] == LEAF:
            yield Leaf(tree.values[node], tree.values[node] * (weight[node] / weight[0]), path)
            continue
        column, threshold = int(tree.column[node]), float(tree.threshold[node])
        low, high, share, takes_missing = path.get(column, (-np.inf, np.inf, 1.0, True))
        missing_left = bool(tree.missing_left[node])
        for child, within, takes in (
            (int(tree.left[node]), (low, min(high, threshold)), missing_left),
            (int(tree.right[node]), (max(low, threshold), high), not missing_left),
        ):
            passed = share * float(weight[child] / weight[node]) if weight[node] else 0.0
            waiting.append((child, {**path, column: (*within, passed, takes_missing and takes)}))


def _forest(est: Any) -> TreeSum:
    members = trees.members_of(est)
    is_classifier = hasattr(est, "classes_")
    if est.n_outputs_ != 1 and is_classifier:
        raise NotExplainable("it has several targets")
    weighted_trees = []
    for member in members:
        values = trees.probabilities_by_node(member) if is_classifier else member.tree_.value[:, :, 0]
        weighted_trees.append((trees.fitted_tree(member, values / len(members)), member.tree_.weighted_n_node_samples))
    return (
        "probabilities" if is_classifier else "prediction",
        np.zeros(weighted_trees[0][0].values.shape[1]),
        weighted_trees,
    )


def _gradient_boosting(est: Any) -> TreeSum:
    start = boosting.constant_start(est)
    if start is None:
        raise NotExplainable("it starts from another model")
    scores = len(start)
    weighted_trees = []
    for stage, member in enumerate(est.estimators_.ravel()):
        values = np.zeros((member.tree_.node_count, scores))
        values[:, stage % scores] = est.learning_rate * member.tree_.value[:, 0, 0]
        weighted_trees.append((trees.fitted_tree(member, values), member.tree_.weighted_n_node_samples))
    return score_of(est), start, weighted_trees


def _histograms(est: Any) -> TreeSum:
    if np.any(est.is_categorical_) or type(est._loss.link).__name__ == "LogLink":
        raise NotExplainable("it has categories or a logarithmic link")
    start = np.asarray(est._baseline_prediction, dtype=np.float64).ravel()
    scores = est.n_trees_per_iteration_
    weighted_trees = []
    for stage, predictor in enumerate(each for stages in est._predictors for each in stages):
        tree = boosting.histogram_tree(predictor)
        values = np.zeros((len(tree.left), scores))
        values[:, stage % scores] = tree.values
        weighted_trees.append((replace(tree, values=values), predictor.nodes["count"].astype(np.float64)))
    return score_of(est), start, weighted_trees


def score_of(est: Any) -> str:
    """Return the output that a sum of terms gives: the scores of a classifier, the prediction of a regressor."""
    return "decision_scores" if hasattr(est, "classes_") else "prediction"


FORESTS = ("DecisionTree", "ExtraTree", "ExtraTrees", "RandomForest")
TREES: dict[str, Callable[[Any], TreeSum]] = {
    **{name + kind: _forest for name in FORESTS for kind in ("Classifier", "Regressor")},
    **{f"GradientBoosting{kind}": _gradient_boosting for kind in ("Classifier", "Regressor")},
    **{f"HistGradientBoosting{kind}": _histograms for kind in ("Classifier", "Regressor")},
}
