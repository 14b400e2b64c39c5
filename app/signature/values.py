"""Checks of single values that all kinds of input share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.signature import Input

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

Rule = Callable[[Any], str | None]
"""Returns the reason why a value is refused, as the end of a sentence; None if it is accepted."""


def is_missing(value: object) -> bool:
    """Return whether a value stands for a missing one: null, or NaN."""
    return value is None or (type(value) is float and value != value)


def type_name(value: object) -> str:
    """Return the JSON name of a value's type, for error messages."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return "a file" if type(value) is bytes else names.get(type(value), "null")


def range_seen(spec: Input) -> str:
    """Return the range seen in training as text; empty if it is not known."""
    if spec.minimum is None or spec.maximum is None:
        return ""
    return f"seen in training: {spec.minimum:.6g} to {spec.maximum:.6g}"
