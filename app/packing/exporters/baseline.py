"""Dummy predictors: the same answer for each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor


@predictor("DummyClassifier")
def dummy_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`DummyClassifier` with a strategy that is not random."""
    if est._strategy in ("stratified", "uniform"):
        raise NotExportable(f"its strategy {est._strategy} is random")
    if est.n_outputs_ != 1:
        raise NotExportable("it has several targets")
    prior = np.asarray(est.class_prior_)
    if est._strategy == "constant":
        position = int(np.flatnonzero(est.classes_ == np.ravel(est.constant)[0])[0])
    else:
        position = int(prior.argmax())
    shares = prior if est._strategy == "prior" else np.eye(len(prior))[position]
    index = _repeated(g, features, g.constant([position], "int64"), None)
    return {
        "prediction": g.labels(est.classes_, index),
        "probabilities": _repeated(g, features, g.constant(shares[None, :]), len(prior)),
    }


@predictor("DummyRegressor")
def dummy_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`DummyRegressor`: its constant."""
    constant = np.asarray(est.constant_).reshape(1, -1)
    flat = constant.shape[1] == 1
    type_ = "int64" if constant.dtype.kind in "iu" else "float64"
    row = g.constant(constant[0] if flat else constant, type_)
    return {"prediction": _repeated(g, features, row, None if flat else constant.shape[1])}


def _repeated(g: Graph, features: Features, row: Tensor, width: int | None) -> Tensor:
    """Repeat one row (1, width) or one value (1,) for each row of the batch."""
    if not features:
        raise NotExportable("it takes no columns")
    first = g.select(features, [0])[0]
    shape = g.node("Shape", [first], "int64", None, end=1 if width is None else 2)
    return g.node("Expand", [row, shape], row.type, width)
