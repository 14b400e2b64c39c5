"""Format durations for people."""

from __future__ import annotations


def written(duration_us: float) -> str:
    """Return a duration with two or three digits and a suitable unit: 59 ms, 1.2 s."""
    for unit, length_us in (("s", 1e6), ("ms", 1e3)):
        # 999.6 ms would be written 1,000 ms.
        if duration_us >= length_us * 0.9995:
            amount = duration_us / length_us
            return f"{amount:,.0f} {unit}" if amount >= 9.95 else f"{amount:.1f} {unit}"
    return f"{duration_us:.0f} µs"
