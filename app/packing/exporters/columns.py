"""Pipelines, column transformers, unions and selectors: the columns that each step takes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from app.packing.exporters.functions import FUNCTIONS
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor, transformer

SELECTORS = (
    "GenericUnivariateSelect", "RFE", "RFECV", "SelectFdr", "SelectFpr", "SelectFromModel", "SelectFwe",
    "SelectKBest", "SelectPercentile", "SequentialFeatureSelector", "VarianceThreshold",
)  # fmt: skip


@transformer("Pipeline")
def pipeline(g: Graph, est: Any, features: Features) -> Features:
    """`Pipeline.transform`: each step's columns go to the next."""
    return functools.reduce(lambda columns, step: g.transform(step, columns), _steps(est), features)


@predictor("Pipeline")
def pipeline_predict(g: Graph, est: Any, features: Features) -> Outputs:
    """All outputs of a `Pipeline`: those of the last step, on the columns of the steps before it."""
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
        if positions and not _is(inner, "drop"):
            columns = g.select(features, positions)
            blocks += _weighted(g, est, name, columns if _is(inner, "passthrough") else g.transform(inner, columns))
    return tuple(blocks)


@transformer("FeatureUnion")
def feature_union(g: Graph, est: Any, features: Features) -> Features:
    """`FeatureUnion.transform`: the results of the transformers on all columns, times their weights, side by side."""
    blocks: list[Tensor] = []
    for name, inner in est.transformer_list:
        if not _is(inner, "drop"):
            columns = features if _is(inner, "passthrough") else g.transform(inner, features)
            blocks += _weighted(g, est, name, columns)
    return tuple(blocks)


def _is(transformer: Any, word: str) -> bool:
    return isinstance(transformer, str) and transformer == word


def _weighted(g: Graph, est: Any, name: str, features: Features) -> Features:
    weight = (est.transformer_weights or {}).get(name)
    if weight is None or not features:
        return features
    x = g.matrix(features)
    return (x * weight,)


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
    """`RFE` and `RFECV`: the outputs of the estimator on the selected columns; these columns are `transformed`."""
    columns = selector(g, est, features)
    return g.predict(est.estimator_, columns) | {"transformed": g.matrix(columns)}
