"""What `/openapi.json` says of requests for predictions: the instances of a model, in each protocol's envelope.

The examples are true: sending one succeeds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from app.signature import Input, Layout
from app.signature.kinds import KINDS
from app.storage.manifest import Manifest
from app.wire.codecs import CODECS, JSON_TYPE, NDJSON_TYPE

Schema = dict[str, Any]

FOR_PEOPLE = ("description", "example")
SHOWN = 3
"""How many of the recorded examples are shown together."""
FORM_TYPE = "multipart/form-data"
IN_JSON = ("array", "record")
"""Kinds that a form has as JSON in one field."""
TEXT_TYPES = ("text/csv", NDJSON_TYPE)


@dataclass(frozen=True, slots=True)
class Described:
    """A model in JSON schemas: one record, one row, each field by its name; and the names of its outputs."""

    record: Schema
    row: Schema
    fields: Mapping[str, Schema]
    outputs: Sequence[str]

    @property
    def instances(self) -> Schema:
        """A list of records or rows."""
        return {"type": "array", "items": {"anyOf": [self.record, self.row]}}

    @property
    def wanted(self) -> Schema:
        """A list of outputs that are asked for; null is the default ones."""
        names = {"enum": list(self.outputs)} if self.outputs else {"type": "string"}
        return {"type": ["array", "null"], "items": names}


ANY = Described({"type": "object", "description": "one record, by feature name"}, {"type": "array"}, {}, ())
"""Whatever model the path names: what it takes stands in its own operation, `/models/<name>/predict`."""


@dataclass(frozen=True, slots=True)
class RequestForm:
    """The body of a path that predicts: its JSON around the instances of a model, and which examples it takes."""

    envelope: Callable[[Described], Schema]
    examples: Sequence[str] = ("records",)
    only_json: bool = False


def described(manifest: Manifest, component: str, schemas: dict[str, Schema]) -> Described:
    """A model whose record has this schema among the components."""
    record, names = {"$ref": f"#/components/schemas/{component}"}, manifest.signature.names
    whole = manifest.signature.layout is Layout.RECORDS
    # A record tells people what its fields are; a row need not tell them again.
    fields = {} if whole else {name: _bare(schemas[component]["properties"][name]) for name in names}
    titled = [{"title": name, **field} for name, field in fields.items()]
    row = {
        "type": "array",
        "prefixItems": [record] if whole else titled,
        "minItems": len(names),
        "maxItems": len(names),
        "description": "the values in this order: " + ", ".join(names[:100]),
    }
    return Described(record, row, fields, manifest.signature.outputs)


def _bare(field: Schema) -> Schema:
    return {key: value for key, value in field.items() if key not in FOR_PEOPLE}


def request_body(form: RequestForm, model: Described, manifest: Manifest | None) -> dict[str, Any]:
    """One record, or many, with the recorded examples of a model: the path's, or one of many that it can name."""
    json = {"schema": form.envelope(model)} | ({} if manifest is None else _examples(manifest, form))
    others = {} if form.only_json else _tables(model, manifest)
    return {"required": True, "content": {JSON_TYPE: json, **others}}


def _examples(manifest: Manifest, form: RequestForm) -> dict[str, Any]:
    signature = manifest.signature
    if not manifest.examples:
        return {}
    records = [example.instance for example in manifest.examples]
    whole = signature.layout is Layout.RECORDS
    rows = [[record] if whole else [record[name] for name in signature.names] for record in records]
    examples = {
        "record": {"summary": "one record", "value": records[0]},
        "records": {"summary": "many records", "value": {"instances": records[:SHOWN]}},
        "rows": {"summary": "many rows", "value": {"instances": rows[:SHOWN], "outputs": list(signature.defaults)}},
    }
    return {"examples": {name: examples[name] for name in form.examples}}


def _tables(model: Described, manifest: Manifest | None) -> dict[str, Any]:
    """The other media types of a request: with the recorded examples in those that are text."""
    content: dict[str, Any] = {
        name: {"schema": {"type": "string"} if name in TEXT_TYPES else {"type": "string", "format": "binary"}}
        for name in CODECS
        if name != JSON_TYPE
    }
    content[FORM_TYPE] = _form(model, manifest)
    records = [example.instance for example in manifest.examples[:SHOWN]] if manifest is not None else []
    names = list(records[0]) if records else []
    flat = not any(isinstance(value, list | dict) for record in records for value in record.values())
    if names and flat and all(record.keys() == set(names) for record in records):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([names, *([record[name] for name in names] for record in records)])
        content["text/csv"]["example"] = text.getvalue()
    if records:
        content[NDJSON_TYPE]["example"] = msgspec.json.Encoder().encode_lines(records).decode()
    return content


def _form(model: Described, manifest: Manifest | None) -> dict[str, Any]:
    """A form of a record's fields, in which nothing is null: what is empty is missing."""
    form: Schema = {"type": "object", "description": "a record's fields, empty where missing; or one file"}
    if manifest is None or model is ANY:
        return {"schema": form}
    inputs = manifest.signature.inputs
    whole = manifest.signature.layout is Layout.RECORDS
    record = manifest.examples[0].instance if manifest.examples else {}
    fields = {
        spec.name: _part(
            spec, model.fields.get(spec.name, {}), record if whole else record.get(spec.name, spec.example)
        )
        for spec in inputs
    }
    schema = {**form, "properties": fields, "required": list(fields), "additionalProperties": False}
    # Who does not know that one is JSON would send each of its elements, or members, as a part of its own.
    encoding = {spec.name: {"contentType": JSON_TYPE} for spec in inputs if spec.kind in IN_JSON}
    return {"schema": schema, **({"encoding": encoding} if encoding else {})}


def _part(spec: Input, field: Schema, value: object) -> Schema:
    """One field of a form: an image is a file, an array or a whole record is JSON, and all else is as in a record."""
    about = {"description": KINDS[spec.kind].describe(spec)}
    about = about if about["description"] else {}
    if spec.kind == "image":
        return {"type": "string", "format": "binary", "description": f"the file, or {about['description']}"}
    if spec.kind in IN_JSON:
        text = {} if not value else {"example": msgspec.json.encode(value).decode()}
        return {"type": "string", **about, **text}
    return {**_without_null(field), **about, **({} if value is None else {"example": value})}


def _without_null(field: Schema) -> Schema:
    choices = {key: value for key, value in field.items() if isinstance(value, list) and key in ("type", "enum")}
    found = field | {key: [each for each in value if each not in (None, "null")] for key, value in choices.items()}
    types = found.get("type")
    return found | {"type": types[0]} if isinstance(types, list) and len(types) == 1 else found
