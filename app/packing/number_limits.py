"""Find the least and the greatest number that a model accepts in each input, such as 0 for a square root.

Serving refuses rows outside these limits before they reach the model, as the model would.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.packing.probe import FLOAT64_NEARLY_MAX, Record, attempt, edited, passing
from app.signature import Input, Signature
from app.signature.kinds import integer_limits_of, limits_of

ROWS_AGREEING = 3
"""A limit belongs to one input if this many rows agree on it."""

MAX_DIFFERENT_LIMITS = 30
MAX_TRIED_EACH = 30
"""If more inputs seem to share a limit, only some of them are tried one by one."""


def with_number_limits(estimator: Any, draft: Signature, records: Sequence[Record]) -> Signature:
    """Return the signature with the least and the greatest number that the model accepts in each input.

    A limit that depends on other inputs is left out. `records` are rows that the model accepts.
    """
    complete = [record for record in records if None not in record.values()] or list(records)
    step = max(len(complete) // ROWS_AGREEING, 1)
    for side in (0, 1):
        found = _Side(side, estimator, draft, complete[::step][:ROWS_AGREEING], records).limits()
        if side == 0:
            draft = edited(draft, lambda s: replace(s, least=found.get(s.name, s.least)))  # noqa: B023 (used at once)
        else:
            draft = edited(draft, lambda s: replace(s, most=found.get(s.name, s.most)))  # noqa: B023 (used at once)
    return draft


@dataclass(slots=True)
class _Side:
    """The search for limits on one side: 0 for the least numbers, 1 for the greatest."""

    side: int
    estimator: Any
    draft: Signature
    rows: Sequence[Record]
    records: Sequence[Record]
    _specs: dict[str, Input] = field(init=False)

    def __post_init__(self) -> None:
        self._specs = {spec.name: spec for spec in self.draft.inputs if spec.kind in ("number", "integer")}

    def limits(self) -> dict[str, float]:
        """Return the limit of each input that has one."""
        present = [name for name in self._specs if self.rows[0][name] is not None]
        tried = {name: _limits(self._specs[name])[self.side] for name in present}
        found: dict[str, float] = {}
        for _ in range(MAX_DIFFERENT_LIMITS):
            name = self._one_failing(tried)
            if name is None:
                break
            limit = self._bisected(name, tried.pop(name))
            if self._is_limit(limit, name):
                sharing = [name, *self._sharing(limit, [other for other in tried if other not in found])]
                found |= dict.fromkeys(sharing, limit)
                tried |= dict.fromkeys(sharing, limit)
        return found

    def _accepts(self, values: dict[str, float], row: Record | None = None) -> bool:
        return attempt(self.estimator, self.draft, [(row or self.rows[0]) | values]) is None

    def _one_failing(self, tried: dict[str, float]) -> str | None:
        """Return an input whose value alone makes the model fail; None if the model accepts all values at once."""
        names = list(tried)
        if self._accepts(tried):
            return None
        while len(names) > 1:
            half = names[: len(names) // 2]
            names = names[len(names) // 2 :] if self._accepts({name: tried[name] for name in half}) else half
        return names[0] if names and not self._accepts({names[0]: tried[names[0]]}) else None

    def _sharing(self, limit: float, names: Sequence[str]) -> list[str]:
        """Return the inputs that have the same limit."""
        step = max(len(names) // ROWS_AGREEING, 1)
        if len(names) > MAX_TRIED_EACH and all(self._is_limit(limit, name) for name in names[::step]):
            return passing(names, lambda some: self._accepts(dict.fromkeys(some, limit)))
        return [name for name in names[:MAX_TRIED_EACH] if self._is_limit(limit, name)]

    def _is_limit(self, limit: float, name: str) -> bool:
        """Whether the model accepts numbers up to this limit and not beyond, in each of the rows tried."""
        values = [record[name] for record in self.records if record[name] is not None]
        if limit > min(values) if self.side == 0 else limit < max(values):
            return False
        away = math.inf if self.side else -math.inf
        outside = math.nextafter(limit, away)
        if self._specs[name].kind == "integer":
            if limit != int(limit):
                return False
            outside = int(limit) + (1 if self.side else -1)
        return all(self._accepts({name: limit}, row) and not self._accepts({name: outside}, row) for row in self.rows)

    def _bisected(self, name: str, outside: float) -> float:
        """Return the last number towards `outside` that the model accepts."""
        inside, whole = self.rows[0][name], self._specs[name].kind == "integer"
        near, far = (int(inside), int(outside)) if whole else (_ordinal(inside), _ordinal(outside))
        while abs(far - near) > 1:
            middle = (near + far) // 2
            if self._accepts({name: middle if whole else _number(middle)}):
                near = middle
            else:
                far = middle
        return near if whole else _number(near) + 0.0  # turns -0.0 into 0.0


def _limits(spec: Input) -> tuple[float, float]:
    if spec.kind == "integer":
        return integer_limits_of(spec)
    least, most = limits_of(spec)
    return max(least, -FLOAT64_NEARLY_MAX), min(most, FLOAT64_NEARLY_MAX)


def _ordinal(number: float) -> int:
    """Return the position of a number in the order of all float64 numbers."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits) if bits >= 0 else -(bits & (2**63 - 1))


def _number(ordinal: int) -> float:
    (number,) = struct.unpack("<d", struct.pack("<Q", ordinal if ordinal >= 0 else 2**63 - ordinal))
    return float(number)
