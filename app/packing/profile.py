"""A profile of the sample: how the values of each input, and the predictions for them, are distributed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.packing.probe import Record, answered
from app.runtime.servable import ArtifactServable
from app.signature import Signature
from app.signature.batch import json_values
from app.signature.validator import Validator
from app.signature.values import is_missing

BINS = 16
MOST_VALUES = 24
"""Of an input with more distinct values, the most frequent are told."""
MOST_INPUTS = 200
COUNTED = ("category", "boolean")


def profile_of(estimator: Any, signature: Signature, records: Sequence[Record]) -> dict[str, object]:
    """Return the number of rows, the distribution of each plain input, and that of the predictions, as JSON values.

    A distribution of numbers has equal bins: `from`, `to`, `counts`. Of labels it has `values` with their counts.
    """
    inputs: dict[str, dict[str, object]] = {}
    for spec in signature.inputs[:MOST_INPUTS]:
        values = [record.get(spec.name) for record in records]
        if spec.kind in COUNTED:
            inputs[spec.name] = counted(values)
        elif spec.kind in ("number", "integer"):
            inputs |= {spec.name: found} if (found := histogram(values)) else {}
    profile: dict[str, object] = {"rows": len(records), "inputs": inputs}
    predictions = _predictions(estimator, signature, records)
    if predictions and (distribution := _of_predictions(predictions, signature)):
        profile["prediction"] = distribution
    return profile


def histogram(values: Sequence[object]) -> dict[str, object] | None:
    """Count finite numbers in bins of equal width; return None if there are not two different ones."""
    numbers = [float(each) for each in values if isinstance(each, int | float) and math.isfinite(each)]
    if not numbers or min(numbers) == max(numbers):
        return None
    least, most = min(numbers), max(numbers)
    counts = [0] * BINS
    for number in numbers:
        counts[min(BINS - 1, int((number / 2 - least / 2) / (most / 2 - least / 2) * BINS))] += 1
    return {"from": least, "to": most, "counts": counts} | _missing(len(values) - len(numbers))


def counted(values: Sequence[Any]) -> dict[str, object]:
    """Count labels, the most frequent first."""
    there = [each for each in values if not is_missing(each)]
    found = Counter((type(each).__name__, each) for each in there).most_common()
    frequent = [[value, count] for (_, value), count in found[:MOST_VALUES]]
    others = sum(count for _, count in found[MOST_VALUES:])
    return {"values": frequent} | ({"others": others} if others else {}) | _missing(len(values) - len(there))


def _missing(count: int) -> dict[str, object]:
    return {"missing": count} if count else {}


def _predictions(estimator: Any, signature: Signature, records: Sequence[Record]) -> list[Any]:
    """Ask the model for the rows that it answers."""
    kept = [records[place] for place in answered(estimator, signature, list(records))]
    if not kept or "prediction" not in signature.outputs:
        return []
    try:
        batch = Validator(signature, len(kept)).validate(kept)
        return list(json_values(ArtifactServable(estimator, signature).run(batch, ("prediction",))["prediction"]))
    except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
        return []


def _of_predictions(predictions: list[Any], signature: Signature) -> dict[str, object] | None:
    if any(isinstance(each, list | dict) for each in predictions):
        return None
    if signature.classes is None and all(isinstance(each, int | float) for each in predictions):
        return histogram(predictions)
    return counted(predictions)
