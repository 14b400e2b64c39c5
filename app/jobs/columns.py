"""Turn Arrow columns into the columns of a batch, and check them, without a Python object for each value.

The rules are those of `app.signature.kinds`. Numbers are compared as whole columns. For other kinds, each distinct
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
"""float64 holds all integers below this number exactly."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CheckedColumn:
    """A column and its accepted rows.

    Attributes:
        good: A mask of the accepted rows; None if all are accepted.
        select: Returns the column for the rows of a mask, which must all be good; for all rows if the mask is None.
    """

    good: Mask | None
    select: Callable[[Mask | None], Column | Coded]


def check(array: Any, spec: Input, is_text: bool) -> CheckedColumn:
    """Check a pyarrow array by the rules of an input. With `is_text`, values are parsed like cells of CSV.

    Raises:
        NotImplementedError: No input kind accepts the type of the array.
    """
    if not is_text and spec.shape is None:
        if spec.kind == "number" and _is_number(array.type):
            return _check_numbers(array, spec)
        if spec.kind == "integer" and _is_number(array.type):
            column = _check_integers(array, spec)
            if column is not None:
                return column
    return _check_distinct(array, spec, is_text)


def _is_number(arrow_type: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_float64(arrow_type)
        or types.is_float32(arrow_type)
        or (types.is_integer(arrow_type) and not types.is_uint64(arrow_type))
    )


def _floats(array: Any) -> NDArray[np.float64]:
    """Return the numbers as float64, with NaN for missing values."""
    values, missing = numbers_of(array)
    if missing is None:
        return values.astype(np.float64, copy=False)
    floats = values.astype(np.float64)
    floats[missing] = np.nan
    return floats


def _check_numbers(array: Any, spec: Input) -> CheckedColumn:
    values = _floats(array)
    least, most = limits_of(spec)
    good: Mask | None = None
    # If the column has NaN, min() and max() are NaN, and both comparisons are false.
    if len(values) and not (values.min() >= least and values.max() <= most):
        good = (values >= least) & (values <= most)
        if spec.may_be_missing:
            good |= np.isnan(values)
        good = None if good.all() else good

    def select(rows: Mask | None) -> Column:
        return (values if rows is None else values[rows]).astype(spec.dtype, copy=False)

    return CheckedColumn(good, select)


def _check_integers(array: Any, spec: Input) -> CheckedColumn | None:
    """Check a column of integers. Return None if it has floats too large to hold integers exactly."""
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

    def select(rows: Mask | None) -> Column:
        selected = values if rows is None else values[rows]
        is_missing = (missing if rows is None else missing[rows]) if len(missing) else missing
        if not is_missing.any():
            return selected.astype(spec.dtype)
        if spec.missing == "na":
            return objects(
                [None if no_value else int(value) for value, no_value in zip(selected, is_missing, strict=True)], spec
            )
        return selected.astype(np.float64)

    return CheckedColumn(None if good.all() else good, select)


def _check_distinct(array: Any, spec: Input, is_text: bool) -> CheckedColumn:
    """Check each distinct value once. Lists and structs are not deduplicated."""
    values, codes = _encode(array)
    if is_text:
        read = reader_of(spec)
        values = [read("" if value is None else value) for value in values]
    rule = rule_of(spec)
    accepted = np.array([rule(value) is None for value in values], dtype=np.bool_)
    good = None if accepted.all() else accepted[codes]

    def select(rows: Mask | None) -> Coded:
        places = codes if rows is None else codes[rows]
        # Only the values of the selected rows: a missing value among the others could change the dtype.
        used = np.flatnonzero(np.bincount(places, minlength=len(values)))
        column = KINDS[spec.kind].column([values[place] for place in used.tolist()], spec)
        if column is None:
            raise NotImplementedError(f"values of input {spec.name!r} pass its check but cannot become a column")
        position = np.zeros(len(values) + 1, dtype=np.intp)
        position[used] = np.arange(len(used))
        return Coded(column, position[places])

    return CheckedColumn(good, select)


def _encode(array: Any) -> tuple[list[Any], NDArray[np.intp]]:
    """Return the distinct values of an array as plain values, and for each row the index of its value."""
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
