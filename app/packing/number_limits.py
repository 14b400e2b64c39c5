"""Between which ends a model answers numbers: a logarithm none below 0, an exponential none beyond about 709.

Rows outside are refused before they reach the model, as the model would refuse them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.packing.probe import FLOAT64_NEARLY_MAX, Record, attempt, edited, passing
from app.signature import Input, Signature
from app.signature.kinds import integer_limits_of, limits_of

ROWS_AGREEING = 3
"""An end is one of its input alone if this many rows agree on it."""

MAX_DIFFERENT_ENDS = 30
MAX_ASKED_EACH = 30
"""Of more inputs that seem to share an end only some are asked."""


def with_number_limits(estimator: Any, draft: Signature, records: Sequence[Record]) -> Signature:
    """Marks the least and the most number that the model answers, where there are such ends.

    They are looked for on each side of what was seen. An end that moves with other inputs is none of its own.
    """
    complete = [record for record in records if None not in record.values()] or list(records)
    step = max(len(complete) // ROWS_AGREEING, 1)
    for side in (0, 1):
        found = _Side(side, estimator, draft, complete[::step][:ROWS_AGREEING], records).ends()
        if side == 0:
            draft = edited(draft, lambda s: replace(s, least=found.get(s.name, s.least)))  # noqa: B023 (used at once)
        else:
            draft = edited(draft, lambda s: replace(s, most=found.get(s.name, s.most)))  # noqa: B023 (used at once)
    return draft


class _Side:
    """The ends on one side: 0 is that of the small numbers, 1 that of the large ones."""

    def __init__(
        self, side: int, estimator: Any, draft: Signature, rows: Sequence[Record], records: Sequence[Record]
    ) -> None:
        self._side = side
        self._estimator = estimator
        self._draft = draft
        self._rows = rows
        self._records = records
        self._specs = {spec.name: spec for spec in draft.inputs if spec.kind in ("number", "integer")}

    def ends(self) -> dict[str, float]:
        """The end of each input that has one."""
        seen = [name for name in self._specs if self._rows[0][name] is not None]
        tried = {name: _limits(self._specs[name])[self._side] for name in seen}
        found: dict[str, float] = {}
        for _ in range(MAX_DIFFERENT_ENDS):
            name = self._one_failing(tried)
            if name is None:
                break
            end = self._bisected(name, tried.pop(name))
            if self._is_end(end, name):
                sharing = [name, *self._sharing(end, [other for other in tried if other not in found])]
                found |= dict.fromkeys(sharing, end)
                tried |= dict.fromkeys(sharing, end)
        return found

    def _answered(self, values: dict[str, float], row: Record | None = None) -> bool:
        return attempt(self._estimator, self._draft, [(row or self._rows[0]) | values]) is None

    def _one_failing(self, tried: dict[str, float]) -> str | None:
        """An input for whose value alone the model fails; None where it answers all of them at once."""
        names = list(tried)
        if self._answered(tried):
            return None
        while len(names) > 1:
            half = names[: len(names) // 2]
            names = names[len(names) // 2 :] if self._answered({name: tried[name] for name in half}) else half
        return names[0] if names and not self._answered({names[0]: tried[names[0]]}) else None

    def _sharing(self, end: float, names: Sequence[str]) -> list[str]:
        """Those of the inputs that have the same end."""
        step = max(len(names) // ROWS_AGREEING, 1)
        if len(names) > MAX_ASKED_EACH and all(self._is_end(end, name) for name in names[::step]):
            return passing(names, lambda some: self._answered(dict.fromkeys(some, end)))
        return [name for name in names[:MAX_ASKED_EACH] if self._is_end(end, name)]

    def _is_end(self, end: float, name: str) -> bool:
        """Whether the model answers up to this end and not beyond, whatever the other inputs are."""
        seen = [record[name] for record in self._records if record[name] is not None]
        if end > min(seen) if self._side == 0 else end < max(seen):
            return False
        away = math.inf if self._side else -math.inf
        outside = math.nextafter(end, away)
        if self._specs[name].kind == "integer":
            if end != int(end):
                return False
            outside = int(end) + (1 if self._side else -1)
        return all(self._answered({name: end}, row) and not self._answered({name: outside}, row) for row in self._rows)

    def _bisected(self, name: str, outside: float) -> float:
        """The last number from what was seen towards `outside` that is answered."""
        inside, whole = self._rows[0][name], self._specs[name].kind == "integer"
        near, far = (int(inside), int(outside)) if whole else (_ordinal(inside), _ordinal(outside))
        while abs(far - near) > 1:
            middle = (near + far) // 2
            if self._answered({name: middle if whole else _number(middle)}):
                near = middle
            else:
                far = middle
        return near if whole else _number(near) + 0.0  # of the two zeros the one without a sign


def _limits(spec: Input) -> tuple[float, float]:
    if spec.kind == "integer":
        return integer_limits_of(spec)
    least, most = limits_of(spec)
    return max(least, -FLOAT64_NEARLY_MAX), min(most, FLOAT64_NEARLY_MAX)


def _ordinal(number: float) -> int:
    """The position of a number among all of float64, so that halves are halves of what is left to look at."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits) if bits >= 0 else -(bits & (2**63 - 1))


def _number(ordinal: int) -> float:
    (number,) = struct.unpack("<d", struct.pack("<Q", ordinal if ordinal >= 0 else 2**63 - ordinal))
    return float(number)
