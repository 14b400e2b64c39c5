"""Decode JSON rows of numbers with simdjson, into a matrix at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import TooManyInstances

# simdjson is optional, because it has no wheels for some machines.
simdjson: Any = importlib.import_module("simdjson") if importlib.util.find_spec("simdjson") else None

WORTH_BYTES = 16_384
"""Below this size the msgspec decoder is as fast."""
MOST_MEMBERS = 2
ENVELOPES = (["instances"], ["instances", "outputs"], ["outputs", "instances"])

Numbers = tuple[NDArray[np.float64], tuple[str, ...] | None]


class NumberRows:
    """Decodes rows of finite numbers, without missing ones, within the limits of their columns."""

    def __init__(self, limits: Sequence[tuple[float, float]], outputs: Sequence[str], max_instances: int) -> None:
        self._least, self._most = np.array(limits).reshape(-1, 2).T
        self._outputs = frozenset(outputs)
        self._max_instances = max_instances

    def read(self, body: bytes) -> Numbers | None:
        """Return the rows of a document and the requested outputs; None if it needs another decoder.

        Raises:
            TooManyInstances: it has more rows than the limit.
        """
        if simdjson is None or len(body) < WORTH_BYTES:
            return None
        try:
            document = simdjson.Parser().parse(body)
            outputs: Any = None
            lists = 1
            if isinstance(document, simdjson.Object):
                if len(document) > MOST_MEMBERS or list(document.keys()) not in ENVELOPES:
                    return None
                if "outputs" in document and document["outputs"] is not None:
                    outputs = document["outputs"].as_list()
                    lists += 1
                document = document["instances"]
            rows, columns = len(document), len(self._least)
            if rows > self._max_instances:
                raise TooManyInstances(rows, self._max_instances)
            # as_buffer flattens nested lists too: there must be one list for each row, and none inside.
            if body.count(b"[") != rows + lists or {len(row) for row in document} != {columns}:
                return None
            matrix = np.frombuffer(document.as_buffer(of_type="d"), dtype=np.float64).reshape(rows, columns)
            known = self._outputs.issuperset(outputs or ())
        except TooManyInstances:
            raise
        except Exception:  # noqa: BLE001 (simdjson raises many kinds of errors; the slow path reports them)
            return None
        if not (known and rows):
            return None
        if not ((matrix.min(axis=0) >= self._least).all() and (matrix.max(axis=0) <= self._most).all()):
            return None
        return matrix, tuple(dict.fromkeys(outputs)) if outputs else None
