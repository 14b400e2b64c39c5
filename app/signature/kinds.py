"""The kinds of input: each class decides which values it accepts, and turns them into a column.

To add a kind, write its class here or in a module of its own, and name it in `KINDS`. The packages wire and runtime
stay unchanged.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import marshmallow as ma
import numpy as np

from app.signature import INT64_MAX, INT64_MIN, Input, Rule, is_missing, range_seen, type_name
from app.signature.arrays import Array
from app.signature.batch import Column, objects_of
from app.signature.images import Image
from app.signature.records import Record
from app.signature.timestamps import Timestamp


class Kind(Protocol):
    """One kind of input. Stateless, so safe to share between threads."""

    @property
    def field_class(self) -> type[ma.fields.Field[Any]]:
        """The marshmallow field whose JSON schema describes this kind in OpenAPI."""

    def rule(self, spec: Input) -> Rule:
        """Return the rule for values of this input that are not missing. It is made once and called often."""

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column of these values, shape (rows,); None if a value is not accepted."""

    def describe(self, spec: Input) -> str:
        """Return a description of this input for people."""

    def schema(self, spec: Input) -> dict[str, Any]:
        """Return members of the JSON schema in addition to those of the field."""


class _Plain:
    """A kind that is described by its field and its range."""

    def describe(self, spec: Input) -> str:
        """Return the range seen in training, if there is one."""
        return range_seen(spec)

    def schema(self, spec: Input) -> dict[str, Any]:
        """Return no further members."""
        return {}


def rule_of(spec: Input) -> Rule:
    """Return the rule for every value of an input, missing or not."""
    rule = KINDS[spec.kind].rule(spec)
    missing = None if spec.may_be_missing else "must not be missing (null or NaN): the model has no way to fill it in"

    def problem(value: Any) -> str | None:
        return missing if is_missing(value) else rule(value)

    return problem


def _all_accepted(values: Iterable[Any], spec: Input) -> bool:
    rule = rule_of(spec)
    return all(rule(value) is None for value in values)


class Number(_Plain):
    """A real number; float64 unless the model was trained on another width."""

    field_class = ma.fields.Float

    def rule(self, spec: Input) -> Rule:
        """Return the rule: finite floats and 64-bit integers, but no booleans and no numbers in strings."""
        least, most = limits_of(spec)

        def problem(value: Any) -> str | None:
            if type(value) is int and not INT64_MIN <= value <= INT64_MAX:
                return (
                    f"must fit in 64 bits as an integer ({INT64_MIN} to {INT64_MAX}); write it with a point or exponent"
                )
            if type(value) not in (int, float):
                return f"must be a number, not {type_name(value)}"
            if value - value != 0.0:
                return "must be a finite number"
            return None if least <= value <= most else f"must be {range_answered(spec)}"

        return problem

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column, shape (rows,), of the input's dtype. A missing value is NaN."""
        types = set(map(type, values))
        if not types <= {float, int, type(None)}:
            return None
        try:
            column = np.array(values, dtype=np.float64)
        except OverflowError:
            return None
        least, most = limits_of(spec)
        if (not spec.nullable and np.isnan(column).any()) or ((column < least) | (column > most)).any():
            return None
        # Large integers are limited and large floats are not: only the rule distinguishes them.
        if int in types and (np.abs(column) >= 2.0**63).any() and not _all_accepted(values, spec):
            return None
        return column.astype(spec.dtype, copy=False)


def limits_of(spec: Input) -> tuple[float, float]:
    """Return the smallest and the largest number that the column can hold and the model accepts."""
    widest = _widest(spec.dtype)
    largest = widest if spec.largest is None else min(widest, spec.largest)
    least = -largest if spec.least is None else max(-largest, spec.least)
    return least, largest if spec.most is None else min(largest, spec.most)


def range_answered(spec: Input) -> str:
    """Return the accepted numbers as the end of a sentence: `from -1e+38 to 1e+38`, `greater than -1`."""
    least, most = limits_of(spec)
    if spec.least is None and spec.most is None:
        return f"from {least:g} to {most:g}"
    ends = [] if spec.least is None else [_end(least, "at least", "greater than", -math.inf)]
    return " and ".join([*ends, *([] if spec.most is None else [_end(most, "at most", "less than", math.inf)])])


def _end(limit: float, up_to: str, beyond: str, outward: float) -> str:
    """Return one end of a range as text, by the shorter number: the last one inside, or the first one outside."""
    inside, outside = (repr(number).removesuffix(".0") for number in (limit, math.nextafter(limit, outward)))
    return f"{beyond} {outside}" if len(outside) < len(inside) else f"{up_to} {inside}"


def integer_limits_of(spec: Input) -> tuple[int, int]:
    """Return the smallest and the largest integer that the column can hold and the model accepts."""
    limits = np.iinfo(spec.dtype)
    least = int(limits.min) if spec.least is None else max(int(limits.min), math.ceil(spec.least))
    return least, int(limits.max) if spec.most is None else min(int(limits.max), math.floor(spec.most))


@functools.cache
def _widest(dtype: str) -> float:
    return float(np.finfo(dtype).max)


