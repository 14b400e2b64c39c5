"""Score the predictions for a sample against its target column: a cheap check of model, sample and signature."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from app.packing import inspect
from app.packing.inputs import records_of
from app.packing.probe import MAX_SAMPLE_ROWS, answered
from app.packing.verdict import Agreement
from app.runtime.servable import ArtifactServable
from app.signature import Layout, Signature
from app.signature.batch import json_values
from app.signature.schema import Validator


def agreement(estimator: Any, signature: Signature, frame: pd.DataFrame, target: pd.Series[Any]) -> Agreement | None:
    """Compare the predictions for the rows of a sample with its target.

    Args:
        estimator: The fitted model.
        signature: Its signature.
        frame: The sample with the columns of the model in their order.
        target: The target of each row.

    Returns:
        The accuracy or R²; None if predictions and target cannot be compared.
    """
    task = inspect.task_of(estimator)
    if signature.layout is Layout.RECORDS or task not in ("classifier", "regressor", "model"):
        return None
    present = target.notna().to_numpy()
    frame, target = frame[present][:MAX_SAMPLE_ROWS], target[present][:MAX_SAMPLE_ROWS]
    records = records_of(frame, signature.names)
    kept = answered(estimator, signature, records)
    if not kept:
        return None
    batch = Validator(signature, MAX_SAMPLE_ROWS).validate([records[row] for row in kept])
    predicted = ArtifactServable(estimator, signature).run(batch, ["prediction"])["prediction"]
    if predicted.ndim == 2 and predicted.shape[1] == 1:
        predicted = predicted[:, 0]
    if predicted.ndim != 1:
        return None
    expected = target.iloc[kept]
    if task != "classifier" and predicted.dtype.kind in "iuf" and pd.api.types.is_numeric_dtype(expected.dtype):
        return _r2(str(target.name), expected.to_numpy(np.float64), predicted.astype(np.float64))
    wanted = [_label(value) for value in json_values(expected.astype(object).to_numpy())]
    equal = sum(a == b for a, b in zip(wanted, map(_label, json_values(predicted)), strict=True))
    [(_, most)] = Counter(wanted).most_common(1)
    return Agreement(str(target.name), len(kept), "accuracy", equal / len(kept), most / len(kept))


def _r2(name: str, wanted: Any, predicted: Any) -> Agreement | None:
    spread = float(np.sum((wanted - wanted.mean()) ** 2))
    if spread == 0.0 or not np.isfinite(predicted).all() or not np.isfinite(wanted).all():
        return None
    return Agreement(name, len(wanted), "R²", 1.0 - float(np.sum((wanted - predicted) ** 2)) / spread)


def _label(value: object) -> str:
    """Return a label as text: a file may have 1, "1" or 1.0 where the model has another of them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)
