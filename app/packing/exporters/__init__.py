"""Export fitted estimators as ONNX graphs: one function for each class, which reads the fitted attributes.

The exporter of a transformer takes columns and returns columns; that of a predictor returns its outputs by name. To add
one, write the function in the module of its family and name it in that module's table `TRANSFORMERS` or `PREDICTORS`.
Where there is no exact graph for an estimator or one of its options, its exporter raises `NotExportable`.
Exporters need no proof of their own: `app.packing.prove` compares each graph with its estimator.
"""

from __future__ import annotations

from importlib import import_module

from app.packing.exporters.graph import Predict, Transform

FAMILIES = (
    "bagging", "baseline", "bayes", "boosting", "calibration", "clusters", "columns", "composition", "decomposition",
    "encoding", "expansion", "gaussian", "imputing", "lightgbm_trees", "linear", "mixtures", "multiclass", "neighbors",
    "neural", "quantiles", "regression", "scaling", "svm", "targets", "text", "trees", "voting", "xgboost_trees",
)  # fmt: skip
"""The modules with exporters; each has a table `TRANSFORMERS`, a table `PREDICTORS`, or both."""


def _qualified(name: str) -> str:
    return name if "." in name else f"sklearn.{name}"


_MODULES = [import_module(f"{__name__}.{family}") for family in FAMILIES]

TRANSFORMERS: dict[str, Transform] = {
    _qualified(name): export for module in _MODULES for name, export in getattr(module, "TRANSFORMERS", {}).items()
}
PREDICTORS: dict[str, Predict] = {
    _qualified(name): export for module in _MODULES for name, export in getattr(module, "PREDICTORS", {}).items()
}
