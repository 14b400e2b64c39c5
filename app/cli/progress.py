"""Show the progress of packing and of scoring on a terminal, or in the output of a command."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from app.jobs.progress import Progress as ScoringState
    from app.packing.stages import Stage

LINE_EVERY_S = 10.0
ERASE_LINE = "\r\033[K"


class ProgressLine:
    """Shows progress on standard error: in one line on a terminal, else in a line every ten seconds."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._began_s = self._shown_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_terminal:
            click.echo(ERASE_LINE, nl=False, err=True)

    def line(self, text: str) -> None:
        """Print a sentence that stays."""
        click.echo(f"{ERASE_LINE if self._on_terminal else ''}{text}", err=True)

    def _show(self, text: str, now_s: float) -> None:
        if self._on_terminal:
            columns = shutil.get_terminal_size().columns
            click.echo(f"{ERASE_LINE}{text[: columns - 1]}", nl=False, err=True)
        elif now_s - self._shown_s >= LINE_EVERY_S:
            click.echo(text, err=True)
        else:
            return
        self._shown_s = now_s


class Progress(ProgressLine):
    """Shows the progress of packing."""

    def __init__(self) -> None:
        super().__init__()
        self._stage_began_s = self._began_s
        self._stage = ""

    def stage(self, stage: Stage) -> None:
        """Show a stage, with the number of rows done and the time left if they are known."""
        now_s = time.monotonic()
        if stage.name != self._stage:
            self._stage, self._stage_began_s = stage.name, now_s
        line = f"{now_s - self._began_s:.0f} s: {stage.name}"
        if stage.rows:
            line += f", {stage.done_rows:,} of {stage.rows:,} rows"
        if stage.done_rows:
            left_s = (now_s - self._stage_began_s) * (stage.rows / stage.done_rows - 1)
            line += f", about {left_s:.0f} s left"
        self._show(line, now_s)


class ScoringProgress(ProgressLine):
    """Shows the progress of scoring: rows, their rate, and the time left."""

    def show(self, progress: ScoringState) -> None:
        """Show how far the run is."""
        line = f"{progress.elapsed_s:.0f} s: {progress.fraction:.0%}, {progress.rows:,} rows"
        if progress.rejected:
            line += f" ({progress.rejected:,} rejected)"
        if progress.rows_per_s:
            line += f", {progress.rows_per_s:,.0f} rows/s"
        if progress.left_s is not None:
            line += f", about {progress.left_s:.0f} s left"
        self._show(line, time.monotonic())
