"""Free-form records of numbers, strings and booleans, for models that begin with a DictVectorizer.

Nested objects become dotted names, because the vectorizer takes flat ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import marshmallow as ma

from app.signature import INT64_MAX, INT64_MIN, Input, Rule, is_missing, type_name
from app.signature.batch import Column, objects_of
from app.signature.field_errors import escaped

MAX_DEPTH = 20
MEMBERS = "a number, a string, a boolean, a list of strings, or an object of these"


class Record:
    """An object with any names. The model ignores names that it has never seen."""

    field_class = ma.fields.Raw

    def rule(self, spec: Input) -> Rule:
        """Return the rule: objects with single values, or with objects of such."""

        def problem(value: Any) -> str | None:
            first = next(problems(value, spec), None)
            return first and (f"{first[0]}: {first[1]}" if first[0] else first[1])

        return problem

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column, shape (rows,), of flat dicts."""
        if any(is_missing(value) or next(problems(value, spec), None) for value in values):
            return None
        return objects_of([dict(_members(value)) for value in values])

    def describe(self, spec: Input) -> str:
        """Describe the accepted members."""
        null = "; a value may be null (missing)" if spec.nullable else ""
        return f"an object with any names, each with {MEMBERS}{null}"

    def schema(self, spec: Input) -> dict[str, Any]:
        """Return the schema of an object of single values and objects."""
        types = ["number", "string", "boolean", "object", "array"] + ["null"] * spec.nullable
        return {"type": "object", "additionalProperties": {"type": types, "items": {"type": "string"}}}


def problems(value: object, spec: Input) -> Iterator[tuple[str, str, object]]:
    """Yield each bad member: its pointer within the value, the reason, and its value."""
    if type(value) is not dict:
        yield "", f"must be an object of names and values, not {type_name(value)}", value
        return
    waiting: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), value)]
    while waiting:
        path, members = waiting.pop()
        for name, member in members.items():
            if type(member) is dict and len(path) + 1 < MAX_DEPTH:
                waiting.append(((*path, name), member))
            elif (detail := _problem(member, spec.nullable)) is not None:
                yield "/".join(map(escaped, (*path, name))), detail, member


def _problem(member: object, nullable: bool) -> str | None:
    if is_missing(member):
        return None if nullable else "must not be missing (null or NaN): leave the name out"
    if type(member) is dict:
        return f"must not be nested more than {MAX_DEPTH} deep"
    if type(member) is int:
        return None if INT64_MIN <= member <= INT64_MAX else "must fit in 64 bits as an integer"
    if type(member) is float:
        return None if math.isfinite(member) else "must be a finite number"
    strings = type(member) is list and all(type(part) is str for part in member)
    return None if strings or type(member) in (str, bool) else f"must be {MEMBERS}, not {type_name(member)}"


def _members(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, member in record.items():
        if type(member) is dict:
            yield from _members(member, f"{prefix}{name}.")
        else:
            yield prefix + name, member
