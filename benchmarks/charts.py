"""SVG bar charts from zero, with direct labels, legible on light and dark pages."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.cases import CASES, FLASK, LABELS, ONNX, OURS, OURS_ALL, TUTORIAL
from benchmarks.figures import Figures, series

WIDTH = 860
COLUMNS = 2
GUTTER = 36
LABEL = 176
VALUE = 62
BAR, STEP = 14, 22
HEAD, FOOT = 30, 22
COSTS = ("linear", "forest", "penguins", "table", "digits")
SHORT = {
    TUTORIAL: "FastAPI tutorial",
    FLASK: "Flask tutorial",
    ONNX: "FastAPI + ONNX Runtime",
    OURS_ALL: "with probabilities",
}

STYLE = """\
text { font: 12px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.panel { font-weight: 600 }
.soft { fill: #59636e }
.ours { fill: #0b6e4f }
.own { font-weight: 600; fill: #0b6e4f }
.peer { fill: #b3bac4 }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .soft { fill: #9198a1 } .ours { fill: #3fbf8f } .own { fill: #3fbf8f }
  .peer { fill: #59636e } .page { fill: #0d1117 }
}"""


@dataclass(frozen=True, slots=True)
class Row:
    """One bar: its label, its length, and the text at its end."""

    label: str
    figure: float
    shown: str
    ours: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one scale that begins at zero."""

    title: str
    rows: Sequence[Row]

    @property
    def height(self) -> int:
        return HEAD + STEP * len(self.rows) + FOOT


def cost(figures: Figures) -> str:
    """Return the chart of CPU for each request, one panel for each case."""
    panels = []
    for case in CASES:
        sides = figures.get("cases", {}).get(case.name, {})
        if case.name not in COSTS:
            continue
        rows = []
        for name in case.sides:
            if found := series(sides.get(name), "cpu_us"):
                middle = statistics.median(found)
                rows.append(Row(SHORT.get(name, LABELS[name]), middle, duration(middle), name.startswith(OURS)))
        if rows:
            panels.append(Panel(case.title, rows))
    return svg("CPU for each request, on one core: shorter is better", panels)


def memory_and_start(figures: Figures) -> str:
    """Return the chart of the memory of one and four workers, and of the seconds to the first response."""
    panels = []
    rows = []
    for name, by_workers in figures.get("memory", {}).items():
        for workers in ("1", "4"):
            if workers in by_workers:
                label = f"{SHORT.get(name, LABELS[name])}, {workers} worker{'s' * (workers != '1')}"
                rows.append(Row(label, by_workers[workers], f"{by_workers[workers]:,.0f} MB", name == OURS))
    if rows:
        panels.append(Panel("Memory with a 300 MB model (PSS)", rows))
    rows = []
    for name, side in figures.get("start", {}).items():
        if seconds := side.get("seconds"):
            middle = statistics.median(seconds)
            rows.append(Row(SHORT.get(name, LABELS[name]), middle, f"{middle:.2f} s", name == OURS))
    if rows:
        panels.append(Panel("Start to first answer, penguins", rows))
    return svg("Memory and start: shorter is better", panels)


def duration(us: float) -> str:
    """Return microseconds in a readable unit."""
    if us < 1000:
        return f"{us:.0f} µs"
    return f"{us / 1e3:.1f} ms" if us < 99_950 else f"{us / 1e3:.0f} ms"


def svg(title: str, panels: Sequence[Panel]) -> str:
    """Return the panels in two columns, row by row. Each has its own scale."""
    width = (WIDTH - 3 * GUTTER) // COLUMNS
    parts, top = [], 48
    for first in range(0, len(panels), COLUMNS):
        line = panels[first : first + COLUMNS]
        for column, panel in enumerate(line):
            parts += _panel(panel, GUTTER + column * (width + GUTTER), top, width)
        top += max(panel.height for panel in line)
    height = top + 4
    alternative = "; ".join(
        f"{panel.title}: " + ", ".join(f"{row.label} {row.shown}" for row in panel.rows) for panel in panels
    )
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(alternative)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="{GUTTER}" y="32">{escape(title)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _panel(panel: Panel, left: int, top: int, width: int) -> list[str]:
    room = width - LABEL - VALUE
    greatest = max((row.figure for row in panel.rows), default=0.0) or 1.0
    parts = [f'<text class="panel" x="{left}" y="{top + 18}">{escape(panel.title)}</text>']
    for position, row in enumerate(panel.rows):
        y = top + HEAD + position * STEP
        length = max(1.0, room * row.figure / greatest)
        own, bar = (' class="own"', "ours") if row.ours else ("", "peer")
        x = left + LABEL
        parts += [
            f'<text{own} x="{x - 8}" y="{y + 11}" text-anchor="end">{escape(row.label)}</text>',
            f'<rect class="{bar}" x="{x}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
            f'<text{own} x="{x + length + 6:.1f}" y="{y + 11}">{escape(row.shown)}</text>',
        ]
    return parts
