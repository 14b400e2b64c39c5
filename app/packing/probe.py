"""Probe a model with values: which inputs may be missing or hold unknown categories, and the limits of numbers.

Serving refuses numbers outside these limits before they reach the model, as the model would.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from app.runtime.proving import same
from app.runtime.servable import METHOD_OF_OUTPUT, by_row, call, frame_of
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch, json_values
from app.signature.kinds import KINDS, integer_limits_of, limits_of
from app.signature.validator import Validator

MAX_SAMPLE_ROWS = 1000
BATCH_SIZES = (1, 2, 31)
"""Numbers of rows that are run together, to compare two ways to run a model."""
MANY_COLUMNS, FEW_COLUMNS = 50, 10
FLOAT64_NEARLY_MAX = 1.7e308
LARGEST_TRIED = (1e300, 1e200, 1e150, 1e100, 1e38, 1e36, 1e30, 1e25, 1e20, 1e15)
MARKERS = ("nan", "none", "na")
UNSEEN_TEXT = "\x00never seen"

Record = dict[str, Any]
T = TypeVar("T")


def attempt(
    estimator: Any, signature: Signature, records: list[Record], output: str = "prediction"
) -> Exception | None:
    """Run the model on records as the signature passes them; return its error, or None if it answers each record."""
    try:
        batch = batch_of(signature, records)
        result = call(estimator, output, frame_of(batch, signature))
        rows = len(result[0]) if isinstance(result, list) else result.shape[0]
        return None if rows == len(records) else ValueError(f"it gave {rows} answers for {len(records)} rows")
    except Exception as error:  # noqa: BLE001 (around run: whatever a model may raise)
        return error


def answered_rows(estimator: Any, signature: Signature, records: list[Record]) -> list[int]:
    """Return the positions of the records that the model answers: nearly always all of them."""
    return passing(range(len(records)), lambda rows: attempt(estimator, signature, [records[r] for r in rows]) is None)


def spread(records: Sequence[Record], most: int) -> list[Record]:
    """Return at most this many records, at equal distances from the first to the last."""
    places = np.linspace(0, len(records) - 1, min(most, len(records))).astype(int)
    return [records[place] for place in places]


def small_batches(records: Sequence[Record], sizes: Sequence[int] = BATCH_SIZES) -> Iterator[list[Record]]:
    """Yield the first records in batches of these sizes, at most four of each size."""
    for size in sizes:
        yield from (list(records[start : start + size]) for start in range(0, min(len(records), 4 * size), size))


def batch_of(signature: Signature, records: list[Record]) -> Batch:
    """Return the batch that a validator makes of records, without its schema, which takes longer to make than a run.

    Raises:
        ValueError: A value is not accepted.
    """
    if signature.layout is Layout.RECORDS:
        return Validator(signature, MAX_SAMPLE_ROWS).validate(records)
    columns = {s.name: KINDS[s.kind].column([record[s.name] for record in records], s) for s in signature.inputs}
    if refused := [name for name, column in columns.items() if column is None]:
        raise ValueError(f"a value of {refused[0]!r} is not accepted")
    return Batch({name: column for name, column in columns.items() if column is not None}, len(records))


def answers(estimator: Any, signature: Signature, records: list[Record]) -> list[Any] | None:
    """Return the prediction and the scores of each record, as JSON values; None if the model fails."""
    names = [n for n, method in METHOD_OF_OUTPUT.items() if n != "transformed" and hasattr(estimator, method)]
    try:
        batch = batch_of(signature, records)
        features = frame_of(batch, signature)
        found = [json_values(by_row(call(estimator, name, features))) for name in names or ["prediction"]]
        complete = all(len(one) == len(records) for one in found)
        return [list(row) for row in zip(*found, strict=True)] if complete else None
    except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
        return None


def with_nulls(
    estimator: Any, draft: Signature, record: Record, learned: Mapping[str, str | None]
) -> tuple[Signature, list[str]]:
    """Mark the inputs that may be missing, because the model still answers without them.

    `learned` has for each input the marker of missing values that the model has learned; without one, the first marker
    that the model accepts is taken. `record` is a row that the model accepts.

    Returns:
        The signature, and the inputs for which the model gives another answer to another marker.
    """

    def answers_nulls(marker: str, names: Sequence[str]) -> bool:
        marked = edited(draft, lambda s: with_marker(s, marker) if s.name in names else s)
        return attempt(estimator, marked, [record | dict.fromkeys(names)]) is None

    nullable: dict[str, str] = {}
    for marker in MARKERS:
        waiting = [
            s.name
            for s in draft.inputs
            if record[s.name] is not None and s.name not in nullable and marker in markers_of(s, learned.get(s.name))
        ]
        for alike in (None, *MARKERS):
            names = [name for name in waiting if learned.get(name) == alike]
            # A model probably treats many inputs alike: if none of a few passes, try no others.
            few = names[:: len(names) // FEW_COLUMNS] if len(names) > MANY_COLUMNS else []
            if not few or any(answers_nulls(marker, [name]) for name in few):
                nullable |= dict.fromkeys(passing(names, partial(answers_nulls, marker)), marker)
    for spec in draft.inputs:
        if record[spec.name] is None:
            nullable[spec.name] = markers_of(spec, learned.get(spec.name))[0]
    signature = edited(draft, lambda s: with_marker(s, nullable[s.name]) if s.name in nullable else s)
    objects = [spec.name for spec in signature.inputs if spec.name in nullable and _holds_objects(spec)]
    indifferent = passing(objects, lambda names: not _tells_apart(estimator, signature, record, names))
    return signature, [name for name in objects if name not in indifferent]


def markers_of(spec: Input, learned: str | None) -> Sequence[str]:
    """Return the markers that may stand for a missing value of an input, the likeliest first."""
    if not _holds_objects(spec):
        return ("na",) if spec.missing == "na" else ("nan",)
    return MARKERS[:2] if learned is None else (learned,)


def with_marker(spec: Input, marker: str) -> Input:
    """Return the input with this marker for missing values, and with a dtype that can hold it."""
    strings = spec.dtype == "str" and marker != "nan"
    return replace(spec, nullable=True, missing=marker, dtype="object" if strings else spec.dtype)


def _holds_objects(spec: Input) -> bool:
    """Return whether the column of an input has dtype object if a value is missing."""
    return spec.dtype in ("object", "str") or (spec.dtype == "bool" and spec.missing != "na")


def _tells_apart(estimator: Any, signature: Signature, record: Record, names: Sequence[str]) -> bool:
    """Return whether the model gives another answer if missing values of these inputs are None instead of NaN."""

    def answered(marker: str) -> list[Any] | None:
        other = edited(signature, lambda s: with_marker(s, marker) if s.name in names else s)
        return answers(estimator, other, [record | dict.fromkeys(names)])

    as_nan, as_none = map(answered, MARKERS[:2])
    return as_nan is not None and as_none is not None and not same(as_nan, as_none)


def passing(names: Sequence[T], passes: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return the names that pass, trying all at once and then by halves, so that many names need few tries."""
    if not names or passes(names):
        return list(names)
    middle = len(names) // 2
    return passing(names[:middle], passes) + passing(names[middle:], passes) if middle else []


