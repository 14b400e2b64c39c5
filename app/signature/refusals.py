"""Refuses many places of a request at once: all are counted, the first of them are told."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from app.errors import FieldError, InvalidInstances

MOST_ERRORS = 100


def refuse(found: Iterable[FieldError]) -> None:
    """Raise an error with all bad places found, if there are any.

    The places are consumed one by one, because a body may have as many as it has bytes.

    Raises:
        InvalidInstances: with the first errors, and the number of all.
    """
    rest = iter(found)
    first = list(islice(rest, MOST_ERRORS))
    if first:
        raise InvalidInstances(first, len(first) + sum(1 for _ in rest))
