"""JSON schemas of the models as components of the OpenAPI document, in a form that client generators support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import marshmallow as ma
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from app.signature import INT64_MAX, INT64_MIN, Layout, Signature
from app.signature.kinds import KINDS
from app.signature.records import nested_schema
from app.signature.schema import schema_of

Schema = dict[str, Any]

OPENAPI_VERSION = "3.1.0"
ANNOTATIONS = ("description", "example")
"""Keywords of a field that only the record has, not the row."""
TYPE_KEYWORDS: Mapping[str, Sequence[str]] = {
    "string": ("minLength", "maxLength", "pattern"),
    "number": ("minimum", "maximum"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "object": ("properties", "required", "additionalProperties"),
}
NESTED_KEYWORDS = ("items", "additionalProperties")
"""Keywords whose value is a schema or a boolean."""


@dataclass(frozen=True, slots=True)
class ModelSchemas:
    """The schemas of a model's requests.

    `instance` is a record or a row. `many` is an object with a list of instances and the requested outputs. `fields`
    are the schemas of the inputs by name, `outputs` the names of the outputs. `joined` is the keyword for a choice of
    `record` and `many`: "oneOf" if a record cannot match `many`.
    """

    record: Schema
    row: Schema
    instance: Schema
    many: Schema
    fields: Mapping[str, Schema]
    outputs: Sequence[str]
    joined: str = "anyOf"

    @property
    def instances(self) -> Schema:
        """The schema of a list of records or rows."""
        return {"type": "array", "items": self.instance}

    @property
    def requested_outputs(self) -> Schema:
        """The schema of a list of output names. Null stands for the default outputs."""
        return _requested_outputs(self.outputs)


def _requested_outputs(outputs: Sequence[str]) -> Schema:
    return {"type": ["array", "null"], "items": {"type": "string", **({"enum": list(outputs)} if outputs else {})}}


def object_schema(properties: Mapping[str, Any], required: Sequence[str] = (), **keywords: Any) -> Schema:
    """Return the schema of an object with these properties and keywords."""
    needed = {"required": [*required]} if required else {}
    return {"type": "object", **needed, "properties": {**properties}, **keywords}


def _many(instance: Schema, outputs: Sequence[str]) -> Schema:
    properties = {"instances": {"type": "array", "items": instance}, "outputs": _requested_outputs(outputs)}
    return object_schema(properties, ["instances"], additionalProperties=False)


_RECORD = {"type": "object", "description": "one record, by feature name"}
_ROW = {"type": "array", "items": {}}
_INSTANCE = {"anyOf": [_RECORD, _ROW]}
ANY = ModelSchemas(_RECORD, _ROW, _INSTANCE, _many(_INSTANCE, ()), {}, ())
"""The schemas of any model, for paths that can name any model."""


def reference(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def component(name: str, schema: type[ma.Schema] | ma.Schema) -> Schema:
    """Return the JSON schema of a marshmallow schema."""
    spec = APISpec("", "", OPENAPI_VERSION, plugins=[MarshmallowPlugin()])
    spec.components.schema(name, schema=schema)
    json_schema: Schema = spec.to_dict()["components"]["schemas"][name]
    return json_schema


def model_schemas(key: str, signature: Signature) -> tuple[ModelSchemas, dict[str, Schema]]:
    """Return the schemas of one model, and their components. The names of the components begin with `key`."""
    name = f"{key}.record"
    whole = signature.layout is Layout.RECORDS
    record = _record_schema(signature) if whole else component(name, schema_of(signature, key))
    fields: dict[str, Schema] = {}
    if not whole:
        fields = {each: _portable(record["properties"][each]) for each in signature.names}
        record |= {"properties": fields, "required": [each for each in fields if each in record["required"]]}
    bare = {
        each: {key: value for key, value in field.items() if key not in ANNOTATIONS} for each, field in fields.items()
    }
    row = {
        "type": "array",
        "prefixItems": [reference(name)] if whole else [{**field, "description": each} for each, field in bare.items()],
        "items": {},  # for generators that do not know prefixItems
        "minItems": len(signature.names),
        "maxItems": len(signature.names),
        "description": "the values in this order: " + ", ".join(signature.names[:100]),
    }
    variants = {}
    if any("." in each for each in fields) and (nested := nested_schema(record)) is not record:
        # A dotted name may be sent as an object inside the record.
        variants = {f"{key}.flat": record, f"{key}.nested": nested}
        record = {"oneOf": [*map(reference, variants)]}
    bare_values = [_bare_values(bare[each]) for each in signature.names if signature.takes_bare]
    components = {
        name: record,
        f"{key}.row": row,
        # Not "oneOf": openapi-generator's Python client reads an object as a list of its fields.
        f"{key}.instance": {"anyOf": [reference(name), reference(f"{key}.row"), *bare_values]},
        f"{key}.instances": _many(reference(f"{key}.instance"), signature.outputs),
    }
    record, row, instance, many = map(reference, components)
    joined = "anyOf" if whole or "instances" in fields else "oneOf"
    return ModelSchemas(record, row, instance, many, bare, signature.outputs, joined), components | variants


def _bare_values(field: Schema) -> Schema:
    """Return the schema of bare values of a field, without objects and lists, which would be records and rows."""
    if "oneOf" not in field:
        return field
    return {**field, "oneOf": [each for each in field["oneOf"] if each.get("type") not in ("object", "array")]}


def _record_schema(signature: Signature) -> Schema:
    """Return the schema of a record that the model takes whole."""
    (spec,) = signature.inputs
    kind = KINDS[spec.kind]
    example = {} if spec.example is None else {"example": spec.example}
    return one_type_each({**kind.schema(spec), "description": kind.describe(spec), **example})


def _portable(field: Schema) -> Schema:
    """Return a field with the format "int64" instead of 64-bit limits, which JavaScript numbers cannot represent."""
    if field.get("minimum") == INT64_MIN and field.get("maximum") == INT64_MAX and "integer" in field["type"]:
        field = {name: value for name, value in field.items() if name not in ("minimum", "maximum")}
        field["format"] = "int64"
    return one_type_each(field)


def one_type_each(schema: Schema) -> Schema:
    """Return the schema with `oneOf` instead of lists of types. Client generators support only one type and null."""
    converted = {
        name: one_type_each(subschema) if name in NESTED_KEYWORDS and isinstance(subschema, dict) else subschema
        for name, subschema in schema.items()
    }
    if "properties" in schema:
        converted["properties"] = {name: one_type_each(subschema) for name, subschema in schema["properties"].items()}
    types = schema.get("type")
    if not isinstance(types, list):
        return converted
    if len({*types} - {"null"}) == 1:
        return converted | {"type": types if "null" in types else types[0]}
    type_keywords = {keyword for keywords in TYPE_KEYWORDS.values() for keyword in keywords}
    choices = [
        {"type": type_name, **{name: converted[name] for name in TYPE_KEYWORDS.get(type_name, ()) if name in converted}}
        for type_name in types
    ]
    return {
        "oneOf": choices,
        **{name: value for name, value in converted.items() if name not in type_keywords | {"type"}},
    }
