"""Describe a sample with a model: the distributions of inputs and predictions, and the agreement with the target."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.errors import PackingRefused
from app.packing import inspect, sample
from app.packing.inputs import as_trained, records_of
from app.packing.probe import MAX_SAMPLE_ROWS, Record, answered_rows, attempt
from app.packing.verdict import Agreement
from app.runtime.proving import same
from app.runtime.servable import ArtifactServable, call
from app.signature import Layout, Signature, is_missing
from app.signature.batch import Batch, json_values
from app.signature.validator import Validator

FEWEST_ROWS, MOST_INPUTS = 20, 200
EXCHANGES = 5
LONGEST_S = 20.0
"""Limits for measuring the importance of inputs: rows, inputs, exchanges of each input, and seconds."""


def require_fidelity(estimator: Any, signature: Signature, frame: pd.DataFrame) -> None:
    """Refuse a sample if its rows, sent as JSON, get other answers than the sample itself.

    Serving would not give the notebook's predictions then. `frame` has the declared dtypes.
    """
    frame = sample.fitted_to(frame, None if signature.layout is not Layout.FRAME else signature.names, None)
    frame = frame.dropna() if attempt(estimator, signature, records_of(frame, signature.names)) else frame
    frame = frame[:MAX_SAMPLE_ROWS]
    if frame.empty or attempt(estimator, signature, records_of(frame, signature.names)):
        return
    batch = Validator(signature, MAX_SAMPLE_ROWS).validate(records_of(frame, signature.names))
    frame = as_trained(frame, signature)
    served = json_values(ArtifactServable(estimator, signature).run(batch, ["prediction"])["prediction"])
    features = {
        Layout.FRAME: frame,
        Layout.MATRIX: np.ascontiguousarray(frame),
        Layout.SEQUENCE: frame.iloc[:, 0].to_numpy(),
    }
    try:
        expected = json_values(np.asarray(call(estimator, "prediction", features[signature.layout])))
    except Exception:  # noqa: BLE001 (around run: a file may hold other types than training did, NaN for None)
        return
    for row, (was, now) in enumerate(zip(expected, served, strict=True)):
        if not same(was, now):
            raise PackingRefused(
                f"through JSON the model gives {str(now)[:80]} for row {row} of the sample, on the sample itself "
                f"{str(was)[:80]}: the sample's types or its index cannot be sent as JSON"
            )


@dataclass(frozen=True)
class TargetRows:
    """The rows of a sample that a model answers, with their targets."""

    servable: ArtifactServable
    batch: Batch
    expected: pd.Series[Any]
    is_classifier: bool

    def agreement(self) -> Agreement | None:
        """Compare the predictions for the sample with the target.

        Returns:
            The accuracy or R²; None if predictions and target cannot be compared.
        """
        return self._agreement(self._predictions(self.batch))

    def importance(self) -> dict[str, object]:
        """Return the loss of score, by input, when the values of that input are exchanged between rows.

        It is the mean over several exchanges, the same ones in every run (permutation importance; Breiman, "Random
        forests", 2001). The result is empty if that takes too long, or if there is nothing to compare.
        """
        baseline = self.agreement()
        columns, rows = self.batch.columns, self.batch.rows
        if baseline is None or rows < FEWEST_ROWS or not 1 < len(columns) <= MOST_INPUTS:
            return {}
        random, losses, began_s = np.random.default_rng(0), {}, time.monotonic()
        orders = [random.permutation(rows) for _ in range(EXCHANGES)]
        # All exchanges of an input are predicted by one call, which takes less time than one for each.
        repeated = {name: np.concatenate([column] * EXCHANGES) for name, column in columns.items()}
        for name, column in columns.items():
            if time.monotonic() - began_s > LONGEST_S:
                return {}
            exchanged = {**repeated, name: np.concatenate([column[order] for order in orders])}
            predicted = np.split(self._predictions(Batch(exchanged, rows * EXCHANGES)), EXCHANGES)
            found = [shuffled.value for shuffled in map(self._agreement, predicted) if shuffled is not None]
            losses[name] = baseline.value - float(np.mean(found))
        return {"measure": baseline.measure, "rows": rows, "inputs": losses}

    def _predictions(self, batch: Batch) -> NDArray[Any]:
        """Return the predictions for a batch. A single column has the shape (rows,)."""
        predicted = self.servable.run(batch, ["prediction"])["prediction"]
        return predicted[:, 0] if predicted.ndim == 2 and predicted.shape[1] == 1 else predicted

    def _agreement(self, predicted: NDArray[Any]) -> Agreement | None:
        """Compare predictions for the sample, or for its rows with an exchanged input, with the target."""
        if predicted.ndim != 1:
            return None
        name, expected, rows = str(self.expected.name), self.expected, len(self.expected)
        if not self.is_classifier and predicted.dtype.kind in "iuf" and pd.api.types.is_numeric_dtype(expected.dtype):
            return _r2(name, expected.to_numpy(np.float64), predicted.astype(np.float64))
        equal = sum(a == b for a, b in zip(self._labels, map(_label, json_values(predicted)), strict=True))
        [(_, most)] = Counter(self._labels).most_common(1)
        return Agreement(name, rows, "accuracy", equal / rows, most / rows)

    @cached_property
    def _labels(self) -> list[str]:
        return [_label(value) for value in json_values(self.expected.astype(object).to_numpy())]


def target_rows(estimator: Any, signature: Signature, frame: pd.DataFrame, target: pd.Series[Any]) -> TargetRows | None:
    """Return the rows of a sample that the model answers and that have a target; None if there are none.

    Args:
        estimator: The fitted model.
        signature: Its signature.
        frame: The sample with the columns of the model in their order.
        target: The target of each row.
    """
    task = inspect.task_of(estimator)
    if signature.layout is Layout.RECORDS or task not in ("classifier", "regressor", "model"):
        return None
    present = target.notna().to_numpy()
    frame, target = frame[present][:MAX_SAMPLE_ROWS], target[present][:MAX_SAMPLE_ROWS]
    records = records_of(frame, signature.names)
    positions = answered_rows(estimator, signature, records)
    if not positions:
        return None
    batch = Validator(signature, MAX_SAMPLE_ROWS).validate([records[row] for row in positions])
    return TargetRows(ArtifactServable(estimator, signature), batch, target.iloc[positions], task == "classifier")


def _r2(name: str, wanted: Any, predicted: Any) -> Agreement | None:
    spread = float(np.sum((wanted - wanted.mean()) ** 2))
    if spread == 0.0 or not np.isfinite(predicted).all() or not np.isfinite(wanted).all():
        return None
    return Agreement(name, len(wanted), "R²", 1.0 - float(np.sum((wanted - predicted) ** 2)) / spread)


def _label(value: object) -> str:
    """Return a label as text, because a file may write 1, "1" or 1.0 for the same label."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


BINS = 16
MOST_VALUES = 24
"""A distribution lists at most this many distinct values, the most frequent ones."""

COUNTED_KINDS = ("category", "boolean")


def profile_of(estimator: Any, signature: Signature, records: Sequence[Record]) -> dict[str, object]:
    """Return the number of rows, the distribution of each plain input, and that of the predictions, as JSON values.

    A distribution of numbers has equal bins: `from`, `to`, `counts`. A distribution of labels has `values` with their
    counts.
    """
    inputs: dict[str, dict[str, object]] = {}
    for spec in signature.inputs[:MOST_INPUTS]:
        values = [record.get(spec.name) for record in records]
        if spec.kind in COUNTED_KINDS:
            inputs[spec.name] = count_labels(values)
        elif spec.kind in ("number", "integer"):
            inputs |= {spec.name: found} if (found := histogram(values)) else {}
    profile: dict[str, object] = {"rows": len(records), "inputs": inputs}
    if (distribution := _prediction_distribution(estimator, signature, records)) is not None:
        profile["prediction"] = distribution
    return profile


def histogram(values: Sequence[object]) -> dict[str, object] | None:
    """Count finite numbers in bins of equal width; return None unless two of them differ."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if not numbers or min(numbers) == max(numbers):
        return None
    least, most = min(numbers), max(numbers)
    counts = [0] * BINS
    for number in numbers:
        counts[min(BINS - 1, int((number / 2 - least / 2) / (most / 2 - least / 2) * BINS))] += 1
    return {"from": least, "to": most, "counts": counts} | _missing_count(len(values) - len(numbers))


def count_labels(values: Sequence[Any]) -> dict[str, object]:
    """Count labels, the most frequent first."""
    present = [value for value in values if not is_missing(value)]
    counts = Counter((type(value).__name__, value) for value in present).most_common()
    frequent = [[value, count] for (_, value), count in counts[:MOST_VALUES]]
    others = sum(count for _, count in counts[MOST_VALUES:])
    return {"values": frequent} | ({"others": others} if others else {}) | _missing_count(len(values) - len(present))


def _missing_count(count: int) -> dict[str, object]:
    return {"missing": count} if count else {}


def _prediction_distribution(
    estimator: Any, signature: Signature, records: Sequence[Record]
) -> dict[str, object] | None:
    """Return the distribution of the predictions for the rows that the model answers."""
    accepted = [records[place] for place in answered_rows(estimator, signature, list(records))]
    if not accepted or "prediction" not in signature.outputs:
        return None
    try:
        batch = Validator(signature, len(accepted)).validate(accepted)
        predictions = json_values(ArtifactServable(estimator, signature).run(batch, ("prediction",))["prediction"])
    except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
        return None
    if any(isinstance(prediction, list | dict) for prediction in predictions):
        return None
    if signature.classes is None and all(isinstance(prediction, int | float) for prediction in predictions):
        return histogram(predictions)
    return count_labels(predictions)
