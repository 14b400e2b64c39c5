"""Nested objects in records: `{"a": {"b": 1}}` for an input named `a.b`; and free-form records.

Free-form records have numbers, strings and booleans, for models that begin with a DictVectorizer. Their nested objects
become dotted names too, because the vectorizer takes flat records.
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
        """Return the rule: objects whose members are single values, lists of strings, or objects like themselves."""

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


class Nesting:
    """The dotted names of a signature. Immutable, safe to share between threads."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        steps = [name.split(".") for name in names]
        self._objects = {".".join(part[:end]) for part in steps for end in range(1, len(part))} - self._names

    def __bool__(self) -> bool:
        return bool(self._objects)

    def flat(self, instance: Any) -> Any:
        """Return a record with dotted names instead of nested objects; other instances unchanged.

        If a name appears twice, the last value wins.
        """
        if type(instance) is not dict or not any(type(value) is dict for value in instance.values()):
            return instance
        return {name: value for name, _, value in self._leaves(instance, "", "")}

    def places(self, instance: dict[str, Any]) -> dict[str, str]:
        """Return for each input its pointer relative to the record, or the pointer where it is missing."""
        found = {name: place for name, place, _ in self._leaves(instance, "", "")}
        return {name: self._missing(instance, name) for name in self._names} | found

    def _leaves(self, record: dict[str, Any], prefix: str, path: str) -> Iterator[tuple[str, str, Any]]:
        for key, value in record.items():
            name, place = prefix + key, path + escaped(key)
            if type(value) is dict and name in self._objects:
                yield from self._leaves(value, f"{name}.", f"{place}/")
            else:
                yield name, place, value

    def _missing(self, record: dict[str, Any], name: str) -> str:
        """Return the pointer of a missing name, inside the objects that exist."""
        place, prefix, rest = "", "", name
        while "." in rest:
            key, _, below = rest.partition(".")
            inner = record.get(key)
            if type(inner) is not dict or prefix + key not in self._objects:
                break
            record, place, prefix, rest = inner, f"{place}{escaped(key)}/", f"{prefix}{key}.", below
        return place + escaped(rest)


def nested_schema(flat: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of records with nested objects, from the schema of records with dotted names."""
    nested = _object_schema()
    for name, field in flat["properties"].items():
        *objects, last = name.split(".")
        at = nested
        for key in objects:
            if key not in at["properties"]:
                at["required"].append(key)
                at["properties"][key] = _object_schema()
            at = at["properties"][key]
            if at.get("type") != "object" or "properties" not in at:  # `a` and `a.b` are both inputs
                return flat
        at["required"].append(last)
        at["properties"][last] = field
    return nested


def _object_schema() -> dict[str, Any]:
    return {"type": "object", "required": [], "properties": {}, "additionalProperties": False}
