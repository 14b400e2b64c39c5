"""Medians and spreads of paired rounds; pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Of at least one figure."""
        return cls(statistics.median(figures), min(figures), max(figures))


def ratio(of: Sequence[float], to: Sequence[float]) -> Spread:
    """How many times `to` goes into `of`, round by round: what disturbs the machine disturbs both sides of a round.

    Rounds that only one of them has are left out.
    """
    return Spread.of([first / second for first, second in zip(of, to, strict=False)])


def difference(of: Sequence[float], to: Sequence[float]) -> Spread:
    """How much more `of` is than `to`, round by round. Rounds that only one of them has are left out."""
    return Spread.of([first - second for first, second in zip(of, to, strict=False)])
