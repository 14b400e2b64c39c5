"""Read rows in JSON: a document in any orientation of pandas, a request body of a server, or a record in each line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from app.errors import PackingRefused
from app.packing.sample.expected import Expected

WRAPPERS = ("instances", "inputs", "dataframe_split", "dataframe_records", "records", "rows", "data")
"""Keys that may be the only one of a document and hold its rows."""


def read(text: str, expected: Expected, notes: list[str], *, lines: bool = False) -> pd.DataFrame:
    """Read the rows of a JSON document; if the text is not one document, read a record in each line."""
    if not lines:
        try:
            return frame_of(_parsed(text), expected, notes)
        except ValueError as error:
            if len(text.strip().splitlines()) < 2:
                raise
            try:
                return read(text, expected, notes, lines=True)
            except ValueError:
                raise error from None
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                records.append(_parsed(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    if len(records) == 1:
        return frame_of(records[0], expected, notes)
    notes.append(f"sample: {len(records)} rows of JSON lines")
    return _of_list(records, expected)


def frame_of(document: Any, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Return the rows of a document in any orientation."""
    if isinstance(document, dict) and len(document) == 1 and next(iter(document)) in WRAPPERS:
        (inner,) = document.values()
        if isinstance(inner, dict) or (isinstance(inner, list) and not all(map(expected.named, document))):
            return frame_of(inner, expected, notes)
    frame, orientation = _oriented(document, expected)
    notes.append(f"sample: {len(frame)} rows of JSON, {orientation}")
    return frame


def _oriented(document: Any, expected: Expected) -> tuple[pd.DataFrame, str]:
    if isinstance(document, list):
        values = bool(document) and isinstance(document[0], list)
        return _of_list(document, expected), "orientation values" if values else "orientation records"
    if not isinstance(document, dict):
        raise PackingRefused(f"is JSON, but not of rows: it is {document!r:.80}")
    if isinstance(document.get("schema"), dict) and isinstance(document.get("data"), list):
        return _of_table(document["schema"], document["data"], expected), "orientation table"
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        return pd.DataFrame(document["data"], columns=list(map(str, document["columns"]))), "orientation split"
    if document and all(isinstance(value, dict) for value in document.values()):
        return _of_dicts(document, expected)
    if document and all(isinstance(value, list) for value in document.values()):
        return pd.DataFrame(document), "a list for each column"
    if any(isinstance(value, dict | list) for value in document.values()):
        raise PackingRefused(f"is JSON, but not of rows: its keys are {', '.join(map(str, list(document)[:10]))}")
    return pd.DataFrame([document]), "one record"


def _of_list(rows: Sequence[Any], expected: Expected) -> pd.DataFrame:
    if all(isinstance(row, dict) for row in rows):
        return pd.DataFrame(list(rows))
    if all(isinstance(row, list) for row in rows):
        names = [str(name) for name in rows[0]]
        if len(set(names)) == len(names) and any(map(expected.named, names)):
            return pd.DataFrame(list(rows[1:]), columns=names)
        width = max(map(len, rows))
        return pd.DataFrame(list(rows), columns=made_up_names(width, expected))
    if not any(isinstance(row, dict | list) for row in rows):
        return pd.DataFrame({made_up_names(1, expected)[0]: list(rows)})
    raise PackingRefused("is JSON, but some of its rows are records and some are not")


def _of_table(schema: Mapping[str, Any], rows: Sequence[Any], expected: Expected) -> pd.DataFrame:
    """Return the rows of a table document with the types of its schema, without its index."""
    index = schema.get("primaryKey") or []
    frame = pd.DataFrame(list(rows))
    for column in schema.get("fields", ()):
        name, kind = column.get("name"), column.get("type")
        if name in index and not expected.named(str(name)):
            frame = frame.drop(columns=[name], errors="ignore")
        elif name in frame and kind == "datetime":
            times = pd.to_datetime(frame[name], utc="tz" in column, format="ISO8601")
            frame[name] = times.dt.tz_convert(column["tz"]) if "tz" in column else times.dt.tz_localize(None)
        elif name in frame and "enum" in column.get("constraints", {}):
            frame[name] = pd.Categorical(
                frame[name], categories=column["constraints"]["enum"], ordered=bool(column.get("ordered"))
            )
    return frame


def _of_dicts(document: dict[str, dict[str, Any]], expected: Expected) -> tuple[pd.DataFrame, str]:
    """Return the rows of a dict of dicts. Keys that the model names are columns; else numbers are rows."""
    outer = list(document)
    inner = list(dict.fromkeys(key for value in document.values() for key in value))
    excess = sum(map(expected.named, inner)) - sum(map(expected.named, outer))
    numbered = all(key.isdigit() for key in outer) and not all(key.isdigit() for key in inner)
    if excess > 0 or (excess == 0 and numbered):
        return pd.DataFrame(list(document.values())), "orientation index"
    rows = [{name: column.get(key) for name, column in document.items()} for key in inner]
    return pd.DataFrame(rows, columns=outer), "orientation columns"


def made_up_names(width: int, expected: Expected) -> list[str]:
    """Return names for columns without names: those of the model and the targets, else feature1, feature2, …"""
    names = list(expected.names or [f"feature{place + 1}" for place in range(min(expected.width or width, width))])
    if len(names) == width:
        return names
    if len(names) == width - len(expected.targets):
        return [*names, *expected.targets]
    return [f"feature{place + 1}" for place in range(width)]


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)  # takes NaN and Infinity too, which Python writes
