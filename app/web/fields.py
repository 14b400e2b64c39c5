"""The form of the playground: a field for each input of a model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from werkzeug.datastructures import MultiDict

from app.web.cards import any_value, data_url, label, seen

MANY_INPUTS: Final = 24
"""Number of inputs above which each field is small and has no slider."""
MOST_INPUTS: Final = 400
"""Number of inputs above which one field takes the whole record, as JSON."""
FEW_CHOICES: Final = 5
SHORT_CHARS: Final = 14
POSITIONS: Final = 200
"""Approximate number of positions of a slider."""
RECORD: Final = {"name": "record", "kind": "record"}
_LOCAL: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?", re.ASCII)
FormValues = MultiDict[str, str]
"""The values of a form or of a query."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form.

    Attributes:
        id: the HTML id, which is unique in the page.
        control: which part of the template draws the field.
        text: the content of the field.
        missing: whether an empty text stands for null.
        typed: whether the text is JSON, because not all categories are text.
        choices: for each choice, the text that the form sends and the text that people read.
        step: the step of the slider; empty if there is no slider.
        seen: the range of the values in training, in words.
        source: the image as a data URL.
        draws: whether the user can draw the image.
        heights: the bars above the slider, of the values in training.
    """

    name: str
    id: str
    kind: str
    control: str
    text: str = ""
    nullable: bool = False
    missing: bool = False
    typed: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    minimum: str = ""
    maximum: str = ""
    step: str = ""
    seen: str = ""
    note: str = ""
    source: str = ""
    draws: bool = False
    rows: int = 1
    heights: tuple[float, ...] = ()
    error: str = ""
    warning: str = ""


def own_key(model: Mapping[str, Any], name: str) -> str:
    """Return a key for a form or a query that differs from the name of every input.

    A form lists its missing texts under the key for `missing`. A query has the number of an example under the key for
    `example`.
    """
    names, key = {each["name"] for each in model["inputs"]}, f".{name}"
    while key in names:
        key = f".{key}"
    return key


def is_whole(model: Mapping[str, Any]) -> bool:
    """Return whether the form has one field for the whole record."""
    inputs = model["inputs"]
    return len(inputs) > MOST_INPUTS or (len(inputs) == 1 and inputs[0]["kind"] == "record")


def as_record(model: Mapping[str, Any], instance: Any) -> dict[str, Any]:
    """Return an instance as a record, also if it is a row or the value of the only input."""
    if isinstance(instance, Mapping):
        return dict(instance)
    names = [spec["name"] for spec in model["inputs"]]
    return dict(zip(names, instance if isinstance(instance, list) else [instance], strict=False))


def example_record(model: Mapping[str, Any], form: FormValues | None = None) -> dict[str, Any]:
    """Return the recorded example with the form's number, else the first, else a record of the inputs' examples."""
    examples = model.get("examples") or ()
    if examples:
        chosen = str(form.get(own_key(model, "example"))) if form is not None else ""
        number = int(chosen) if re.fullmatch(r"[0-9]{1,3}", chosen) else 1
        return as_record(model, examples[number - 1 if 1 <= number <= len(examples) else 0]["instance"])
    if is_whole(model) and model["inputs"][0]["kind"] == "record":
        return dict(model["inputs"][0].get("example") or {})
    return {each["name"]: any_value(each) for each in model["inputs"]}


def fields(
    model: Mapping[str, Any], form: FormValues | None = None, answer: Mapping[str, Any] | None = None
) -> tuple[Field, ...]:
    """Return the fields of a model's form, with an example, the content of `form`, and the errors of the answer."""
    record = example_record(model, form)
    absent = set(form.getlist(own_key(model, "missing"))) if form is not None else set()
    profile = (model.get("profile") or {}).get("inputs", {})
    form_fields = []
    for number, described in enumerate([RECORD] if is_whole(model) else model["inputs"]):
        name = described["name"]
        field = field_for(described, f"f{number}", record if is_whole(model) else record.get(name))
        if form is not None and name in form:
            field = _with_text(field, str(form.get(name)))
        if name in absent:
            field = replace(field, missing=True, text="")
        field = replace(field, heights=heights_of(profile.get(name)) if field.step else ())
        if answer is not None:
            field = replace(field, error=answer["errors"].get(name, ""), warning=answer["warnings"].get(name, ""))
        form_fields.append(field)
    return tuple(form_fields)


