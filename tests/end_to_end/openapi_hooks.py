"""Hooks for Schemathesis: strict reading of the document, and rules of bodies that JSON Schema cannot express."""

from __future__ import annotations

from typing import Any

import schemathesis

TEXT_TABLES = ("text/csv", "application/x-ndjson")
FORM = "multipart/form-data"
INT64 = range(-(2**63), 2**63)


@schemathesis.serializer(*TEXT_TABLES)
def table(context: Any, value: Any) -> bytes:
    """Return the text of a table."""
    return str(value).encode()


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Remove `default`, which stands for a server in front of the application: every status must be documented."""
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            if isinstance(operation, dict):
                operation.get("responses", {}).pop("default", None)


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Drop negative cases of tables: no text violates their schema, and only documented text is known to be valid.

    A form cannot contain an image file here: a case with other bytes than were drawn counts as negative.
    """
    if case.media_type == FORM and is_meant_well(case) and image_of(case) is not None:
        return False
    return case.media_type not in TEXT_TABLES or (is_meant_well(case) and "example" in documented(case))


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Make positive cases valid where the schema allows more than the server."""
    if is_meant_well(case):
        if case.media_type in TEXT_TABLES:
            case.body = documented(case)["example"]
        elif case.body is not schemathesis.core.NOT_SET:
            case.body = acceptable(case.body, image_of(case))
            known = {"model": sorted(models(case)), "version": ["1"], "verb": ["predict", "classify", "regress"]}
            for name in known.keys() & case.path_parameters.keys():
                drawn = len(str(case.path_parameters[name]))
                if drawn % 4:  # otherwise the schema describes a missing value
                    case.path_parameters[name] = known[name][drawn % len(known[name])]
    return case


def is_meant_well(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


def models(case: Any) -> dict[str, Any]:
    """Return the schemas of records, by the names of the models."""
    schemas = case.operation.schema.raw_schema["components"]["schemas"]
    return {name.removesuffix(".record"): schema for name, schema in schemas.items() if name.endswith(".record")}


def documented(case: Any) -> dict[str, Any]:
    """Return the documentation of a case's media type."""
    found: dict[str, Any] = case.operation.definition.raw["requestBody"]["content"][case.media_type]
    return found


def image_of(case: Any) -> Any:
    """Return the example of an image input, because its schema allows any string."""
    path: str = case.operation.path
    record = models(case).get(path.removeprefix("/models/").removesuffix("/predict"), {})
    return record.get("properties", {}).get("image", {}).get("example")


def acceptable(value: Any, image: Any) -> Any:
    """Return a value with real images, columns of equal length, and integers of at most 64 bits: 1e20 stays a
    number."""
    if isinstance(value, dict):
        if image is not None and ("image" in value or "b64" in value):
            return dict.fromkeys(value, image)
        value = {key: acceptable(each, image) for key, each in value.items()}
        if isinstance(columns := value.get("inputs"), dict) and all(
            isinstance(each, list) for each in columns.values()
        ):
            rows = min(map(len, columns.values()), default=0)
            value["inputs"] = {key: each[:rows] for key, each in columns.items()}
        return value
    if isinstance(value, list):
        return [acceptable(each, image) for each in value]
    if isinstance(value, str) and image is not None:
        return image
    return float(value) if type(value) is int and value not in INT64 else value
