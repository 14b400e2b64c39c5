"""The scikit-learn classes of LightGBM: trees in float64, with missing values and categorical splits."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import tree_ensemble
from app.packing.exporters.formulas import expit, mean, most_probable, softmax
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.tree_ensemble import (
    GOES_LEFT,
    GOES_RIGHT,
    LEAF,
    THRESHOLD,
    CategoricalSplits,
    Tree,
    in_bitset,
)

IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
SIGMOID = ("binary", "multiclassova", "cross_entropy")
EXPONENTIAL = ("poisson", "gamma", "tweedie")

NONE_MISSING, ZERO_MISSING = 0, 1
ZERO = float(np.float32(1e-35))
"""`kZeroThreshold`: numbers from -ZERO to ZERO are read as 0."""

MAX_SIDES = 20_000_000

Fields = dict[str, str]


@predictor("lightgbm.LGBMClassifier")
def lightgbm_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`LGBMClassifier`: the most probable class; the decision scores are the sums of the trees."""
    raw, probabilities = _raw_and_converted(g, est, features)
    if est.n_classes_ > 2:
        return most_probable(g, est.classes_, probabilities) | {"decision_scores": raw}
    both = g.concat([1.0 - probabilities, probabilities])
    return most_probable(g, est.classes_, both) | {"decision_scores": g.pick(raw, 0)}


