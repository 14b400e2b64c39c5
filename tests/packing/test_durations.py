"""Durations are formatted for people."""

from __future__ import annotations

import pytest

from app.packing.durations import written


@pytest.mark.parametrize(
    ("duration_us", "text"),
    [
        (0.4, "0 µs"),
        (59.4, "59 µs"),
        (999.4, "999 µs"),
        (999.6, "1.0 ms"),
        (1234.0, "1.2 ms"),
        (59_321.88, "59 ms"),
        (999_600.0, "1.0 s"),
        (1_250_000.0, "1.2 s"),
        (61_000_000.0, "61 s"),
    ],
)
def test_a_duration_has_a_suitable_unit(duration_us: float, text: str) -> None:
    assert written(duration_us) == text
