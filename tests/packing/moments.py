"""Shorter timing of models for tests that do not compare the times. The usual timing takes half a second each."""

from __future__ import annotations

from app.packing import timing

A_MOMENT_S = 0.005


def time_for_a_moment() -> None:
    """Shorten the timings of this process."""
    timing.TIMED_SECONDS = A_MOMENT_S
