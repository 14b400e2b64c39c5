"""The scikit-learn classes of XGBoost: trees in float32."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import tree_ensemble
from app.packing.exporters.formulas import reduced
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.tree_ensemble import LEAF, Tree

Model = dict[str, Any]

IDENTITY = ("reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror")
SIGMOID = ("reg:logistic", "binary:logistic")
EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie")
SOFTMAX = ("multi:softprob", "multi:softmax")

_STEPS = 32
_POLYNOMIAL = [
    float.fromhex(coefficient) / _STEPS**power
    for power, coefficient in enumerate(["1", "0x1.62e42ff0c52d6p-1", "0x1.ebfce50fac4f3p-3", "0x1.c6af84b912394p-5"])
]
_PER_STEP = float.fromhex("0x1.71547652b82fep+0") * _STEPS


@predictor("xgboost.XGBClassifier", "xgboost.XGBRFClassifier")
def xgboost_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`XGBClassifier`: the most probable class; of two classes, the second above a probability of 1/2."""
    model = _model(est)
    margins = _margins(g, est, model, features)
    objective = str(model["learner"]["objective"]["name"])
    if objective in SOFTMAX:
        if objective == "multi:softmax":
            raise NotExportable("its objective multi:softmax is not made for probabilities; multi:softprob is")
        # `common::Softmax` of XGBoost sums in float64.
        powers = exponential(g, margins - reduced(g, "ReduceMax", margins))
        probabilities = powers / g.cast(reduced(g, "ReduceSum", g.cast(powers, "float64")), "float32")
        return {"prediction": g.argmax(probabilities), "probabilities": g.cast(probabilities, "float64")}
    if objective != "binary:logistic":
        raise NotExportable(f"its objective is {objective}")
    positive = _sigmoid(g, margins)
    above = positive > 0.5
    if margins.width != 1:  # multilabel
        return {"prediction": g.cast(above, "float64"), "probabilities": g.cast(positive, "float64")}
    probabilities = g.cast(g.concat([1.0 - positive, positive]), "float64")
    return {"prediction": g.pick(g.cast(above, "int64"), 0), "probabilities": probabilities}


@predictor("xgboost.XGBRFRegressor", "xgboost.XGBRegressor")
def xgboost_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`XGBRegressor`: the margin, converted by the objective; (rows,) or (rows, targets)."""
    model = _model(est)
    margins = _margins(g, est, model, features)
    objective = str(model["learner"]["objective"]["name"])
    if objective in SIGMOID:
        margins = _sigmoid(g, margins)
    elif objective in EXPONENTIAL:
        margins = exponential(g, margins)
    elif objective not in IDENTITY:
        raise NotExportable(f"its objective is {objective}")
    values = g.cast(margins, "float64")
    return {"prediction": g.pick(values, 0) if values.width == 1 else values}


def exponential(g: Graph, x: Tensor, sign: float = 1.0) -> Tensor:
    """`expf(sign * x)` of the GNU C library (2.27 and later, sysdeps/ieee754/flt-32/e_expf.c), float32 in and out.

    With k the integer nearest to 32 x / ln 2 and r the rest: 2^(k/32) times a cubic polynomial in r, in float64.
    """
    width = x.width or 0
    z = g.cast(x, "float64") * (sign * _PER_STEP)
    k = z.round()
    r = z - k
    if width > 1:
        r = r.unsqueeze(2)
    powers = g.node("Pow", [r, g.constant([0.0, 1.0, 2.0, 3.0])], "float64", 4)
    coefficients = np.array(_POLYNOMIAL) if width > 1 else np.array([_POLYNOMIAL]).T
    polynomial = g.node("MatMul", [powers, g.constant(coefficients)], "float64", width)
    return g.cast(polynomial * (k * (np.log(2) / _STEPS)).exp(), "float32")


def _model(est: Any) -> Model:
    """Return the JSON of the booster."""
    model: Model = json.loads(est.get_booster().save_raw("json"))
    booster = model["learner"]["gradient_booster"]
    if booster["name"] != "gbtree":
        raise NotExportable(f"its booster is {booster['name']}")
    for tree in booster["model"]["trees"]:
        if int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise NotExportable("its trees predict several targets at once")
        if any(tree["split_type"]):
            raise NotExportable("its trees split by category")
    return model


def _margins(g: Graph, est: Any, model: Model, features: Features) -> Tensor:
    """`predict(output_margin=True)`, float32, shape (rows, groups): the base score plus the trees in their order."""
    gbtree = model["learner"]["gradient_booster"]["model"]
    _, end = est._get_iteration_range(None)
    count = gbtree["iteration_indptr"][end] if end else len(gbtree["trees"])
    base = _margins_without_trees(model, est.n_features_in_)
    trees = [_tree(tree) for tree in gbtree["trees"][:count]]
    matrix = g.cast(g.matrix(features), "float32")
    if not np.isnan(est.missing):
        matrix = g.where(matrix.equal(est.missing), np.nan, matrix)
    return tree_ensemble.summed(g, matrix, trees, gbtree["tree_info"][:count], base)


def _margins_without_trees(model: Model, width: int) -> NDArray[np.float32]:
    """Return the base margins, predicted by a booster without trees, because XGBoost rounds them in its own way."""
    import xgboost

    gradient_booster = model["learner"]["gradient_booster"]
    empty = dict(gradient_booster["model"], trees=[], tree_info=[], iteration_indptr=[0])
    empty["gbtree_model_param"] = dict(empty["gbtree_model_param"], num_trees="0")
    # With `boost_from_average` the booster would estimate its base score.
    fixed = dict(model["learner"]["learner_model_param"], boost_from_average="0")
    learner = dict(model["learner"], gradient_booster=dict(gradient_booster, model=empty), learner_model_param=fixed)
    booster = xgboost.Booster(model_file=bytearray(json.dumps(dict(model, learner=learner)).encode()))
    row = xgboost.DMatrix(np.zeros((1, width), dtype=np.float32))
    return np.asarray(booster.predict(row, output_margin=True, validate_features=False)).ravel()


def _tree(tree: Model) -> Tree:
    """Convert a tree of the JSON. A row goes left if `x < condition`, which means `x <=` the previous float32."""
    left = np.array(tree["left_children"], dtype=np.int64)
    condition = np.array(tree["split_conditions"], dtype=np.float32)
    return Tree(
        left=np.where(left < 0, LEAF, left),
        right=np.array(tree["right_children"], dtype=np.int64),
        column=np.array(tree["split_indices"], dtype=np.int64),
        threshold=np.nextafter(condition, np.float32(-np.inf)).astype(np.float64),
        missing_left=np.array(tree["default_left"], dtype=bool),
        values=condition.astype(np.float64),
    )


def _sigmoid(g: Graph, margins: Tensor) -> Tensor:
    """`common::Sigmoid` of XGBoost, except that numbers below 1e-38 become 0."""
    return 1.0 / (exponential(g, margins, -1.0) + 1.0)
