"""The progress of a scoring run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run.

    Attributes:
        parts_done: The parts that are finished, those of an earlier run too.
        parts: The number of all parts, estimated until the end; None if nothing is finished.
        rows: The rows of the finished parts, with those rejected.
        rejected: The rows of these that could not be scored.
        fraction: The share of the input that is done, from 0 to 1.
        elapsed_s: The time since this run began.
        earlier_rows: The rows that an earlier run had finished.
        earlier_fraction: The share of the input that an earlier run had finished.
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
        """The rows of this run in a second."""
        return (self.rows - self.earlier_rows) / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def left_s(self) -> float | None:
        """The time left at this rate; None if it is not known yet."""
        done = self.fraction - self.earlier_fraction
        return self.elapsed_s * (1 - self.fraction) / done if done > 0 else None