@predictor("lightgbm.LGBMRegressor")
def lightgbm_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`LGBMRegressor`: the sum of the trees, converted by the objective."""
    return {"prediction": g.pick(_raw_and_converted(g, est, features)[1], 0)}


def _converted(g: Graph, header: Fields, raw: Tensor) -> Tensor:
    """`ConvertOutput` of the objective: from sums of trees to predictions or probabilities."""
    name, *options = header.get("objective", "none").split()
    if name in IDENTITY and "sqrt" in options:
        return abs(raw) * raw
    if name in IDENTITY:
        return raw
    if name in EXPONENTIAL:
        return raw.exp()
    if name in SIGMOID:
        slope = next((float(o.partition(":")[2]) for o in options if o.startswith("sigmoid:")), 1.0)
        return expit(g, raw if slope == 1 else raw * slope)
    if name == "multiclass":
        return softmax(g, raw)
    raise NotExportable("its objective is a function" if name == "none" else f"its objective is {name}")


def _raw_and_converted(g: Graph, est: Any, features: Features) -> tuple[Tensor, Tensor]:
    """`GBDT::PredictRaw`, the sum of the trees, shape (rows, scores), and the same after `_converted`."""
    # The text has a header and then the trees, each with lines `name=value`.
    blocks = est.booster_.model_to_string().partition("\nend of trees")[0].split("\nTree=")
    header, *trees = (dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks)
    if any(tree.get("is_linear", "0") != "0" for tree in trees):
        raise NotExportable("its leaves are linear models")
    scores = int(header["num_tree_per_iteration"])
    matrix = g.matrix(_encoded(g, est, features))
    width = matrix.width or 0
    if any((_types(tree) == ZERO_MISSING).any() for tree in trees):
        # Append the same columns with NaN in place of 0.
        matrix = g.concat([matrix, g.where(abs(matrix) <= ZERO, np.nan, matrix)])
    counts: dict[int, int] = {}
    for _, column, words in itertools.chain(*map(_category_splits, trees)):
        counts[column] = max(counts.get(column, 0), 32 * len(words))
    splits = CategoricalSplits(matrix.width or 0, counts)
    keys = [_add_splits(tree, splits) for tree in trees]
    if splits.size > MAX_SIDES:
        raise NotExportable("the table of its categorical splits would be too large")
    stages = [_tree(tree, splits, of_tree, width) for tree, of_tree in zip(trees, keys, strict=True)]
    targets = [stage % scores for stage in range(len(stages))]
    raw = tree_ensemble.summed(g, splits.append_columns(g, matrix), stages, targets)
    forest = "average_output" in header
    return raw, _converted(g, header, mean(g, raw, len(trees) // scores) if forest else raw)


def _numbers(tree: Fields, name: str, type_: Any) -> NDArray[Any]:
    return np.array(tree.get(name, "").split(), dtype=type_)


def _encoded(g: Graph, est: Any, features: Features) -> Features:
    """`_data_from_pandas`: replace categorical columns of pandas by their codes, unknown categories by NaN."""
    lists = est.booster_.pandas_categorical or []
    positions = est.booster_.params.get("categorical_column", [])
    if not lists:
        return features
    if len(lists) != len(positions):
        raise NotExportable("it does not say which of its columns are categorical in pandas")
    from sklearn.preprocessing import OrdinalEncoder

    columns = g.split(features)
    for position, categories in zip(positions, lists, strict=True):
        values = np.empty(len(categories), dtype=object)
        values[:] = categories
        encoder = OrdinalEncoder(
            categories=[values], handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan
        ).fit(values.reshape(-1, 1))
        (columns[position],) = g.transform(encoder, (columns[position],))
    return tuple(columns)


def _types(tree: Fields) -> NDArray[np.int64]:
    """Return the missing type of each node; `NONE_MISSING` for categorical splits."""
    decision = _numbers(tree, "decision_type", np.int64)
    return np.where(decision & 1, NONE_MISSING, decision >> 2 & 3)


def _category_splits(tree: Fields) -> list[tuple[int, int, NDArray[np.uint32]]]:
    """Return the node, the column and the bitset of each categorical split."""
    words = _numbers(tree, "cat_threshold", np.uint32)
    bounds = _numbers(tree, "cat_boundaries", np.int64)
    columns = _numbers(tree, "split_feature", np.int64)
    numbers = _numbers(tree, "threshold", np.float64)
    nodes = np.flatnonzero(_numbers(tree, "decision_type", np.int64) & 1)
    sets = {int(node): int(numbers[node]) for node in nodes}
    return [(node, int(columns[node]), words[bounds[k] : bounds[k + 1]]) for node, k in sets.items()]


def _add_splits(tree: Fields, splits: CategoricalSplits) -> dict[int, tuple[int, int]]:
    """Add the categorical splits of a tree, return their keys by node; other categories and NaN go right."""
    return {
        node: splits.add(
            column, np.append(np.where(in_bitset(words, splits.counts[column]), GOES_LEFT, GOES_RIGHT), GOES_RIGHT)
        )
        for node, column, words in _category_splits(tree)
    }


def _tree(tree: Fields, splits: CategoricalSplits, keys: dict[int, tuple[int, int]], width: int) -> Tree:
    """Return a tree as arrays. LightGBM numbers its leaves separately; here they follow the inner nodes.

    `Tree::NumericalDecision` reads numbers near 0 as 0, and also NaN unless NaN is the missing value.
    """
    leaves = _numbers(tree, "leaf_value", np.float64)
    if len(leaves) == 1:
        return tree_ensemble.constant_tree(float(leaves[0]))
    threshold = _numbers(tree, "threshold", np.float64)
    type_ = _types(tree)
    default_left = _numbers(tree, "decision_type", np.int64) & 2 != 0
    missing_left = np.where(type_ == NONE_MISSING, threshold >= 0, default_left)
    column = _numbers(tree, "split_feature", np.int64) + width * (type_ == ZERO_MISSING)
    threshold = np.where(threshold >= 0, np.maximum(threshold, ZERO), np.minimum(threshold, np.nextafter(-ZERO, -1)))
    for node, key in keys.items():
        column[node], threshold[node] = splits.column_of(key), THRESHOLD
    count = len(threshold)
    children = [_numbers(tree, name, np.int64) for name in ("left_child", "right_child")]
    left, right = (np.where(child < 0, count + ~child, child) for child in children)
    ends = np.full(len(leaves), LEAF)
    none = np.zeros(len(leaves))
    return Tree(
        left=np.concatenate([left, ends]),
        right=np.concatenate([right, ends]),
        column=np.concatenate([column, ends]),
        threshold=np.concatenate([threshold, none]),
        missing_left=np.concatenate([missing_left, none.astype(bool)]),
        values=np.concatenate([np.zeros(count), leaves]),
    )
