"""Request bodies of the operations that predict: each protocol's envelope around the instances of a model.

The examples are true: sending one succeeds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from app.signature import Input, Layout
from app.signature.kinds import KINDS
from app.storage.manifest import Manifest
from app.wire.codecs import CODECS, JSON_TYPE, NDJSON_TYPE
from app.wire.openapi.schemas import ANY, ModelSchemas, Schema

SHOWN = 3
"""How many of the recorded examples are shown together."""
FORM_TYPE = "multipart/form-data"
IN_JSON = ("array", "record")
"""Kinds that a form has as JSON in one field."""
TEXT_TYPES = ("text/csv", NDJSON_TYPE)
BINARY: Schema = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class RequestBodyForm:
    """The request body of a path that predicts.

    `envelope` gives the JSON schema around the instances of a model; `examples` names the examples that fit it.
    """

    envelope: Callable[[ModelSchemas], Schema]
    examples: Sequence[str] = ("records",)
    only_json: bool = False


def table_schema(media_type: str) -> Schema:
    """The schema of a body that is not JSON: text or bytes."""
    return {"type": "string"} if media_type in TEXT_TYPES else BINARY


def request_body(form: RequestBodyForm, model: ModelSchemas, manifest: Manifest | None) -> dict[str, Any]:
    """The request body in each media type; the examples are those recorded in the manifest."""
    json = {"schema": form.envelope(model)} | ({} if manifest is None else _examples(manifest, form))
    others = {} if form.only_json else _tables(model, manifest)
    return {"required": True, "content": {JSON_TYPE: json, **others}}


def _examples(manifest: Manifest, form: RequestBodyForm) -> dict[str, Any]:
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


def _tables(model: ModelSchemas, manifest: Manifest | None) -> dict[str, Any]:
    """The request body in the other media types, with the recorded examples in those that are text."""
    content: dict[str, Any] = {name: {"schema": table_schema(name)} for name in CODECS if name != JSON_TYPE}
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


def _form(model: ModelSchemas, manifest: Manifest | None) -> dict[str, Any]:
    """A form with the fields of a record; an empty field stands for a missing value."""
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
    # Without the encoding, a client would send each element of an array, or member of a record, as a part of its own.
    encoding = {spec.name: {"contentType": JSON_TYPE} for spec in inputs if spec.kind in IN_JSON}
    return {"schema": schema, **({"encoding": encoding} if encoding else {})}


def _part(spec: Input, field: Schema, value: object) -> Schema:
    """One field of a form: an image is a file, an array or a whole record is JSON, other kinds are as in a record."""
    about = {"description": KINDS[spec.kind].describe(spec)}
    about = about if about["description"] else {}
    if spec.kind == "image":
        return {**BINARY, "description": f"the file, or {about['description']}"}
    if spec.kind in IN_JSON:
        text = {} if not value else {"example": msgspec.json.encode(value).decode()}
        return {"type": "string", **about, **text}
    return {**_without_null(field), **about, **({} if value is None else {"example": value})}


def _without_null(field: Schema) -> Schema:
    choices = {key: value for key, value in field.items() if isinstance(value, list) and key in ("type", "enum")}
    found = field | {key: [each for each in value if each not in (None, "null")] for key, value in choices.items()}
    types = found.get("type")
    return found | {"type": types[0]} if isinstance(types, list) and len(types) == 1 else found
