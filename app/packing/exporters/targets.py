"""Regressors of a transformed target: the prediction is transformed back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.packing.exporters import functions
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict, Tensor
from app.packing.exporters.quantiles import inverse_quantiles
from app.packing.exporters.responses import of
from app.packing.releases import box_cox_by_logarithms

Inverse = Callable[[Graph, Any, Tensor], Tensor]


def transformed_target(g: Graph, est: Any, features: Features) -> Outputs:
    """TransformedTargetRegressor.predict: the inverse of the target's transformer on the regressor's prediction."""
    inner = g.cast(of(g.predict(est.regressor_, features), "prediction", est.regressor_), "float64")
    values = g.column(inner) if inner.width is None else inner
    found = inverse(g, est.transformer_, values)
    return {"prediction": g.pick(found, 0) if est._training_dim == 1 and found.width == 1 else found}


def inverse(g: Graph, transformer: Any, values: Tensor) -> Tensor:
    """`inverse_transform` of a fitted transformer, float64 of shape (rows, targets).

    Raises:
        NotExportable: There is no graph for the inverse.
    """
    name = type(transformer).__name__
    if not type(transformer).__module__.startswith("sklearn.") or name not in INVERSES:
        raise NotExportable(f"the inverse of {name} has no exporter")
    return INVERSES[name](g, transformer, values)


def _applied(g: Graph, values: Tensor, *steps: tuple[str, Any]) -> Tensor:
    """Apply operators one after the other, each with a constant as second input, or None."""
    for operator, constant in steps:
        inputs = [values] if constant is None else [values, g.constant(constant)]
        values = g.node(operator, inputs, "float64", values.width)
    return values


def _sinh(g: Graph, values: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / 2: ONNX Runtime has no Sinh for float64."""
    powers = [_applied(g, values, ("Exp", None)), _applied(g, values, ("Neg", None), ("Exp", None))]
    return _applied(g, g.node("Sub", powers, "float64", values.width), ("Mul", 0.5))


FUNCTIONS: dict[Any, Callable[[Graph, Tensor], Tensor]] = {**functions.FUNCTIONS, np.sinh: _sinh}


def _function(g: Graph, est: Any, values: Tensor) -> Tensor:
    """FunctionTransformer: functions of NumPy only; the code of other functions is not known."""
    if est.inverse_func is None:
        return values
    if est.inv_kw_args:
        raise NotExportable("the inverse function of its target takes arguments")
    if est.inverse_func not in FUNCTIONS:
        name = getattr(est.inverse_func, "__name__", type(est.inverse_func).__name__)
        raise NotExportable(f"the inverse function of its target, {name}, has no exporter")
    return g.cast(FUNCTIONS[est.inverse_func](g, values), "float64")


def _standard(g: Graph, est: Any, values: Tensor) -> Tensor:
    values = _applied(g, values, ("Mul", est.scale_)) if est.with_std else values
    return _applied(g, values, ("Add", est.mean_)) if est.with_mean else values


def _robust(g: Graph, est: Any, values: Tensor) -> Tensor:
    values = _applied(g, values, ("Mul", est.scale_)) if est.with_scaling else values
    return _applied(g, values, ("Add", est.center_)) if est.with_centering else values


def _power(g: Graph, est: Any, values: Tensor) -> Tensor:
    """PowerTransformer: column by column, since the formula depends on the lambda of the column."""
    if est.standardize:
        values = _standard(g, est._scaler, values)
    formula = {"box-cox": _box_cox, "yeo-johnson": _yeo_johnson}[est.method]
    return _by_column(g, values, [float(power) for power in est.lambdas_], formula)


def _box_cox(g: Graph, power: float, column: Tensor) -> Tensor:
    """`scipy.special.inv_boxcox`: exp(x), or exp(log1p(lambda x) / lambda)."""
    if power == 0.0:
        return _applied(g, column, ("Exp", None))
    if not box_cox_by_logarithms():
        return _applied(g, column, ("Mul", power), ("Add", 1.0), ("Pow", 1 / power))
    grown = functions.log1p(g, _applied(g, column, ("Mul", power)))
    return _applied(g, grown, ("Div", power), ("Exp", None))


def _yeo_johnson(g: Graph, power: float, column: Tensor) -> Tensor:
    """`_yeo_johnson_inverse_transform`: one formula from 0 up, another below."""
    if abs(power) < np.spacing(1.0):
        above = _applied(g, column, ("Exp", None), ("Sub", 1.0))
    else:
        above = _applied(g, column, ("Mul", power), ("Add", 1.0), ("Pow", 1 / power), ("Sub", 1.0))
    if abs(power - 2) > np.spacing(1.0):
        rest = 2 - power
        negative = _applied(g, column, ("Mul", -rest), ("Add", 1.0), ("Pow", 1 / rest), ("Neg", None), ("Add", 1.0))
    else:
        negative = _applied(g, column, ("Neg", None), ("Exp", None), ("Neg", None), ("Add", 1.0))
    positive = g.node("GreaterOrEqual", [column, g.constant(0.0)], "bool", 1)
    return g.node("Where", [positive, above, negative], "float64", 1)


def _quantile(g: Graph, est: Any, values: Tensor) -> Tensor:
    """QuantileTransformer: `_transform_col` with `inverse`."""
    normal = est.output_distribution == "normal"

    def back(g: Graph, quantiles: Any, column: Tensor) -> Tensor:
        return inverse_quantiles(g, column, est.references_, quantiles, normal)

    return _by_column(g, values, list(est.quantiles_.T), back)


def _by_column(g: Graph, values: Tensor, facts: Sequence[Any], formula: Inverse) -> Tensor:
    """Apply a formula to each column and its fact, and join the columns."""
    columns = zip(facts, g.split((values,)), strict=True)
    return g.concat([formula(g, fact, column) for fact, column in columns])


def _pipeline(g: Graph, est: Any, values: Tensor) -> Tensor:
    for _, step in reversed(est.steps):
        if step is not None and step != "passthrough":
            values = inverse(g, step, values)
    return values


INVERSES: dict[str, Inverse] = {
    "FunctionTransformer": _function,
    "MaxAbsScaler": lambda g, est, values: _applied(g, values, ("Mul", est.scale_)),
    "MinMaxScaler": lambda g, est, values: _applied(g, values, ("Sub", est.min_), ("Div", est.scale_)),
    "Pipeline": _pipeline,
    "PowerTransformer": _power,
    "QuantileTransformer": _quantile,
    "RobustScaler": _robust,
    "StandardScaler": _standard,
}

PREDICTORS: dict[str, Predict] = {"TransformedTargetRegressor": transformed_target}
