"""Valid and invalid values of every kind of input, and their form in each media type."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from PIL import Image

from tests.wire.codecs import bodies
from tests.wire.codecs.estimators import WEATHER

Record = dict[str, Any]


def png(seed: int) -> str:
    """Return an image in base64."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def grid(seed: int) -> list[list[float]]:
    return np.random.default_rng(seed).normal(size=(4, 4)).tolist()


FRAME: Record = {
    "number": 1.5,
    "integer": 7,
    "whole": 2**53 + 1,
    "boolean": True,
    "category": "red",
    "text": "some words",
    "timestamp": "2024-01-31T12:30:00Z",
    "size.width": 2.0,
}
GRID: Record = {"array": grid(0), "image": png(0)}


def frame(**values: Any) -> Record:
    """Return a record for the model `frame`."""
    return FRAME | values


def nested(width: Any) -> Record:
    return {name: value for name, value in FRAME.items() if name != "size.width"} | {"size": {"width": width}}


@dataclass(frozen=True, slots=True)
class Case:
    """Records with values of one kind, as in JSON. Text that is not a number is invalid only in typed formats."""

    model: str
    good: list[Record]
    bad: list[Record]
    bad_types: list[Record] = field(default_factory=list)


def of_frame(name: str, good: list[Any], bad: list[Any], bad_types: list[Any] | None = None) -> Case:
    return Case("frame", *([FRAME | {name: value} for value in values] for values in (good, bad, bad_types or [])))


def of_grid(name: str, good: list[Any], bad: list[Any]) -> Case:
    return Case("grid", *([GRID | {name: value} for value in values] for values in (good, bad)))


CASES: dict[str, Case] = {
    "number": of_frame("number", [1.5, 2, -0.0, 5e-324, 0.1 + 0.2], ["x", "y"], [True]),
    "integer": of_frame("integer", [7, 0, -(2**40)], [7.5, 1e30], [True]),
    "nullable integer": of_frame("whole", [2**53 + 1, 2**62 + 1, 0], [7.5], ["7"]),
    "boolean": of_frame("boolean", [True, False], ["perhaps"], [1]),
    "category": of_frame("category", ["red", "green"], ["mauve"], [1]),
    "text": of_frame("text", ["some words", 'a "quoted", and\na broken line', "\u00fc\U0001f600", "7"], [], [7]),
    "timestamp": of_frame("timestamp", ["2024-01-31T12:30:00Z", "2024-07-01T14:00:00.123456+02:00"], ["noon"], [True]),
    "timestamp in seconds": of_frame("timestamp", [1719835200, 0], [1e30]),
    "array": of_grid("array", [grid(1), grid(2)], [[row[:3] for row in grid(1)], np.full((4, 4), np.nan).tolist()]),
    "image": of_grid("image", [png(1), png(2)], [png(1)[:80], base64.b64encode(b"no image").decode()]),
    "dotted name": of_frame("size.width", [1.5, -2.5], ["wide"], [True]),
    "object inside a record": Case("frame", [nested(1.5), nested(-2.5)], [nested("wide")], [nested(True)]),
    "whole record": Case(
        "weather", WEATHER[:3], [{"city": "Rome", "sun": float("inf")}], [{"city": "Rome", "sun": [1.0]}]
    ),
    "unused": Case("drops", [{"number": 1.5, "text": "any"}], [{"number": 1.5, "text": [1.5, 2.5]}]),
    "missing number": of_frame("number", [None, 1.5, None], []),
    "missing integer": of_frame("integer", [None, 7], []),
    "missing timestamp": of_frame("timestamp", [None, "2024-01-31T12:30:00Z"], []),
    "missing text": of_frame("text", [None, "some words"], []),
    "missing category": of_frame("category", [None, "red"], []),
    "missing boolean": of_frame("boolean", [None, True], []),
}


def each_in(record: Record, change: Callable[[str, Any], Any]) -> Record:
    return {name: change(name, value) for name, value in record.items()}


def with_bytes(name: str, value: Any) -> Any:
    """Return images as bytes."""
    return base64.b64decode(value + "=" * (-len(value) % 4)) if name == "image" and type(value) is str else value


def with_times(name: str, value: Any) -> Any:
    """Return timestamps as datetime values."""
    if name != "timestamp" or type(value) is not str:
        return value
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:
        return value


def with_naive_times(name: str, value: Any) -> Any:
    made = with_times(name, value)
    return np.datetime64(made.replace(tzinfo=None)) if isinstance(made, datetime) else made


def one_by_one(record: Record) -> bodies.Body:
    """Return a record as the fields of a form, with images as files."""
    if record.keys() <= {"city", "sun", "wind"}:
        record = {"record": record}
    parts = [
        (name, value, "image/png")
        if isinstance(value, bytes)
        else (name, str("" if value is None else bodies.cell(value)).encode(), None)
        for name, value in each_in(record, with_bytes).items()
    ]
    return bodies.form(parts)


def csv_of(records: list[Record]) -> bodies.Body:
    whole = all(record.keys() <= {"city", "sun", "wind"} for record in records)
    return bodies.as_csv([{"record": record} for record in records] if whole else records)


def after(change: Callable[[str, Any], Any], make: Callable[[bodies.Records], bodies.Body]) -> Any:
    return lambda records: make([each_in(record, change) for record in records])


def binary(name: str, value: Any) -> Any:
    return with_times(name, with_bytes(name, value))


MEDIA: dict[str, Callable[[list[Record]], bodies.Body]] = {
    "JSON": bodies.as_json,
    "NDJSON": bodies.as_ndjson,
    "MessagePack": after(binary, bodies.as_msgpack),
    "CSV": csv_of,
    "Parquet": after(binary, bodies.as_parquet),
    "Arrow": after(binary, bodies.as_arrow),
    "npy": after(with_naive_times, bodies.as_npy),
    "npz": after(with_naive_times, bodies.as_npz),
    "form": lambda records: one_by_one(*records),
}
UNTYPED = ("CSV", "form")
PICKLED = "pickled Python objects"
REFUSED: dict[tuple[str, str], str] = {
    (kind, media): says
    for media in ("npy", "npz")
    for kind, says in {
        "missing text": PICKLED,
        "missing category": PICKLED,
        "missing boolean": PICKLED,
        "object inside a record": "numbers, booleans, text and datetime64 are taken",
    }.items()
}
"""The kinds that a media type cannot hold, with the message of the refusal."""


def as_numpy_would(media: str, records: list[Record]) -> bodies.Body:
    """Return missing values as pickled objects, and objects as nested structures."""
    columns: dict[str, Any] = {}
    for name, value in records[0].items():
        values = [record[name] for record in records]
        if isinstance(value, dict):
            columns[name] = np.array([tuple(each.values()) for each in values], [(key, "f8") for key in value])
        else:
            columns[name] = np.array(values, object) if None in values else np.array(values)
    if media == "npz":
        return "application/x-npz", bodies.npz(**columns)
    array = np.empty(len(records), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        array[name] = column
    return "application/x-npy", bodies.npy(array)
