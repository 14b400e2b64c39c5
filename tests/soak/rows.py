"""What a row of the soak is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.soak.sheet import Sheet


@dataclass(frozen=True)
class Bounds:
    """How much a row may take."""

    folder: Path  # empty, its own
    for_s: float
    requests: int


@dataclass(frozen=True)
class Row:
    """One fault. `for_s` is its part of the whole at the default length."""

    name: str
    shows: str
    for_s: float
    run: Callable[[Bounds, Sheet], None]
    program: str = ""  # has to be installed
