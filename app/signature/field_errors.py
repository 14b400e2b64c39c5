"""Build the errors of single fields: their pointers, the values that they show, and the error of a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from app.errors import FieldError, InvalidInstances

MAX_SHOWN_CHARS = 100
MAX_SHOWN_NAMES = 20
MOST_ERRORS = 100


def escaped(name: str) -> str:
    """Return a name as a segment of a JSON pointer in a URI fragment (RFC 6901 sections 3 and 6), shortened if long."""
    name = name if len(name) <= MAX_SHOWN_CHARS else name[:MAX_SHOWN_CHARS] + "…"
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@", errors="replace")


def in_row(instance: object) -> bool | None:
    """Return whether an instance is a row (True), a record (False), or the bare value of the only input (None)."""
    return True if isinstance(instance, list) else False if isinstance(instance, dict) else None


def as_row(instance: Any) -> list[Any]:
    """Return a row unchanged, and a bare value of the only input as a row."""
    return instance if isinstance(instance, list) else [instance]


def place_of(instance: str, row: bool | None, name: str, position: int) -> str:
    """Return the pointer of an input's value below the pointer of its instance. `row` is the result of `in_row`."""
    if row is None:
        return instance
    return f"{instance}/{position if row else escaped(name)}"


def missing(may_be_missing: bool) -> str:
    """Return what is wrong with a feature that is not there."""
    return "is missing: every feature of the model is needed" + (", null if not known" * may_be_missing)


def shown(value: object) -> object:
    """Return a value as it may stand in an error: short, and always valid JSON."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str) and len(value) > MAX_SHOWN_CHARS:
        return value[:MAX_SHOWN_CHARS] + "…"
    if type(value) is float and value - value != 0.0:
        return str(value)
    if type(value) is int and not -(2**63) <= value < 2**64:
        return "an integer of more than 64 bits"
    return value


def some(names: Sequence[str]) -> str:
    """Return the names as a list in a sentence, shortened if there are many."""
    more = len(names) - MAX_SHOWN_NAMES
    return ", ".join(names[:MAX_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def refused(pointer: str, detail: str, *value: object) -> InvalidInstances:
    """Return the error for one pointer and its value."""
    return InvalidInstances([FieldError(pointer, detail, *map(shown, value))], 1)


def refuse(found: Iterable[FieldError]) -> None:
    """Raise InvalidInstances with the first bad places found and the number of all, if there are any.

    The places are consumed one by one, because a body may have as many as it has bytes.
    """
    rest = iter(found)
    first = list(islice(rest, MOST_ERRORS))
    if first:
        raise InvalidInstances(first, len(first) + sum(1 for _ in rest))
