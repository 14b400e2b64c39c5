"""Timestamps: ISO 8601 or seconds since 1970, as instants in UTC. Without a zone they are taken as UTC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import marshmallow as ma
import numpy as np

from app.signature import Input, Rule, is_missing, type_name
from app.signature.batch import Column

ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:([Zz])|([+-])(\d\d):?(\d\d))?)?", re.ASCII
)
"""The extended format of ISO 8601: a calendar date, with or without a time and a zone (as in RFC 3339)."""

DTYPE = re.compile(r"datetime64\[(s|ms|us|ns)(?:, (.+))?\]")
NS_PER = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
NOT_A_TIME = np.iinfo(np.int64).min
NAT = "NaT"
"""The text that pandas, and MLflow's client, write for a missing time."""
LIMITS = {"ns": ("1678-01-01", "2261-12-31")}
"""The range of 64 bits of nanoseconds, in whole years. Coarser units hold every year that a date can have."""
WIDE_LIMITS = ("0001-01-02", "9999-12-30")
FORM = "as in 2024-01-31T12:30:00Z, or seconds since 1970-01-01 in UTC"


class Timestamp:
    """A point in time: a string in ISO 8601, or a number of seconds since 1970-01-01 in UTC."""

    field_class = ma.fields.Raw

    def rule(self, spec: Input) -> Rule:
        """Return the rule: existing dates within the range of the column."""
        unit, _ = unit_and_zone(spec.dtype)
        first, last = LIMITS.get(unit, WIDE_LIMITS)
        least, most = _instant(first), _instant(last)
        outside = f"must be from {first} to {last}"

        def problem(value: Any) -> str | None:
            if type(value) in (int, float):
                if value - value != 0:
                    return "must be a finite number"
                if least <= value * 10**9 <= most:
                    return None
                return f"{outside}, in seconds, not milliseconds" if least <= value * 10**6 <= most else outside
            if value == NAT:
                return None if spec.nullable else "must not be missing (NaT): the model has no way to fill it in"
            if type(value) is not str:
                return f"must be a timestamp in ISO 8601 or a number of seconds, not {type_name(value)}"
            try:
                instant = _instant(value)
            except ValueError as error:
                reason = f" ({error})" if str(error) else ""
                return f"must be a timestamp in ISO 8601, {FORM}{reason}"
            return None if least <= instant <= most else outside

        return problem

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column, shape (rows,), datetime64 of the input's unit in UTC, with NaT for missing values."""
        unit, _ = unit_and_zone(spec.dtype)
        rule = self.rule(spec)
        instants = []
        for value in values:
            missing = is_missing(value) or value == NAT
            if missing and spec.nullable:
                instants.append(NOT_A_TIME)
            elif missing or rule(value) is not None:
                return None
            else:
                instants.append((_instant(value) if type(value) is str else _of_seconds(value)) // NS_PER[unit])
        return np.array(instants, dtype=np.int64).view(f"datetime64[{unit}]")

    def describe(self, spec: Input) -> str:
        """Describe the accepted forms."""
        _, zone = unit_and_zone(spec.dtype)
        seen = f"; the model sees it in {zone}" if zone not in (None, "UTC") else ""
        return f"a timestamp in ISO 8601, {FORM}; without a zone it is UTC{seen}"

    def schema(self, spec: Input) -> dict[str, Any]:
        """Return the schema of a string or a number."""
        return {"type": ["string", "number"]}


def unit_and_zone(dtype: str) -> tuple[str, str | None]:
    """Return the unit and the time zone of a datetime64 dtype of pandas; raise ValueError for another dtype."""
    match = DTYPE.fullmatch(dtype)
    if match is None:
        raise ValueError(f"{dtype!r} is not a datetime64 of s, ms, us or ns")
    return match[1], match[2]


def _instant(text: str) -> int:
    """Return nanoseconds since 1970-01-01 in UTC.

    Raises:
        ValueError: the text is not ISO 8601, or, with a message, the instant does not exist.
    """
    match = ISO.fullmatch(text) if len(text) <= 64 else None
    if match is None:
        raise ValueError
    date, minutes, second, fraction, _, sign, hours_east, minutes_east = match.groups()
    local = datetime.fromisoformat(f"{date}T{minutes or '00:00'}:{second or '00'}")
    east_us = 0
    if sign is not None:
        if int(hours_east) > 23 or int(minutes_east) > 59:
            raise ValueError("the zone must be less than 24 hours from UTC")
        east_us = (int(hours_east) * 60 + int(minutes_east)) * 60 * 10**6
    since_us = (local - EPOCH) // MICROSECOND - (east_us if sign == "+" else -east_us)
    return since_us * 1000 + int((fraction or "0").ljust(9, "0"))


def _of_seconds(value: int | float) -> int:
    """Return nanoseconds: exact for whole seconds, else rounded to the microsecond, as in `datetime`."""
    whole = int(value // 1)
    return whole * 10**9 + round((value - whole) * 10**6) * 1000
