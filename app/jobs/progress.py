"""The progress of a scoring run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run.

    Attributes:
        parts_done: The finished parts, including those of an earlier run.
        parts: The estimated number of all parts; None until a part is finished.
        rows: The rows of the finished parts, including rejected rows.
        rejected: The rejected rows.
        fraction: The finished fraction of the input, from 0 to 1.
        elapsed_s: The time since this run began.
        earlier_rows: The rows that an earlier run finished.
        earlier_fraction: The fraction of the input that an earlier run finished.
    """

    parts_done: int = 0
    parts: int | None = None
    rows: int = 0
    rejected: int = 0
    fraction: float = 0.0
    elapsed_s: float = 0.0
    earlier_rows: int = 0
    earlier_fraction: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """The rows per second of this run."""
        return (self.rows - self.earlier_rows) / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def left_s(self) -> float | None:
        """The remaining time at this rate; None if this run has finished no part."""
        done = self.fraction - self.earlier_fraction
        return self.elapsed_s * (1 - self.fraction) / done if done > 0 else None
