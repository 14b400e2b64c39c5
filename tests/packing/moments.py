"""Shorter timing of models for tests that do not compare the times. The usual timing takes half a second each."""

from __future__ import annotations

from app.packing import timing

A_MOMENT = {"TIMED_SECONDS": 0.005, "MIN_RUNS": 2}
"""Values of variables of `timing`."""


def time_for_a_moment() -> None:
    """Shorten the timings of this process."""
    vars(timing).update(A_MOMENT)
