"""Turn columns of Arrow into the columns of a batch, by the rules of the signature, without an object for each value.

The rules are those of `app.signature.kinds`: numbers are compared as whole columns, and of other kinds each distinct
value is checked once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.signature import Input
from app.signature.arrow_values import numbers_of, plain_values
from app.signature.batch import Coded, Column
from app.signature.cells import reader_of
from app.signature.kinds import KINDS, integer_limits_of, limits_of, objects, rule_of

LIST_BYTES = 2**30
EXACT = 2.0**53
"""Integers below it are exact in float64."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CheckedColumn:
    """A column of which some values may be bad.

    `good` marks the accepted values; None if all are. `chosen` returns the column of the rows at a mask, which must be
    good; of all rows for None.
    """

    good: Mask | None
    chosen: Callable[[Mask | None], Column | Coded]


def check(array: Any, spec: Input, is_text: bool) -> CheckedColumn:
    """Check a pyarrow array by the rules of an input. Cells of text are read as those of CSV.

    Raises:
        NotImplementedError: No kind of input takes the type.
    """
    if not is_text and spec.shape is None:
        if spec.kind == "number" and _is_number(array.type):
            return _numbers(array, spec)
        if spec.kind == "integer" and _is_number(array.type):
            found = _integers(array, spec)
            if found is not None:
                return found
    return _distinct(array, spec, is_text)


def _is_number(of: Any) -> bool:
    from pyarrow import types

    return bool(types.is_float64(of) or types.is_float32(of) or (types.is_integer(of) and not types.is_uint64(of)))


def _floats(array: Any) -> NDArray[np.float64]:
    """Return an array of numbers in float64, with NaN for missing values."""
    values, missing = numbers_of(array)
    if missing is None:
        return values.astype(np.float64, copy=False)
    floats = values.astype(np.float64)
    floats[missing] = np.nan
    return floats


def _numbers(array: Any, spec: Input) -> CheckedColumn:
    values = _floats(array)
    least, most = limits_of(spec)
    good: Mask | None = None
    # NaN is the smallest and the largest of numbers with NaN, and is within no limits.
    if len(values) and not (values.min() >= least and values.max() <= most):
        good = (values >= least) & (values <= most)
        if spec.may_be_missing:
            good |= np.isnan(values)
        good = None if good.all() else good

    def chosen(rows: Mask | None) -> Column:
        return (values if rows is None else values[rows]).astype(spec.dtype, copy=False)

    return CheckedColumn(good, chosen)


def _integers(array: Any, spec: Input) -> CheckedColumn | None:
    """Check a column of integers; None if floats would not hold them exactly."""
    from pyarrow import types

    least, most = integer_limits_of(spec)
    values: NDArray[Any]
    if types.is_integer(array.type) and not array.null_count:
        values, _ = numbers_of(array)
        missing = np.zeros(0, np.bool_)
        good = (values >= least) & (values <= most)
    else:
        values = _floats(array)
        missing = np.isnan(values)
        if (np.abs(values) >= EXACT).any():
            return None
        good = (values == np.floor(values)) & (values >= least) & (values <= most)
        if spec.may_be_missing:
            good |= missing

    def chosen(rows: Mask | None) -> Column:
        kept = values if rows is None else values[rows]
        holes = (missing if rows is None else missing[rows]) if len(missing) else missing
        if not holes.any():
            return kept.astype(spec.dtype)
        if spec.missing == "na":
            return objects([None if hole else int(value) for value, hole in zip(kept, holes, strict=True)], spec)
        return kept.astype(np.float64)

    return CheckedColumn(None if good.all() else good, chosen)


def _distinct(array: Any, spec: Input, is_text: bool) -> CheckedColumn:
    """Check each distinct value once. Lists and structs are taken one by one."""
    values, codes = _coded(array)
    if is_text:
        read = reader_of(spec)
        values = [read("" if value is None else value) for value in values]
    rule = rule_of(spec)
    accepted = np.array([rule(value) is None for value in values], dtype=np.bool_)
    good = None if accepted.all() else accepted[codes]

    def chosen(rows: Mask | None) -> Coded:
        places = codes if rows is None else codes[rows]
        # Only the values that are there: a missing one among them may change the dtype.
        used = np.flatnonzero(np.bincount(places, minlength=len(values)))
        column = KINDS[spec.kind].column([values[place] for place in used.tolist()], spec)
        if column is None:
            raise NotImplementedError(f"values of input {spec.name!r} pass its rule and make no column")
        position = np.zeros(len(values) + 1, dtype=np.intp)
        position[used] = np.arange(len(used))
        return Coded(column, position[places])

    return CheckedColumn(good, chosen)


def _coded(array: Any) -> tuple[list[Any], NDArray[np.intp]]:
    """Return the distinct values of an array as plain values, and the place of each row's value among them."""
    import pyarrow as pa

    types = pa.types
    if not types.is_dictionary(array.type):
        if types.is_nested(array.type) or types.is_null(array.type):
            return plain_values(array, LIST_BYTES), np.arange(len(array), dtype=np.intp)
        try:
            array = array.dictionary_encode()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            return plain_values(array, LIST_BYTES), np.arange(len(array), dtype=np.intp)
    values = plain_values(array.dictionary, LIST_BYTES)
    indices, missing = numbers_of(array.indices)
    codes = indices.astype(np.intp)
    if missing is not None:
        codes[missing] = len(values)
        values = [*values, None]
    return values, codes
