"""Show the progress of packing on a terminal, or in the output of a command."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from app.packing.stages import Stage

LINE_EVERY_S = 10.0
ERASE_LINE = "\r\033[K"


class Progress:
    """Shows the progress of packing on standard error: in one line on a terminal, else in a line every ten seconds."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._began_s = self._stage_began_s = time.monotonic()
        self._shown_s = self._began_s
        self._stage = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_terminal:
            click.echo(ERASE_LINE, nl=False, err=True)

    def line(self, text: str) -> None:
        """Print a sentence that stays."""
        click.echo(f"{ERASE_LINE if self._on_terminal else ''}{text}", err=True)

    def stage(self, stage: Stage) -> None:
        """Show a stage, with the number of rows done and the time left if they are known."""
        now_s = time.monotonic()
        if stage.name != self._stage:
            self._stage, self._stage_began_s = stage.name, now_s
        if not self._on_terminal and now_s - self._shown_s < LINE_EVERY_S:
            return
        self._shown_s = now_s
        line = f"{now_s - self._began_s:.0f} s: {stage.name}"
        if stage.rows:
            line += f", {stage.done_rows:,} of {stage.rows:,} rows"
        if stage.done_rows:
            left_s = (now_s - self._stage_began_s) * (stage.rows / stage.done_rows - 1)
            line += f", about {left_s:.0f} s left"
        if self._on_terminal:
            _replace_line(line)
        else:
            click.echo(line, err=True)


def _replace_line(text: str) -> None:
    click.echo(f"{ERASE_LINE}{text[: shutil.get_terminal_size().columns - 1]}", nl=False, err=True)
