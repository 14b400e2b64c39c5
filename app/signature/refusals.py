"""Refuses many places of a request at once: all are counted, the first of them are told."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from app.errors import FieldError, InvalidInstances

MOST_ERRORS = 100


def refuse(found: Iterable[FieldError]) -> None:
    """Refuses what was found, if anything; made one by one, since there may be as many as the body has bytes.

    Raises:
        InvalidInstances: with the first of them, and how many there are in all.
    """
    rest = iter(found)
    first = list(islice(rest, MOST_ERRORS))
    if first:
        raise InvalidInstances(first, len(first) + sum(1 for _ in rest))
