"""The measurements of one row of the soak, each compared with its bound, and the table of all rows."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.server.served import core_wait_s


@dataclass(frozen=True)
class Figure:
    """One number, its bound if it has one, and whether it holds."""

    name: str
    value: float
    unit: str
    bound: str
    holds: bool

    def __str__(self) -> str:
        value = f"{self.value:,d}" if isinstance(self.value, int) else f"{self.value:.4g}"
        said = f"{self.name} {value}{' ' if self.unit not in ('', '%') else ''}{self.unit}"
        return said + (f" ({self.bound})" if self.bound else "") + ("" if self.holds else " FAILS")


@dataclass
class Sheet:
    """One row: the claim, and its figures. A figure without a bound is only reported."""

    row: str
    shows: str
    figures: list[Figure] = field(default_factory=list)
    stopped: str = ""
    """The reason why it ended early."""
    took_s: float = 0.0
    load_average: float = 0.0
    """Load average of the machine when the row began."""

    def tell(self, name: str, value: float, unit: str = "") -> None:
        self.figure(name, value, unit, "", holds=True)

    def below(self, name: str, value: float, limit: float, unit: str = "") -> None:
        self.figure(name, value, unit, f"< {limit:g}", holds=value < limit)

    def at_least(self, name: str, value: float, limit: float, unit: str = "") -> None:
        self.figure(name, value, unit, f">= {limit:g}", holds=value >= limit)

    def exactly(self, name: str, value: float, wanted: float, unit: str = "") -> None:
        self.figure(name, value, unit, f"= {wanted:g}", holds=value == wanted)

    def figure(self, name: str, value: float, unit: str, bound: str, holds: bool) -> None:
        """Add a figure with a bound of its own kind. The other methods are shortcuts for this."""
        self.figures.append(Figure(name, value, unit, bound, holds))

    def none_of(self, counts: dict[str, int]) -> None:
        """Add counts that must be zero."""
        self.exactly("other outcomes", sum(counts.values()), 0)
        for name, count in sorted(counts.items()):
            if count:
                self.tell(name, count)

    @contextlib.contextmanager
    def telling_waits(self, pid: int) -> Iterator[None]:
        """Report the share of the block in which the worker waited for a core: the noise of the machine."""
        began_s, before_s = time.monotonic(), core_wait_s(pid)
        yield
        self.tell(
            "the worker waited for a core", 100 * (core_wait_s(pid) - before_s) / (time.monotonic() - began_s), "%"
        )

    @property
    def holds(self) -> bool:
        return not self.stopped and bool(self.figures) and all(figure.holds for figure in self.figures)

    @property
    def verdict(self) -> str:
        return "passes" if self.holds else f"stopped: {self.stopped}" if self.stopped else "FAILS"

    @property
    def measured(self) -> str:
        return "; ".join(map(str, self.figures))


def table(sheets: list[Sheet]) -> str:
    """Return a Markdown table."""
    lines = ["| row | must be shown | measured | verdict |", "|---|---|---|---|"]
    for sheet in sheets:
        cells = (sheet.row, sheet.shows, sheet.measured, sheet.verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def write_report(path: Path, sheets: list[Sheet]) -> None:
    """Write a report: JSON if the file's name ends in .json, else the table."""
    if path.suffix != ".json":
        path.write_text(table(sheets) + "\n", "utf-8")
        return
    told = [asdict(sheet) | {"verdict": sheet.verdict, "holds": sheet.holds} for sheet in sheets]
    path.write_text(json.dumps(_without_infinity(told), indent=1) + "\n", "utf-8")


def _without_infinity(value: object) -> object:
    """Replace infinity, which JSON does not have. The verdict shows that the figure was too large."""
    if isinstance(value, dict):
        return {key: _without_infinity(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_infinity(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
