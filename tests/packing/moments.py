"""Packing that times a model for a moment only: where nobody compares the times, half a second for each is lost."""

from __future__ import annotations

from app.packing import timing

A_MOMENT_S = 0.005


def time_for_a_moment() -> None:
    """Shorten the timings of this process."""
    timing.TIMED_SECONDS = A_MOMENT_S
