"""Regressors of a transformed target: transform their predictions back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.packing.exporters import functions
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.scaling import inverse_quantiles
from app.packing.releases import BOX_COX_BY_LOGARITHMS

Inverse = Callable[[Graph, Any, Tensor], Tensor]


@predictor("TransformedTargetRegressor")
def transformed_target(g: Graph, est: Any, features: Features) -> Outputs:
    """`TransformedTargetRegressor.predict`: the inverse of the target's transformer, applied to the prediction."""
    inner = g.cast(g.predict(est.regressor_, features)["prediction"], "float64")
    values = inner.unsqueeze(1) if inner.width is None else inner
    found = inverse(g, est.transformer_, values)
    return {"prediction": g.pick(found, 0) if est._training_dim == 1 and found.width == 1 else found}


def inverse(g: Graph, transformer: Any, values: Tensor) -> Tensor:
    """`inverse_transform` of a fitted transformer, float64, shape (rows, targets)."""
    name = type(transformer).__name__
    if not type(transformer).__module__.startswith("sklearn.") or name not in INVERSES:
        raise NotExportable(f"the inverse of {name} has no exporter")
    return INVERSES[name](g, transformer, values)


FUNCTIONS: dict[Any, Callable[[Graph, Tensor], Tensor]] = {
    **functions.FUNCTIONS,
    np.sinh: lambda g, x: (x.exp() - (-x).exp()) * 0.5,  # ONNX Runtime has no Sinh for float64
}


def _function(g: Graph, est: Any, values: Tensor) -> Tensor:
    """`FunctionTransformer`: functions of NumPy only, because the formulas of other functions are not known."""
    if est.inverse_func is None:
        return values
    if est.inv_kw_args:
        raise NotExportable("the inverse function of its target takes arguments")
    if est.inverse_func not in FUNCTIONS:
        name = getattr(est.inverse_func, "__name__", type(est.inverse_func).__name__)
        raise NotExportable(f"the inverse function of its target, {name}, has no exporter")
    return g.cast(FUNCTIONS[est.inverse_func](g, values), "float64")


def _standard(g: Graph, est: Any, values: Tensor) -> Tensor:
    values = values * est.scale_ if est.with_std else values
    return values + np.asarray(est.mean_) if est.with_mean else values


def _robust(g: Graph, est: Any, values: Tensor) -> Tensor:
    values = values * est.scale_ if est.with_scaling else values
    return values + np.asarray(est.center_) if est.with_centering else values


def _power(g: Graph, est: Any, values: Tensor) -> Tensor:
    """`PowerTransformer`: column by column, because the formula depends on the lambda of the column."""
    if est.standardize:
        values = _standard(g, est._scaler, values)
    formula = {"box-cox": _box_cox, "yeo-johnson": _yeo_johnson}[est.method]
    return _by_column(g, values, [float(power) for power in est.lambdas_], formula)


def _box_cox(g: Graph, power: float, column: Tensor) -> Tensor:
    """`scipy.special.inv_boxcox`: exp(x), or exp(log1p(lambda x) / lambda)."""
    if power == 0.0:
        return column.exp()
    if not BOX_COX_BY_LOGARITHMS:
        return (column * power + 1.0) ** (1 / power)
    return (functions.log1p(g, column * power) / power).exp()


def _yeo_johnson(g: Graph, power: float, column: Tensor) -> Tensor:
    """`_yeo_johnson_inverse_transform`: one formula from 0 on, another below 0."""
    positive = column.exp() if abs(power) < np.spacing(1.0) else (column * power + 1.0) ** (1 / power)
    if abs(power - 2) > np.spacing(1.0):
        rest = 2 - power
        negative = -((column * -rest + 1.0) ** (1 / rest)) + 1.0
    else:
        negative = -(-column).exp() + 1.0
    return g.where(column >= 0.0, positive - 1.0, negative)


def _quantile(g: Graph, est: Any, values: Tensor) -> Tensor:
    """`QuantileTransformer._transform_col` with `inverse`."""
    normal = est.output_distribution == "normal"

    def inverse_of_column(g: Graph, quantiles: Any, column: Tensor) -> Tensor:
        return inverse_quantiles(g, column, est.references_, quantiles, normal)

    return _by_column(g, values, list(est.quantiles_.T), inverse_of_column)


def _by_column(g: Graph, values: Tensor, parameters: Sequence[Any], formula: Inverse) -> Tensor:
    """Apply a formula to each column with its parameter, and join the columns."""
    columns = zip(parameters, g.split((values,)), strict=True)
    return g.concat([formula(g, parameter, column) for parameter, column in columns])


def _pipeline(g: Graph, est: Any, values: Tensor) -> Tensor:
    for _, step in reversed(est.steps):
        if step is not None and step != "passthrough":
            values = inverse(g, step, values)
    return values


INVERSES: dict[str, Inverse] = {
    "FunctionTransformer": _function,
    "MaxAbsScaler": lambda g, est, values: values * est.scale_,
    "MinMaxScaler": lambda g, est, values: (values - est.min_) / est.scale_,
    "Pipeline": _pipeline,
    "PowerTransformer": _power,
    "QuantileTransformer": _quantile,
    "RobustScaler": _robust,
    "StandardScaler": _standard,
}
