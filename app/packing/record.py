"""Record the answers of an artifact to some hundred rows, so that other libraries can be compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from app.packing.probe import Record, answered
from app.packing.stress import Pools
from app.runtime.servable import ArtifactServable
from app.signature import Signature
from app.signature.batch import json_values
from app.signature.schema import Validator
from app.storage.recorded import Recorded

MAX_ROWS = 300
MAX_CELLS = 200_000
MIN_ROWS = 20
RECORDS, CROSSED, NEAR, FAR = 100, 70, 70, 30
"""How many rows are seen rows, rows of seen values, and rows with values near to and far from the seen ones.

In the other rows one input is changed.
"""


def record(estimator: Any, signature: Signature, records: Sequence[Record]) -> Recorded | None:
    """Ask the model for a few hundred rows as one batch; return None if it answers none of them."""
    cells = sum(spec.width for spec in signature.inputs) or 1
    rows = _rows(signature, records)[: max(MIN_ROWS, min(MAX_ROWS, MAX_CELLS // cells))]
    kept = [rows[position] for position in answered(estimator, signature, rows)]
    if not kept:
        return None
    try:
        batch = Validator(signature, MAX_ROWS).validate(kept)
        outputs = ArtifactServable(estimator, signature).run(batch, signature.outputs)
    except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
        return None
    return Recorded(kept, {name: json_values(array) for name, array in outputs.items()})


def _rows(signature: Signature, records: Sequence[Record]) -> list[Record]:
    seen = [records[i * len(records) // RECORDS] for i in range(RECORDS)] if len(records) > RECORDS else list(records)
    try:
        pools = Pools(signature, records)
        made = [*pools.crossed(CROSSED), *pools.mixed(NEAR, far=False), *pools.mixed(FAR, far=True)]
        made += islice(pools.one_by_one(), MAX_ROWS)
    except (KeyError, TypeError, ValueError):  # arrays, images, records: their other possible values are unknown
        made = []
    # In turns, so that there are rows of both kinds even if only a few are kept.
    return [row for pair in zip(seen, made, strict=False) for row in pair] + seen[len(made) :] + made[len(seen) :]
