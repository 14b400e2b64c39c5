"""Convert untyped text, from CSV or a form's field, to the value that its input has in JSON.

Text that is not valid for its input's kind stays text. The schema refuses it like the same text in JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from app.errors import InvalidJson
from app.signature import Input
from app.signature.json_values import MAX_INTEGER_DIGITS, read_json

NUMBER = re.compile(r"\s*([+-]?)(?:([0-9]+)|(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*", re.ASCII)
MAX_NUMBER_CHARS = 10_000
"""Longer cells stay text: they cannot be numbers."""
WORDS = {"nan": float("nan"), "inf": float("inf"), "infinity": float("inf"), "-inf": -float("inf")}
BOOLEANS = {"true": True, "false": False}

Read = Callable[[str], Any]


def reader_of(spec: Input) -> Read:
    """Return the function that reads a cell of this input. An empty cell is missing, or "" for text that is not
    nullable."""
    types = {type(category) for category in spec.categories or ()}
    if spec.kind == "category" and types and str not in types:
        return _boolean if types == {bool} else _number
    readers: dict[str, Read] = {"number": _number, "integer": _number, "boolean": _boolean, "timestamp": _number}
    if spec.kind in ("text", "category"):
        takes_empty = not spec.nullable if spec.kind == "text" else "" in (spec.categories or ())
        return str if takes_empty else lambda cell: cell or None
    return readers.get(spec.kind, read_untyped)


def _number(cell: str) -> Any:
    if len(cell) > MAX_NUMBER_CHARS:
        return None if cell.isspace() else cell
    match = NUMBER.fullmatch(cell)
    if match is None:
        return None if not cell.strip() else WORDS.get(cell.strip().lower(), cell)
    # Python refuses to convert thousands of digits. The schema refuses an integer this large.
    return float(cell) if match[2] is None else int(match[1] + match[2][:MAX_INTEGER_DIGITS])


def _boolean(cell: str) -> Any:
    if len(cell) > MAX_NUMBER_CHARS:
        return None if cell.isspace() else cell
    return BOOLEANS.get(cell.strip().lower(), cell) if cell.strip() else None


def read_untyped(cell: str) -> Any:
    """Return a cell as JSON if it is an array or an object, else as text."""
    if cell[:1] in ("[", "{"):
        try:
            return read_json(cell.encode())
        except InvalidJson:
            return cell
    return cell or None
