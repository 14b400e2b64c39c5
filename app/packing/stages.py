"""Progress of packing: report stages, and hand them from the process that packs to the command that waits for it."""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

log = logging.getLogger(__name__)

VARIABLE = "PACKING_STAGE_FILE"
"""The variable that names the file, in the environment of the process that packs."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the work; `rows` of 0 if their number is not known."""

    name: str
    done_rows: int = 0
    rows: int = 0


class Progress(Protocol):
    """Receive the progress of packing, from making an environment to publishing a version."""

    def line(self, text: str) -> None:
        """Show a sentence to the user."""

    def stage(self, stage: Stage) -> None:
        """Show the current stage; packing calls it repeatedly."""


class NoProgress:
    """Progress that nobody sees."""

    def line(self, text: str) -> None:
        """Do nothing."""

    def stage(self, stage: Stage) -> None:
        """Do nothing."""


SILENT = NoProgress()


class LoggedProgress(NoProgress):
    """Progress in the log: sentences, not stages."""

    def line(self, text: str) -> None:
        """Log a sentence."""
        log.warning("%s", text)


def enter(name: str, done_rows: int = 0, rows: int = 0) -> None:
    """Report that a stage begins, or how many of its rows are done; do nothing if no command waits."""
    stage_file = os.environ.get(VARIABLE)
    if stage_file is None:
        return
    part_file = Path(stage_file + ".part")
    try:
        part_file.write_bytes(msgspec.json.encode(Stage(name, done_rows, rows)))
        part_file.replace(stage_file)
    except OSError:  # no command waits any more, or the disk is full, which ends packing elsewhere
        return


def stage_file_in(folder: Path, environ: MutableMapping[str, str]) -> Path:
    """Name in `environ` a file in `folder` for the stages of the process that gets it; return the file."""
    stage_file = folder / "stage.json"
    environ[VARIABLE] = str(stage_file)
    return stage_file


def current(stage_file: Path) -> Stage | None:
    """Return the stage that the process reported last; None if there is none."""
    try:
        return msgspec.json.decode(stage_file.read_bytes(), type=Stage)
    except (OSError, msgspec.DecodeError):
        return None
