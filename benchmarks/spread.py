"""Medians and spreads of paired rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, minimum and maximum of some numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Return the spread of at least one number."""
        return cls(statistics.median(figures), min(figures), max(figures))


def ratio(of: Sequence[float], to: Sequence[float]) -> Spread:
    """Return `of` divided by `to`, round by round: a disturbance of the machine affects both sides of a round.

    Rounds that only one side has are left out.
    """
    return Spread.of([first / second for first, second in zip(of, to, strict=False)])


def difference(of: Sequence[float], to: Sequence[float]) -> Spread:
    """Return `of` minus `to`, round by round. Rounds that only one side has are left out."""
    return Spread.of([first - second for first, second in zip(of, to, strict=False)])
