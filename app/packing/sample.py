"""The sample: rows like those the model was trained on, from CSV, Parquet or JSON records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from app.errors import PackingRefused

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
    # Not pd.read_json: it makes numbers and dates of strings that look like them.
    ".json": lambda path: pd.DataFrame(msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])),
}


def read(path: Path, target: str | None) -> pd.DataFrame:
    """The sample's rows, without the target column.

    Raises:
        PackingRefused: it cannot be read, is empty, or has no such target column.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise PackingRefused(f"sample {path} must end in one of: {', '.join(READERS)}")
    try:
        frame = reader(path)
    except Exception as error:  # the readers raise dozens of types
        raise PackingRefused(f"sample {path} cannot be read ({type(error).__name__}: {error})") from error
    if target is not None:
        if target not in frame.columns:
            raise PackingRefused(f"sample {path} has no target column {target!r}; it has: {_names([*frame.columns])}")
        frame = frame.drop(columns=[target])
    if frame.empty:
        raise PackingRefused(f"sample {path} has no rows")
    return frame


def fitted_to(frame: pd.DataFrame, names: Sequence[str] | None, width: int | None) -> pd.DataFrame:
    """The sample with the columns of the model, in its order.

    Raises:
        PackingRefused: it lacks or adds columns.
    """
    if names is not None:
        lacks = [name for name in names if name not in frame.columns]
        adds = [str(name) for name in frame.columns if name not in set(names)]
        if lacks or adds:
            said = [f"lacks {_names(lacks)}"] * bool(lacks) + [f"adds {_names(adds)}"] * bool(adds)
            hint = "; name the target with --target" if adds and not lacks else ""
            raise PackingRefused(f"the sample {' and '.join(said)}; the model takes: {_names(names)}{hint}")
        return frame[list(names)]
    if width is not None and width != len(frame.columns):
        hint = "; name the target with --target" if len(frame.columns) == width + 1 else ""
        raise PackingRefused(f"the sample has {len(frame.columns)} columns; the model takes {width}{hint}")
    return frame


def _names(names: Sequence[object]) -> str:
    shown = ", ".join(map(str, list(names)[:20]))
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
