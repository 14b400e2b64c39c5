"""Read the record that a filled form stands for.

`static/site/form.js` builds the same record in the browser. Both send a text that they cannot read as it was typed: the
server says better what is wrong with it.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.web.fields import RECORD, Field, FormValues, field_for, is_whole, missing_key


def record_of(model: Mapping[str, Any], form: FormValues, files: Mapping[str, bytes]) -> object:
    """Return the record that a form stands for; `files` are the images that were chosen, by the name of the input."""
    absent = set(form.getlist(missing_key(model)))
    if is_whole(model):
        return _json_or_text(str(form.get(RECORD["name"]) or ""))
    record: dict[str, Any] = {}
    for number, described in enumerate(model["inputs"]):
        name = described["name"]
        field = field_for(described, f"f{number}", None)
        if name in files:
            record[name] = base64.b64encode(files[name]).decode()
        elif name in absent:
            record[name] = None
        elif name in form and (value := _value(field, described, str(form.get(name)))) is not ABSENT:
            record[name] = value
    return record


def shown_record(model: Mapping[str, Any], shown: Sequence[Field]) -> object:
    """Return the record that fields stand for as they are shown."""
    if is_whole(model):
        return _json_or_text(shown[0].text)
    record: dict[str, Any] = {}
    for field, described in zip(shown, model["inputs"], strict=True):
        value = None if field.missing else _value(field, described, field.text)
        if value is not ABSENT:
            record[field.name] = value
    return record


ABSENT: Final = object()
"""The value of a field that is empty though the model needs one: it is left out, and the server says so."""


def _value(field: Field, described: Mapping[str, Any], text: str) -> object:
    text = text.replace("\r\n", "\n")
    if field.control == "text":
        return text
    if text.strip() == "":
        return None if field.nullable else ABSENT
    if field.control == "json":
        return _array(text, described.get("shape"))
    if field.typed or described["kind"] in ("number", "integer", "boolean", "unused"):
        return _json_or_text(text)
    return text


def _array(text: str, shape: Sequence[int] | None) -> object:
    """Return JSON as it is; else the numbers of a table, as lists of the shape where their count is right."""
    value = _json_or_text(text)
    if isinstance(value, list | dict) or shape is None:
        return value
    cells: list[Any] = [_json_or_text(cell) for cell in re.split(r"[\s,;]+", text.strip()) if cell]
    if len(cells) != math.prod(shape):
        return cells
    for width in reversed(shape[1:]):
        cells = [cells[at : at + width] for at in range(0, len(cells), width)]
    return cells


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text