def with_unseen(estimator: Any, draft: Signature, record: Record) -> Signature:
    """Mark whether each category input refuses or accepts unknown categories."""

    def refuses(spec: Input) -> bool:
        known = spec.categories or ()
        unseen = UNSEEN_TEXT if str in map(type, known) else max(map(float, known), default=0.0) + 1.0
        return attempt(estimator, permissive(draft), [record | {spec.name: unseen}]) is not None

    return edited(
        draft, lambda s: replace(s, unseen="reject" if refuses(s) else "accept") if s.categories is not None else s
    )


def with_largest(estimator: Any, draft: Signature, record: Record) -> Signature:
    """Mark how large numbers may be if the model fails on larger ones; trees compute in float32."""
    numbers = [spec.name for spec in draft.inputs if spec.kind == "number" and spec.dtype == "float64"]
    for largest in (FLOAT64_NEARLY_MAX, *LARGEST_TRIED):
        tried = [record | dict.fromkeys(numbers, sign * largest) for sign in (1.0, -1.0)]
        if all(attempt(estimator, draft, [row]) is None for row in tried):
            if largest == FLOAT64_NEARLY_MAX:
                return draft
            return edited(draft, lambda s: replace(s, largest=largest) if s.name in numbers else s)  # noqa: B023
    return draft


def permissive(signature: Signature) -> Signature:
    """Return the signature with all inputs nullable and open, so that the model itself refuses values."""
    return edited(signature, lambda s: replace(s, nullable=True, unseen="accept"))


def edited(signature: Signature, edit: Callable[[Input], Input]) -> Signature:
    """Return the signature with each input edited."""
    return replace(signature, inputs=tuple(map(edit, signature.inputs)))


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
    rows = complete[::step][:ROWS_AGREEING]
    least = _Side(0, estimator, draft, rows, records).limits()
    draft = edited(draft, lambda spec: replace(spec, least=least.get(spec.name, spec.least)))
    most = _Side(1, estimator, draft, rows, records).limits()
    return edited(draft, lambda spec: replace(spec, most=most.get(spec.name, spec.most)))


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
        """Return whether the model accepts numbers up to this limit and not beyond, in each of the rows tried."""
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
