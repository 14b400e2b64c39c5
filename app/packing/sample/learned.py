"""Adapt the columns of a sample to the facts that the model has learned: markers, codes, names, a column of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from app.packing.sample.columns import MANY, PLAIN, SIGNS, WORDS, is_code, is_marker, missing_note
from app.packing.sample.expected import INDEX_NAMES, Column, Expected


def with_learned_kinds(frame: pd.DataFrame, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Convert columns of objects in a typed file to numbers, or remove their markers of missing values."""
    return _with_columns(frame, expected, partial(_as_kind, notes))


def as_learned(frame: pd.DataFrame, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Replace numbers by the strings that the model has learned for them.

    A spreadsheet, a database or a typed file may have turned the code "00501" into 501.
    """
    return _with_columns(frame, expected, partial(_as_codes, notes))


def _with_columns(
    frame: pd.DataFrame, expected: Expected, converted: Callable[[str, pd.Series[Any], Column], pd.Series[Any] | None]
) -> pd.DataFrame:
    """Return the frame with its columns converted, except for categories and where nothing changes."""
    converted_columns: dict[str, Any] = {}
    for place, column in enumerate(expected.of([str(name) for name in frame.columns])):
        values = frame.iloc[:, place]
        if not isinstance(values.dtype, pd.CategoricalDtype):
            changed = converted(str(frame.columns[place]), values, column)
            converted_columns |= {} if changed is None else {frame.columns[place]: changed}
    return frame.assign(**converted_columns) if converted_columns else frame


def _as_kind(notes: list[str], name: str, values: pd.Series[Any], column: Column) -> pd.Series[Any] | None:
    """Convert a column of objects to numbers or remove its markers; return None for no change."""
    if values.dtype.kind != "O":
        return None
    strings = Counter(value for value in values if isinstance(value, str))
    numbers = sum(isinstance(v, int | float) and not isinstance(v, bool) and v == v for v in values)
    learned = set(column.categories or ())
    markers = {v for v in strings if v not in learned and is_marker(v, SIGNS if column.strings else SIGNS | WORDS)}
    others = [value for value in strings if value not in markers]
    written = bool(others) and not numbers and all(PLAIN.fits(value.strip()) for value in others)
    as_numbers = not column.strings and (written and column.typical is not None if others else numbers > 0)
    as_texts = column.strings and bool(learned)
    if not as_numbers and not as_texts:
        if others and not column.strings and (numbers > MANY * len(values) or (written and markers)):
            but = f"{others[0]!r} is not" if numbers else "texts in the file"
            notes.append(f"sample column {name!r} read as text: its values are numbers, but {but}")
        return None
    if markers:
        notes.append(missing_note(name, sorted(markers), strings))
        values = values.mask(values.isin(list(markers)))
    if as_numbers and written:
        notes.append(f"sample column {name!r}: its texts are read as numbers, which the model has learned of it")
    if as_numbers:
        return pd.to_numeric(values)
    return values if markers else None


def _as_codes(notes: list[str], name: str, values: pd.Series[Any], column: Column) -> pd.Series[Any] | None:
    if not column.strings or not column.categories:
        return None
    numbers = Counter(map(_number, column.categories))
    # Numbers that several strings have are left out.
    by_number = {n: str(v) for v in column.categories if (n := _number(v)) is not None and numbers[n] == 1}
    translated = {
        value: by_number[number]
        for value in set(values.dropna().tolist()) - set(column.categories)
        if (number := _number(value)) in by_number and not is_code(str(value))
    }
    if not translated:
        return None
    first, code = next(iter(translated.items()))
    notes.append(f"sample column {name!r}: {first!r} taken for {code!r}, which the model has learned")
    return pd.Series([translated.get(value, value) for value in values.tolist()], values.index)


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def without_index(frame: pd.DataFrame, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Drop columns that only number the rows, or are empty, unless the model names them."""
    spare = len(frame.columns) - expected.width if expected.names is None and expected.width is not None else None
    for name in list(frame.columns):
        text = str(name)
        if not INDEX_NAMES.fullmatch(text) or expected.named(text) or (spare is not None and spare <= 0):
            continue
        values = frame.loc[:, name]
        numbers = pd.api.types.is_integer_dtype(values.dtype) and values.is_unique and values.is_monotonic_increasing
        if values.isna().all() and len(values):
            notes.append(f"sample column {text!r} dropped: it is empty")
        elif text.startswith(("Unnamed", "__index")) or numbers:
            notes.append(f"sample column {text!r} dropped: it is an index, and the model does not name it")
        else:
            continue
        frame = frame.drop(columns=[name])
        spare = None if spare is None else spare - 1
    return frame


def only_declared(frame: pd.DataFrame, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Keep only the declared column if the model takes one column and does not know its name."""
    declared = [name for name in frame.columns if name in expected.columns]
    others = [str(name) for name in frame.columns if name not in expected.columns]
    if expected.names is not None or expected.width != 1 or len(declared) != 1 or not others:
        return frame
    notes.append(f"sample: the column {declared[0]!r} is taken, as declared; not taken: {', '.join(others[:10])}")
    return frame[declared]
