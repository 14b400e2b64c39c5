"""Warn about accepted values that are new to the model: unseen categories, numbers outside the training range.

Whole columns are compared after they were accepted. A model with nothing to watch has no `Watch`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ABSENT, FieldError, InvalidInstances
from app.signature import Input, Signature, is_missing
from app.signature.batch import Batch, Column
from app.signature.field_errors import place_of

MAX_REPORTED_WARNINGS = 100
MAX_SHOWN_CATEGORIES = 100
RANGED = ("number", "integer", "array")

Place = Callable[[int], tuple[str, bool | None]]
"""Returns the pointer of an instance, and whether it is a row, as `in_row` does."""


@dataclass(frozen=True, slots=True)
class Warnings:
    """The first places with new values, and the number of further places."""

    found: tuple[FieldError, ...] = ()
    more: int = 0

    def document(self) -> dict[str, Any]:
        """Return the warnings as members of an answer."""
        return {"warnings": [place.document() for place in self.found], "warnings_more": self.more}


NO_WARNINGS = Warnings()


class Watch:
    """The check of accepted batches of one signature for new values. Immutable, safe to share between threads."""

    def __init__(self, signature: Signature) -> None:
        ranges = signature.out_of_range
        self._unseen = [
            (at, spec, frozenset(spec.categories))
            for at, spec in enumerate(signature.inputs)
            if spec.categories is not None and spec.unseen == "warn"
        ]
        self._ranged = [
            (at, spec, spec.minimum, spec.maximum)
            for at, spec in enumerate(signature.inputs)
            if ranges in ("warn", "reject") and spec.kind in RANGED
            if spec.minimum is not None and spec.maximum is not None
        ]
        self._rejects = ranges == "reject"

    def __bool__(self) -> bool:
        return bool(self._unseen or self._ranged)

    def check(self, batch: Batch, place: Place) -> Warnings:
        """Return the warnings of a batch, in the order of its rows.

        Raises:
            InvalidInstances: numbers are outside the training range, and the model rejects these.
        """
        found, more = _reported(self._marks(batch, place), place, _was_not_seen)
        return Warnings(tuple(found), more) if found else NO_WARNINGS

    def check_each(self, batch: Batch, place: Place) -> dict[int, Warnings]:
        """Return the warnings by row, for rows that have some. Raises as `check` does."""
        marks = self._marks(batch, place)
        new = [marked for *_, marked in marks]
        rows = np.flatnonzero(np.logical_or.reduce(new)).tolist() if new else []
        warnings = {}
        for row in rows:
            alone = [(at, spec, column[row : row + 1], marked[row : row + 1]) for at, spec, column, marked in marks]
            found, more = _reported(alone, [place(row)].__getitem__, _was_not_seen)
            warnings[row] = Warnings(tuple(found), more)
        return warnings

    def _marks(self, batch: Batch, place: Place) -> list[Mark]:
        """Return the new values by input; raise an error if they are rejected."""
        if batch.rows == 0:
            return []
        columns = batch.columns
        outside = [
            (at, spec, columns[spec.name], _outside(columns[spec.name], low, high))
            for at, spec, low, high in self._ranged
        ]
        if self._rejects:
            errors, more = _reported(outside, place, _must_be_within)
            if errors:
                raise InvalidInstances(errors, len(errors) + more)
            outside = []
        new = [(at, spec, columns[spec.name], _unknown(columns[spec.name], known)) for at, spec, known in self._unseen]
        return [*outside, *new]


Mark = tuple[int, Input, Column, NDArray[np.bool_]]
"""The position of an input, the input, its column, and a mask of the rows to report."""


def _outside(column: Column, low: float, high: float) -> NDArray[np.bool_]:
    if column.dtype == object:  # integers beside missing ones
        return np.array([value is not None and not low <= value <= high for value in column.tolist()], dtype=np.bool_)
    outside = ((column < low) | (column > high)).reshape(len(column), math.prod(column.shape[1:]))
    rows: NDArray[np.bool_] = np.logical_or.reduce(outside, axis=1)
    return rows


def _unknown(column: Column, known: frozenset[Any]) -> NDArray[np.bool_]:
    values = column.tolist()
    if set(values) <= known:
        return np.zeros(len(values), dtype=np.bool_)
    return np.array([value not in known and not is_missing(value) for value in values], dtype=np.bool_)


def _reported(marks: list[Mark], place: Place, say: Callable[[Input], str]) -> tuple[list[FieldError], int]:
    """Return the first marked places by row, each with its message, and the number of further ones."""
    total = sum(int(np.count_nonzero(marked)) for *_, marked in marks)
    if not total:
        return [], 0
    places = [
        (row, at, turn)
        for turn, (at, _, _, marked) in enumerate(marks)
        for row in np.flatnonzero(marked)[:MAX_REPORTED_WARNINGS].tolist()
    ]
    found = []
    for row, at, turn in sorted(places)[:MAX_REPORTED_WARNINGS]:
        _, spec, column, _ = marks[turn]
        found.append(FieldError(place_of(*place(row), spec.name, at), say(spec), _value(column, row)))
    return found, total - len(found)


def _value(column: Column, row: int) -> object:
    if column.ndim > 1:
        return ABSENT  # an array is too long for an error
    value = column[row : row + 1].tolist()[0]
    return value[:100] + "…" if isinstance(value, str) and len(value) > 100 else value


def _range(spec: Input) -> str:
    return f"{spec.minimum:.6g} to {spec.maximum:.6g}"


def _must_be_within(spec: Input) -> str:
    return f"must be within the range seen in training: {_range(spec)}"


def _was_not_seen(spec: Input) -> str:
    if spec.shape is not None:
        return f"has numbers outside the range seen in training: {_range(spec)}"
    if spec.categories is None:
        return f"is outside the range seen in training: {_range(spec)}"
    more = ", …" if len(spec.categories) > MAX_SHOWN_CATEGORIES else ""
    return "was not seen in training; seen: " + ", ".join(map(str, spec.categories[:MAX_SHOWN_CATEGORIES])) + more
