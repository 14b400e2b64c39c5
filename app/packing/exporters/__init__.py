"""Estimators as graphs: for each class a function over its fitted attributes, found by its name in two tables.

A transformer's exporter takes the columns that it sees and gives the columns that it makes; a predictor's gives its
outputs by name. To add one, write the function in the module of its family and name it in that module's table. Whether
a graph is right is not decided here: `app.packing.prove` compares it with the estimator, row by row.
"""

from __future__ import annotations

from app.packing.exporters import (
    approximation,
    bagging,
    baseline,
    bayes,
    boosting,
    calibration,
    clusters,
    columns,
    composition,
    decoded,
    decomposition,
    discriminant,
    encoding,
    expansion,
    gaussian,
    histograms,
    imputing,
    linear,
    mixtures,
    multiclass,
    multioutput,
    neighbors,
    neural,
    quantiles,
    radius,
    regression,
    scaling,
    selection,
    splines,
    svm,
    targets,
    text,
    third_party,
    trees,
    voting,
)
from app.packing.exporters.graph import Predict, Transform

FAMILIES = (
    approximation,
    baseline,
    bayes,
    boosting,
    calibration,
    clusters,
    columns,
    bagging,
    composition,
    decoded,
    decomposition,
    discriminant,
    encoding,
    expansion,
    third_party,
    gaussian,
    histograms,
    imputing,
    linear,
    mixtures,
    multiclass,
    multioutput,
    neighbors,
    neural,
    quantiles,
    radius,
    regression,
    scaling,
    selection,
    splines,
    svm,
    targets,
    text,
    trees,
    voting,
)


def _qualified(name: str) -> str:
    return name if "." in name else f"sklearn.{name}"


TRANSFORMERS: dict[str, Transform] = {_qualified(n): f for family in FAMILIES for n, f in family.TRANSFORMERS.items()}
PREDICTORS: dict[str, Predict] = {_qualified(n): f for family in FAMILIES for n, f in family.PREDICTORS.items()}
