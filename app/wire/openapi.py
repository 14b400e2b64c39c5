"""`/openapi.json`: what flask-smorest knows of the views, and each model as an operation with its real fields."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask, Response
from flask_smorest import Api

from app.runtime.policy import State
from app.runtime.registry import Registry
from app.signature import Layout, Signature
from app.signature.kinds import KINDS
from app.signature.nested import nested_schema
from app.signature.schema import schema_of
from app.storage.manifest import Manifest
from app.wire.codecs import CODECS, JSON_TYPE, NDJSON_TYPE

OPENAPI_VERSION = "3.1.0"
CONFIG = {
    "API_TITLE": "Retort",
    "API_VERSION": "1",
    "OPENAPI_VERSION": OPENAPI_VERSION,
    "API_SPEC_OPTIONS": {
        "info": {
            "description": "scikit-learn models over HTTP. Each model is an operation of its own, with its real fields."
        }
    },
}


def register(app: Flask, api: Api, registry: Registry) -> None:
    """Adds `GET /openapi.json`; asked anew each time, so that it says what is served now."""

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(msgspec.json.encode(document(api, registry)), content_type="application/json")


def document(api: Api, registry: Registry) -> dict[str, Any]:
    """The OpenAPI document: the operations of the available models first, then the views."""
    views: dict[str, Any] = api.spec.to_dict()
    own = APISpec("", "", OPENAPI_VERSION, plugins=[MarshmallowPlugin()])
    default = registry.default()
    paths: dict[str, Any] = {}
    for model, entries in registry.entries().items():
        if any(entry.state is State.AVAILABLE for entry in entries):
            lease = registry.lease(model)
            manifest = lease.manifest
            if manifest.signature.layout is Layout.RECORDS:
                own.components.schema(_component(model), component=_whole(manifest.signature))
            else:
                own.components.schema(_component(model), schema=schema_of(lease.validator.signature, model))
            paths[f"/models/{model}/predict"] = {"post": _operation(manifest, views["paths"])}
            if model == default:
                views["paths"]["/predict"]["post"] |= {"requestBody": _request_body(manifest)}
    for path, operations in views["paths"].items():
        for operation in operations.values():
            if isinstance(operation, dict) and path.endswith("/predict"):
                operation.setdefault("requestBody", _any_body())
                operation["responses"] = _answers(operation["responses"])
    records = own.to_dict().get("components", {}).get("schemas", {})
    for name, record in list(records.items()):
        if any("." in field for field in record.get("properties", {})):
            # A dotted name may be sent as an object inside the record.
            records[name] = {"anyOf": [record, nested_schema(record)]}
    schemas = {**records, **views["components"].get("schemas", {})}
    return {
        **views,
        "tags": [{"name": "models served", "description": "Each model, with its real fields."}, *views.get("tags", [])],
        "paths": {**paths, **views["paths"]},
        "components": {**views["components"], "schemas": schemas},
    }


def _component(model: str) -> str:
    """The name of a model's record among the schemas; no schema of a view has a point in its name."""
    return f"{model}.record"


def _operation(manifest: Manifest, views: dict[str, Any]) -> dict[str, Any]:
    """The operation of one model: the view's answers, the model's own request body."""
    view = views["/predict"]["post"]
    made_up = "; the examples are made up from what the estimator knows" if manifest.examples_made_up else ""
    return {
        "tags": ["models served"],
        "operationId": f"predict_{manifest.model}",
        "summary": f"Predict with {manifest.model}",
        "description": f"{manifest.task}, `{manifest.estimator}`, version {manifest.version}{made_up}.",
        "requestBody": _request_body(manifest),
        "responses": _answers(view["responses"]),
    }


def _request_body(manifest: Manifest) -> dict[str, Any]:
    """One record, or many; with the recorded examples, which are true: sending them succeeds."""
    signature = manifest.signature
    record = {"$ref": f"#/components/schemas/{_component(manifest.model)}"}
    width = len(signature.inputs)
    row = {
        "type": "array",
        "minItems": width,
        "maxItems": width,
        "description": "the values in this order: " + ", ".join(signature.names[:100]),
    }
    instances = {"type": "array", "items": {"anyOf": [record, row]}}
    many = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {
            "instances": instances,
            "outputs": {"type": "array", "items": {"enum": list(signature.outputs)}},
        },
    }
    examples: dict[str, Any] = {}
    if manifest.examples:
        records = [example.instance for example in manifest.examples]
        whole = signature.layout is Layout.RECORDS
        rows = [[record] if whole else [record[name] for name in signature.names] for record in records]
        examples = {
            "record": {"summary": "one record", "value": records[0]},
            "records": {"summary": "many records", "value": {"instances": records[:3]}},
            "rows": {"summary": "many rows", "value": {"instances": rows[:3], "outputs": list(signature.defaults)}},
        }
    content = {"schema": {"anyOf": [record, many, instances]}, "examples": examples}
    return {"required": True, "content": {"application/json": content, **_tables(manifest)}}


def _tables(manifest: Manifest) -> dict[str, Any]:
    """The other media types of a request: with the recorded examples in those that are text."""
    names = manifest.signature.names
    records = [example.instance for example in manifest.examples[:3]]
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = {name: dict(binary) for name in CODECS if name != JSON_TYPE}
    content["text/csv"] = {"schema": {"type": "string"}}
    content[NDJSON_TYPE] = {"schema": {"type": "string"}}
    rows = [[record.get(name, record) for name in names] for record in records]
    if rows and not any(isinstance(value, list | dict) for row in rows for value in row):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([names, *rows])
        content["text/csv"]["example"] = text.getvalue()
    if records:
        content[NDJSON_TYPE]["example"] = msgspec.json.Encoder().encode_lines(records).decode()
    content["multipart/form-data"] = {"schema": {"type": "object", "description": "a record's fields, or one file"}}
    return content


def _answers(responses: dict[str, Any]) -> dict[str, Any]:
    """The answers of a view, and beside JSON the other media types of a 200."""
    described = responses["200"]["content"][JSON_TYPE]
    others: dict[str, Any] = {
        name: {
            "schema": {"type": "string"}
            if name in ("text/csv", NDJSON_TYPE)
            else {"type": "string", "format": "binary"}
        }
        for name, codec in CODECS.items()
        if codec.writes and name != JSON_TYPE
    }
    content = {JSON_TYPE: described, **others}
    return {**responses, "200": {**responses["200"], "content": content}}


def _whole(signature: Signature) -> dict[str, Any]:
    """The schema of a record that is given whole to the model."""
    (spec,) = signature.inputs
    kind = KINDS[spec.kind]
    example = {} if spec.example is None else {"example": spec.example}
    return {**kind.schema(spec), "description": kind.describe(spec), **example}


def _any_body() -> dict[str, Any]:
    record = {"type": "object", "description": "one record, by feature name"}
    instances = {"type": "array", "items": {"anyOf": [record, {"type": "array"}]}}
    many = {"type": "object", "required": ["instances"], "properties": {"instances": instances}}
    content: dict[str, Any] = {name: {"schema": {}} for name in CODECS}
    return {"required": True, "content": content | {JSON_TYPE: {"schema": {"anyOf": [record, many, instances]}}}}
