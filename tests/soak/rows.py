"""The definition of a row of the soak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.soak.sheet import Sheet


@dataclass(frozen=True)
class Bounds:
    """The limits of a row."""

    folder: Path  # empty, for this row alone
    for_s: float
    requests: int


@dataclass(frozen=True)
class Row:
    """One fault. `for_s` is its share of the whole at the default length."""

    name: str
    shows: str
    for_s: float
    run: Callable[[Bounds, Sheet], None]
    program: str = ""  # must be installed
