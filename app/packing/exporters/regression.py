"""Linear regressors, generalized linear models, partial least squares, isotonic regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor, transformer
from app.packing.exporters.links import affine, fail_where, targets
from app.packing.releases import pls_coefficients, pls_is_flat

LINEAR = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars", "LarsCV", "Lasso",
    "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression", "LinearSVR", "MultiTaskElasticNet",
    "MultiTaskElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV", "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV", "PassiveAggressiveRegressor", "QuantileRegressor", "Ridge", "RidgeCV",
    "SGDRegressor", "TheilSenRegressor",
)  # fmt: skip


@predictor(*LINEAR)
def linear_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`LinearModel.predict`: `x @ coef_.T + intercept_`, flat where `coef_` is."""
    coef = np.asarray(est.coef_)
    return targets(g, affine(g, features, np.atleast_2d(coef), est.intercept_), flat=coef.ndim == 1)


@predictor("GammaRegressor", "PoissonRegressor", "TweedieRegressor")
def generalized_linear(g: Graph, est: Any, features: Features) -> Outputs:
    """`GammaRegressor` and other generalized linear models: the inverse link of the linear prediction."""
    raw = g.pick(affine(g, features, np.atleast_2d(est.coef_), est.intercept_), 0)
    link = type(est._base_loss.link).__name__
    if link == "IdentityLink":
        return {"prediction": raw}
    if link == "LogLink":
        return {"prediction": raw.exp()}
    raise NotExportable(f"its link is {link}")


@predictor("RANSACRegressor")
def ransac(g: Graph, est: Any, features: Features) -> Outputs:
    """`RANSACRegressor.predict`: that of the estimator fitted on the inliers."""
    return {"prediction": g.predict(est.estimator_, features)["prediction"]}


@predictor("CCA", "PLSCanonical", "PLSRegression")
def partial_least_squares(g: Graph, est: Any, features: Features) -> Outputs:
    """`_PLS.predict` and `_PLS.transform`."""
    centered = _centered(g, est, features)
    values = affine(g, (centered,), pls_coefficients(est), est.intercept_)
    return targets(g, values, flat=pls_is_flat(est)) | {"transformed": _rotated(g, est, centered, est.x_rotations_)}


@transformer("CCA", "PLSCanonical", "PLSRegression")
def pls_transform(g: Graph, est: Any, features: Features) -> Features:
    """`_PLS.transform`: centered, scaled, rotated."""
    return (_rotated(g, est, _centered(g, est, features), est.x_rotations_),)


@transformer("PLSSVD")
def pls_svd_transform(g: Graph, est: Any, features: Features) -> Features:
    """`PLSSVD.transform`: centered, scaled, projected on its weights."""
    return (_rotated(g, est, _centered(g, est, features), est.x_weights_),)


def _centered(g: Graph, est: Any, features: Features) -> Tensor:
    return g.matrix(features) - np.asarray(est._x_mean)


def _rotated(g: Graph, est: Any, centered: Tensor, rotations: Any) -> Tensor:
    return (centered / np.asarray(est._x_std)) @ np.asarray(rotations)


@predictor("IsotonicRegression")
def isotonic(g: Graph, est: Any, features: Features) -> Outputs:
    """`IsotonicRegression.predict`: `numpy.interp` between its thresholds; beyond them NaN, the nearest or an error."""
    knots, values = np.asarray(est.X_thresholds_), np.asarray(est.y_thresholds_)
    if knots.dtype != np.float64 or values.dtype != np.float64:
        raise NotExportable("it was fitted on numbers that are not float64")
    x = g.matrix(features)
    if len(knots) == 1:
        starts, slopes, offsets = np.array([np.inf]), np.zeros(2), values.repeat(2)
        origins = np.zeros(2)
    else:
        if est.out_of_bounds == "clip":
            x = x.clip(est.X_min_, est.X_max_)
        # Segment 0 is below the first knot and the last one is above the last knot: neither has a value.
        starts = np.append(knots, np.nextafter(knots[-1], np.inf))
        slopes = np.concatenate([[np.nan], np.diff(values) / np.diff(knots), [0.0, np.nan]])
        origins, offsets = np.concatenate([[0.0], knots, [0.0]]), np.concatenate([[0.0], values, [0.0]])
    beyond = g.cast(x >= starts, "int64")
    segment = g.node("ReduceSum", [beyond, g.constant([1], "int64")], "int64", None, keepdims=0)

    def of_segment(table: Any) -> Tensor:
        return g.take(table, segment)

    run = g.pick(x, 0) - of_segment(origins)
    if len(knots) == 1:
        return {"prediction": of_segment(offsets), "transformed": of_segment(offsets)}
    if est.out_of_bounds == "raise":
        run = fail_where(g, of_segment(slopes).isnan(), run)
    value = of_segment(slopes) * run + of_segment(offsets)
    return {"prediction": value, "transformed": value}
