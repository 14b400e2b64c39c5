"""What packing is doing, told through a file from the process that packs to the command that waits for it."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

VARIABLE = "PACKING_STAGE_FILE"
"""Names the file in the environment of the process that packs."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the work and, where that is known, how many of its rows are done."""

    name: str
    done_rows: int = 0
    rows: int = 0


def enter(name: str, done_rows: int = 0, rows: int = 0) -> None:
    """Tell that a stage begins, or how far it is; does nothing where nobody waits."""
    place = os.environ.get(VARIABLE)
    if place is None:
        return
    beside = Path(place + ".part")
    try:
        beside.write_bytes(msgspec.json.encode(Stage(name, done_rows, rows)))
        beside.replace(place)
    except OSError:  # nobody waits any more, or the disk is full, which ends packing elsewhere
        return


def told_in(folder: Path, environ: MutableMapping[str, str]) -> Path:
    """Have a process that gets this environment tell its stages in a file of this folder; return the file."""
    place = folder / "stage.json"
    environ[VARIABLE] = str(place)
    return place


def current(place: Path) -> Stage | None:
    """Return the stage that a process has told last."""
    try:
        return msgspec.json.decode(place.read_bytes(), type=Stage)
    except (OSError, msgspec.DecodeError):
        return None
