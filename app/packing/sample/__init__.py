"""Read a sample: rows like those of training, from any kind of file with a table.

`files` opens a file by its content, `delimited` and `documents` read text, `columns` decides whether a column of text
has numbers, texts or codes, and `learned` adapts columns to the facts that the model has learned. Each uncertain
decision leaves a note, which `flask models add` prints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from app.errors import PackingRefused
from app.packing.sample import files, learned
from app.packing.sample.expected import NOTHING, Expected
from app.signature.field_errors import some

MAX_NOTES = 20

TOO_MANY = "; name the target with --target, and leave out other columns"
"""The end of a refusal of a sample with more columns than the model takes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows without the target columns, the target if there is exactly one, and notes on how the file was read."""

    frame: pd.DataFrame
    target: pd.Series[Any] | None = None
    notes: tuple[str, ...] = ()


Target = str | tuple[str, ...] | None
"""The name of a target column, or of several."""


def read(path: Path, target: Target, expected: Expected = NOTHING) -> Sample:
    """Read the rows of a sample as the model expects its columns, without the target columns."""
    notes: list[str] = []
    try:
        frame = files.read(path, expected.beside(_targets(target)), notes)
    except PackingRefused as error:
        raise PackingRefused(f"sample {path} {error.detail}") from None
    except OSError as error:
        raise PackingRefused(f"sample {path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the readers raise dozens of types
        raise PackingRefused(f"sample {path} cannot be read ({type(error).__name__}: {error})") from error
    return _without_target(frame, target, expected, notes, f"sample {path}")


def read_frame(path: Path, target: Target, expected: Expected = NOTHING) -> Sample:
    """Read the rows of a frame that `pack` has pickled; arguments and errors as for `read`."""
    notes: list[str] = []
    frame = files.unpickled(path, expected.beside(_targets(target)), notes)
    return _without_target(frame, target, expected, notes, "the sample")


def _targets(target: Target) -> tuple[str, ...]:
    return (target,) if isinstance(target, str) else target or ()


def _without_target(frame: pd.DataFrame, target: Target, expected: Expected, notes: list[str], name: str) -> Sample:
    targets = [*dict.fromkeys(_targets(target))]
    for column in targets:
        if column not in frame.columns:
            raise PackingRefused(f"{name} has no target column {column!r}; it has: {some([*frame.columns])}")
    labels = frame[targets[0]] if len(targets) == 1 else None
    frame = frame.drop(columns=targets)
    frame = learned.without_index(frame, expected, notes)
    frame = learned.only_declared(frame, expected, notes)
    if frame.empty:
        raise PackingRefused(f"{name} has no rows")
    frame = learned.as_learned(frame, expected, notes)
    more = [f"and {len(notes) - MAX_NOTES} more notes on the sample"] if len(notes) > MAX_NOTES else []
    return Sample(frame, labels, (*notes[:MAX_NOTES], *more))


def fitted_to(frame: pd.DataFrame, names: Sequence[str] | None, width: int | None) -> pd.DataFrame:
    """Return the sample with the columns of the model in their order; refuse one that lacks columns or has others."""
    if names is not None:
        frame = frame.rename(columns=_with_underscores(list(frame.columns), names))
        missing = [name for name in names if name not in frame.columns]
        added = [str(name) for name in frame.columns if name not in set(names)]
        if missing or added:
            faults = [f"lacks {some(missing)}"] * bool(missing) + [f"adds {some(added)}"] * bool(added)
            hint = TOO_MANY if added and not missing else ""
            raise PackingRefused(f"the sample {' and '.join(faults)}; the model takes: {some(names)}{hint}")
        return frame[list(names)]
    if width is not None and width != len(frame.columns):
        hint = TOO_MANY if len(frame.columns) == width + 1 else ""
        raise PackingRefused(f"the sample has {len(frame.columns)} columns; the model takes {width}{hint}")
    return frame


def _with_underscores(columns: Sequence[object], names: Sequence[str]) -> dict[object, str]:
    """Map columns to the names of the model, in which LightGBM has put underscores for spaces."""
    renamed = {name: re.sub(r"\s", "_", name) for name in columns if isinstance(name, str) and name not in names}
    return {name: other for name, other in renamed.items() if other in names and other not in columns}