def field_for(described: Mapping[str, Any], identity: str, value: object) -> Field:
    """Return the field of one input, with this value."""
    kind, name = described["kind"], described["name"]
    nullable = bool(described.get("nullable")) and not described.get("shape") and kind != "record"
    field = Field(name, identity, kind, "line", _text(value), nullable)
    if kind in ("number", "integer"):
        return _number_field(field, described)
    if kind == "boolean":
        return _choice_field(field, (True, False), value)
    if kind == "category":
        field = _choice_field(field, tuple(described.get("categories") or ()), value)
        is_closed = described.get("unseen", "reject") == "reject"
        return field if is_closed else replace(field, control="open", note="others are accepted")
    if kind == "text":
        rows = min(8, 2 + len(field.text) // 60)
        return replace(field, control="text", rows=rows, missing=nullable and value is None)
    if kind == "timestamp":
        local = _local(value)
        control = "line" if local is None else "timestamp"
        return replace(field, control=control, text=local or field.text, note="in UTC")
    if kind == "image":
        return _image_field(field, described)
    if kind in ("array", "record"):
        text = _table(value) if value is not None else ""
        shape = " x ".join(map(str, described.get("shape") or ()))
        note = f"{shape} numbers: rows of them, or JSON" if shape else "JSON"
        return replace(field, control="json", text=text, note=note, rows=min(12, 2 + text.count("\n")))
    return replace(field, note="not used by the model" if kind == "unused" else "")


def heights_of(distribution: Mapping[str, Any] | None) -> tuple[float, ...]:
    """Return the heights of a distribution's bars, 10 for the highest. A bar that is not 0 is tall enough to see."""
    counts = (distribution or {}).get("counts") or ()
    most = max(counts, default=0)
    return tuple(round(max(10 * count / most, 0.4 if count else 0), 2) for count in counts) if most else ()


def _with_text(field: Field, text: str) -> Field:
    field = replace(field, text=text, missing=False)
    if field.control == "image":
        return replace(field, source=data_url(text))
    if field.control == "timestamp" and text and _LOCAL.fullmatch(text) is None:
        return replace(field, control="line")
    return field


def _number_field(field: Field, described: Mapping[str, Any]) -> Field:
    least, most = described.get("minimum"), described.get("maximum")
    field = replace(field, control="number", seen=seen(least, most))
    if least is None or most is None or not least < most:
        return field
    step = 10.0 ** math.floor(math.log10((most - least) / POSITIONS))
    if field.kind == "integer":
        step = max(1, int(step))
    return replace(field, minimum=_text(least), maximum=_text(most), step=_without_exponent(step))


def _without_exponent(number: float) -> str:
    """Return a number without an exponent if that is short: the slider counts the decimals."""
    return f"{number:.12f}".rstrip("0").rstrip(".") if 1e-9 < number < 1e15 else repr(number)


def _choice_field(field: Field, values: Sequence[object], value: object) -> Field:
    is_typed = not all(isinstance(each, str) and each for each in values)
    choices = tuple((json.dumps(each) if is_typed else str(each), label(each)) for each in values)
    are_short = len(choices) <= FEW_CHOICES and all(len(shown) <= SHORT_CHARS for _, shown in choices)
    text = "" if value is None else json.dumps(value) if is_typed else _text(value)
    return replace(field, control="pills" if are_short else "select", choices=choices, typed=is_typed, text=text)


def _image_field(field: Field, described: Mapping[str, Any]) -> Field:
    picture = msgspec.to_builtins(described["image"]) if described.get("image") is not None else {}
    note = f"the model sees it as {picture['width']} x {picture['height']} pixels" if picture else ""
    draws = picture.get("mode") == "L"
    return replace(field, control="image", source=data_url(field.text), draws=draws, note=note)


def _local(value: object) -> str | None:
    """Return a timestamp in UTC for a `datetime-local` field; None if such a field cannot represent it."""
    try:
        if isinstance(value, int | float):
            moment = datetime.fromtimestamp(value, UTC)
        elif isinstance(value, str):
            moment = datetime.fromisoformat(value)
        else:
            return ""
    except (ValueError, OverflowError, OSError):
        return None
    text = (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None).isoformat()
    text = re.sub(r"(\.\d{3})000$", r"\1", text)
    text = re.sub(r"(T\d\d:\d\d):00$", r"\1", text)  # browsers omit seconds of 0
    return text if _LOCAL.fullmatch(text) and not re.search(r"\.\d{7,}", str(value)) else None


def _table(value: object) -> str:
    """Return an array of one or two dimensions as lines of numbers, and any other value as JSON."""
    rows = value if isinstance(value, list) and value and all(isinstance(row, list) for row in value) else [value]
    lines = []
    for row in rows:
        if not isinstance(row, list) or any(isinstance(cell, list | dict) for cell in row):
            return json.dumps(value, ensure_ascii=False)
        lines.append(", ".join(map(_text, row)))
    return "\n".join(lines)


def _text(value: object) -> str:
    """Return the text of a field for a value: text unchanged, null as empty text."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return repr(value).removesuffix(".0")
    return json.dumps(value, ensure_ascii=False)
