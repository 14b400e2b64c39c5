"""Several targets with one model each, independent or in a chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict, Tensor
from app.packing.exporters.responses import OUTPUT_OF_METHOD, chosen, of


def side_by_side(g: Graph, est: Any, features: Features) -> Outputs:
    """MultiOutputRegressor and MultiOutputClassifier: the prediction of each model is a column.

    `predict_proba` gives a list with a block for each target: `probabilities_0`, `probabilities_1`, ….
    """
    members = [g.predict(member, features) for member in est.estimators_]
    predictions = [of(outputs, "prediction", m) for m, outputs in zip(est.estimators_, members, strict=True)]
    outputs = {"prediction": _stacked(g, predictions)}
    if hasattr(est, "predict_proba"):
        for target, (member, inner) in enumerate(zip(est.estimators_, members, strict=True)):
            outputs[f"probabilities_{target}"] = of(inner, "probabilities", member)
    return outputs


def _stacked(g: Graph, predictions: Sequence[Tensor]) -> Tensor:
    """Return the predictions as columns of one type, chosen like NumPy."""
    types = {prediction.type for prediction in predictions}
    if len(types) > 1 and "string" in types:
        raise NotExportable("some of its targets are strings and some are numbers")
    type_ = next(t for t in ("string", "float64", "float32", "int64", "bool") if t in types)
    return g.concat([g.cast(g.column(prediction), type_) for prediction in predictions])


def chain(g: Graph, est: Any, features: Features) -> Outputs:
    """ClassifierChain and RegressorChain: each model takes the columns and the outputs of the models before it.

    `_BaseChain._get_predictions` keeps every output in an array of float64, including labels.
    """
    link = getattr(est, "chain_method_", "predict")
    if link not in OUTPUT_OF_METHOD:
        raise NotExportable(f"its chain passes on {link}")
    binary = all(len(getattr(model, "classes_", ())) <= 2 for model in est.estimators_)
    # With more than two classes scikit-learn gives no probabilities: a chain has one column for each target.
    methods = ["predict", *(m for m in ("predict_proba", "decision_function") if binary and hasattr(est, m))]
    inputs: Features = (g.matrix(features),)
    responses: dict[str, list[Tensor]] = {method: [] for method in methods}
    for model in est.estimators_:
        outputs = g.predict(model, inputs)
        for method in methods:
            responses[method].append(_link(g, model, outputs, method))
        inputs = (*inputs, _link(g, model, outputs, link))
    places = np.argsort(est.order_)
    return {OUTPUT_OF_METHOD[method]: g.concat([responses[method][place] for place in places]) for method in methods}


def _link(g: Graph, model: Any, outputs: Outputs, method: str) -> Tensor:
    """Return the response of one model of the chain as a block of one column."""
    tensor = chosen(g, model, outputs, method)
    return g.cast(g.column(tensor) if tensor.width is None else tensor, "float64")


PREDICTORS: dict[str, Predict] = {
    "ClassifierChain": chain,
    "MultiOutputClassifier": side_by_side,
    "MultiOutputRegressor": side_by_side,
    "RegressorChain": chain,
}
