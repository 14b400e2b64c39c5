"""Nested objects in records: `{"a": {"b": 1}}` for an input named `a.b`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from app.signature.field_errors import escaped


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
    """Return the JSON schema of records with nested objects, made from that of records with dotted names."""
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
