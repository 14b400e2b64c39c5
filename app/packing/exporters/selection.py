"""Feature selectors and recursive feature elimination."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, Outputs, Predict, Transform


def selector(g: Graph, est: Any, features: Features) -> Features:
    """`SelectorMixin.transform`: the columns of `get_support()`, in their order."""
    return g.select(features, np.flatnonzero(est.get_support()).tolist())


def eliminator(g: Graph, est: Any, features: Features) -> Outputs:
    """`RFE` and `RFECV`: the outputs of the estimator on the selected columns; these columns are `transformed`."""
    columns = selector(g, est, features)
    return g.predict(est.estimator_, columns) | {"transformed": g.matrix(columns)}


SELECTORS = (
    "GenericUnivariateSelect", "RFE", "RFECV", "SelectFdr", "SelectFpr", "SelectFromModel", "SelectFwe",
    "SelectKBest", "SelectPercentile", "SequentialFeatureSelector", "VarianceThreshold",
)  # fmt: skip
TRANSFORMERS: dict[str, Transform] = dict.fromkeys(SELECTORS, selector)
PREDICTORS: dict[str, Predict] = {"RFE": eliminator, "RFECV": eliminator}