class Integer(_Plain):
    """An integer of 64 bits. 5.0 is accepted as 5, as in JSON Schema; 5.5 is refused."""

    field_class = ma.fields.Integer

    def rule(self, spec: Input) -> Rule:
        """Return the rule: integers within the input's width."""
        least, most = integer_limits_of(spec)

        def problem(value: Any) -> str | None:
            if type(value) is float:
                if value - value != 0.0:
                    return "must be a finite number"
                if value != int(value):
                    return "must be an integer, without a fraction"
            elif type(value) is not int:
                return f"must be an integer, not {type_name(value)}"
            return None if least <= value <= most else f"must be an integer from {least} to {most}"

        return problem

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column, shape (rows,), of the input's dtype. With missing values: float64 with NaN, as in pandas.

        If the training data had a nullable integer dtype of pandas: objects, integers and None, so that no value is
        rounded.
        """
        if set(map(type, values)) <= {int} and spec.least is None and spec.most is None:
            try:
                return np.array(values, dtype=spec.dtype)
            except OverflowError:
                return None
        if not _all_accepted(values, spec):
            return None
        if any(map(is_missing, values)):
            whole = [None if is_missing(value) else int(value) for value in values]
            return objects(whole, spec) if spec.missing == "na" else np.array(values, dtype=np.float64)
        return np.array([int(value) for value in values], dtype=spec.dtype)

    def schema(self, spec: Input) -> dict[str, Any]:
        """Return the limits of its width."""
        least, most = integer_limits_of(spec)
        return {"minimum": least, "maximum": most}


class Boolean(_Plain):
    """true or false."""

    field_class = ma.fields.Boolean

    def rule(self, spec: Input) -> Rule:
        """Return the rule: true and false, but not 0 and 1 or strings."""
        return lambda value: None if type(value) is bool else f"must be true or false, not {type_name(value)}"

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column, shape (rows,), bool. With missing values: objects with NaN, as in pandas."""
        if set(map(type, values)) <= {bool}:
            return np.array(values, dtype=np.bool_)
        return objects(values, spec) if _all_accepted(values, spec) else None


class Category(_Plain):
    """One of a known set of values; strings, or numbers where the training column held numbers."""

    field_class = ma.fields.Raw

    def rule(self, spec: Input) -> Rule:
        """Return the rule: values seen in training, or, if the model handles new ones, any that the column can hold."""
        categories = spec.categories or ()
        if not spec.closed:
            return _rule_of_unseen(spec)
        # In Python, True, 1 and 1.0 are equal. For a client, only the two numbers are.
        known = {(type(c) in (int, float) or type(c), c) for c in categories}
        some = ", ".join(map(str, categories[:100])) + (", …" if len(categories) > 100 else "")

        def problem(value: Any) -> str | None:
            hashable = type(value) in (str, int, float, bool)
            accepted = hashable and (type(value) in (int, float) or type(value), value) in known
            return None if accepted else f"must be one of: {some}"

        return problem

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column, shape (rows,): objects for strings, else the dtype of the categories."""
        types = set(map(type, values))
        if not types <= {str, int, float, bool, type(None)}:
            return None
        if not _all_accepted(set(values) if len(types) == 1 else values, spec):
            return None
        if spec.dtype.startswith(("int", "uint", "float")):
            holes = any(map(is_missing, values))
            return np.array(values, dtype=np.float64 if holes and not spec.dtype.startswith("float") else spec.dtype)
        return objects(values, spec)

    def describe(self, spec: Input) -> str:
        """Describe the values seen in training, if others are accepted too. Otherwise the enum lists them."""
        seen = ", ".join(map(str, (spec.categories or ())[:100]))
        warned = ", with a warning" if spec.unseen == "warn" else ""
        return "" if spec.closed else f"seen in training: {seen}; others are accepted{warned}"


class Text(_Plain):
    """Free text, any Unicode string."""

    field_class = ma.fields.String

    def rule(self, spec: Input) -> Rule:
        """Return the rule: any string."""
        return lambda value: None if type(value) is str else f"must be a string, not {type_name(value)}"

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column of objects, shape (rows,), with the input's marker for missing values."""
        if not set(map(type, values)) <= {str} and not _all_accepted(values, spec):
            return None
        return objects(values, spec)


class Unused(_Plain):
    """A column that the model drops. A request must name it, but its value does not matter."""

    field_class = ma.fields.Raw

    def rule(self, spec: Input) -> Rule:
        """Return the rule: any single value."""
        return lambda value: f"must be a single value, not {type_name(value)}" if type(value) in (list, dict) else None

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column, shape (rows,), float64, all NaN, because nothing reads it."""
        return None if {list, dict} & set(map(type, values)) else np.full(len(values), np.nan)

    def describe(self, spec: Input) -> str:
        """Say that the value does not matter."""
        return "not used by the model: any value is accepted"


def _rule_of_unseen(spec: Input) -> Rule:
    """Return the rule for a category that may be new: it must have the type of the known ones."""
    types = set(map(type, spec.categories or ()))
    if spec.dtype.startswith(("int", "uint")):
        return KINDS["integer"].rule(spec)
    if spec.dtype.startswith("float"):
        return KINDS["number"].rule(spec)
    return KINDS["boolean" if types == {bool} else "text" if str in types else "number"].rule(
        replace(spec, dtype="float64")
    )


def objects(values: Sequence[Any], spec: Input) -> Column:
    """Return a column of objects, shape (rows,), with the estimator's own marker for missing values."""
    marker = None if spec.missing in ("none", "na") else np.nan
    return objects_of([marker if is_missing(value) else value for value in values])


KINDS: dict[str, Kind] = {
    "number": Number(),
    "integer": Integer(),
    "boolean": Boolean(),
    "category": Category(),
    "text": Text(),
    "unused": Unused(),
    "timestamp": Timestamp(),
    "array": Array(),
    "image": Image(),
    "record": Record(),
}
