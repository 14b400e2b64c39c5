"""Many rows of numbers in JSON straight to a matrix, where simdjson is installed: no Python object for each number."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# It has no wheels for some machines, and the decoder does without it.
simdjson: Any = importlib.import_module("simdjson") if importlib.util.find_spec("simdjson") else None

WORTH_BYTES = 16_384
"""Below it the decoder is as quick."""
FORMS = (["instances"], ["instances", "outputs"], ["outputs", "instances"])
MOST_MEMBERS = 2

Numbers = tuple[NDArray[np.float64], tuple[str, ...] | None]


class NumberRows:
    """Reads rows of finite numbers, none of them missing, each within the least and the most of its column."""

    def __init__(self, limits: Sequence[tuple[float, float]], outputs: Sequence[str], max_instances: int) -> None:
        self._least, self._most = np.array(limits).reshape(-1, 2).T
        self._outputs = frozenset(outputs)
        self._max_instances = max_instances

    def read(self, body: bytes) -> Numbers | None:
        """The rows of a document, bare or in an envelope, and the outputs asked for; None where others have to look."""
        if simdjson is None or len(body) < WORTH_BYTES:
            return None
        try:
            document = simdjson.Parser().parse(body)
            outputs: Any = None
            lists = 1
            if isinstance(document, simdjson.Object):
                if len(document) > MOST_MEMBERS or list(document.keys()) not in FORMS:
                    return None
                if "outputs" in document and document["outputs"] is not None:
                    outputs = document["outputs"].as_list()
                    lists += 1
                document = document["instances"]
            rows, columns = len(document), len(self._least)
            # With one list for each row and none inside, all that it flattens stands where it belongs.
            if body.count(b"[") != rows + lists or {len(row) for row in document} != {columns}:
                return None
            matrix = np.frombuffer(document.as_buffer(of_type="d"), dtype=np.float64).reshape(rows, columns)
            known = self._outputs.issuperset(outputs or ())
        except Exception:  # noqa: BLE001 (simdjson has many for what is no such document; others look)
            return None
        if not (known and 0 < rows <= self._max_instances):
            return None
        if not ((matrix.min(axis=0) >= self._least).all() and (matrix.max(axis=0) <= self._most).all()):
            return None
        return matrix, tuple(dict.fromkeys(outputs)) if outputs else None
