"""`/openapi.json`: what flask-smorest knows of the views, and each model as an operation with its real fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from app.wire.described import ANY, RequestForm, described, request_body
from app.wire.problems import Errors, errors_at

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


NOT_ANSWERED = ("Error", "PaginationMetadata")
"""What flask-smorest would answer, and we do not."""


def register(
    app: Flask, api: Api, registry: Registry, forms: Sequence[Errors], requests: Mapping[str, RequestForm]
) -> None:
    """Adds `GET /openapi.json`; asked anew each time, so that it says what is served now."""

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(msgspec.json.encode(document(api, registry, forms, requests)), content_type="application/json")


def document(
    api: Api, registry: Registry, forms: Sequence[Errors], requests: Mapping[str, RequestForm]
) -> dict[str, Any]:
    """The OpenAPI document: the operations of the available models first, then the views.

    `forms` are those of errors, and `requests` those of the paths that predict.
    """
    views: dict[str, Any] = api.spec.to_dict()
    manifests, records = _served(registry)
    default = registry.default()
    models = {name: described(manifest, _component(name), records) for name, manifest in manifests.items()}
    paths: dict[str, Any] = {}
    for name, manifest in manifests.items():
        body = request_body(requests["/predict"], models[name], manifest)
        paths[f"/models/{name}/predict"] = {"post": _operation(manifest, views["paths"], body)}
    for path, form in requests.items():
        named = default if default in manifests and "{model}" not in path else None
        body = request_body(form, ANY, None) if named is None else request_body(form, models[named], manifests[named])
        _tell_request(views["paths"][path]["post"], body, with_media_types=path.endswith("/predict"))
    paths |= views["paths"]
    schemas = {name: _with_nested(record) for name, record in records.items()} | {
        name: schema for name, schema in views["components"]["schemas"].items() if name not in NOT_ANSWERED
    }
    examples = {"model": default or next(iter(manifests), None), "version": "1", "verb": "predict"}
    for path, operations in paths.items():
        errors = errors_at(path, forms)
        schemas[_name(errors)] = _form(errors)
        for parameter in operations.get("parameters", ()):
            if examples.get(parameter["name"]) is not None:
                parameter["example"] = examples[parameter["name"]]
        for operation in operations.values():
            if isinstance(operation, dict):
                _tell_errors(operation["responses"], errors)
    return {
        **views,
        "tags": [{"name": "models served", "description": "Each model, with its real fields."}, *views.get("tags", [])],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _served(registry: Registry) -> tuple[dict[str, Manifest], dict[str, Any]]:
    """The manifest of each available model, and the schemas of their records by component."""
    own = APISpec("", "", OPENAPI_VERSION, plugins=[MarshmallowPlugin()])
    manifests: dict[str, Manifest] = {}
    for model, entries in registry.entries().items():
        if any(entry.state is State.AVAILABLE for entry in entries):
            lease = registry.lease(model)
            manifest = lease.manifest
            if manifest.signature.layout is Layout.RECORDS:
                own.components.schema(_component(model), component=_whole(manifest.signature))
            else:
                own.components.schema(_component(model), schema=schema_of(lease.validator.signature, model))
            manifests[model] = manifest
    return manifests, own.to_dict().get("components", {}).get("schemas", {})


def _tell_request(operation: dict[str, Any], body: dict[str, Any], with_media_types: bool) -> None:
    operation["requestBody"] = body
    if with_media_types:
        operation["responses"] = _answers(operation["responses"])


def _with_nested(record: dict[str, Any]) -> dict[str, Any]:
    """The schema of a record, of which dotted names may be sent as objects inside it."""
    dotted = any("." in field for field in record.get("properties", {}))
    return {"anyOf": [record, nested_schema(record)]} if dotted else record


def _name(errors: Errors) -> str:
    return errors.schema.__name__.removesuffix("Schema")


def _form(errors: Errors) -> dict[str, Any]:
    spec = APISpec("", "", OPENAPI_VERSION, plugins=[MarshmallowPlugin()])
    spec.components.schema(_name(errors), schema=errors.schema)
    found: dict[str, Any] = spec.to_dict()["components"]["schemas"][_name(errors)]
    return found


def _tell_errors(responses: dict[str, Any], errors: Errors) -> None:
    """The form of the errors that an operation describes, and of those of the server in front of it."""
    content = {errors.media_type: {"schema": {"$ref": f"#/components/schemas/{_name(errors)}"}}}
    responses["default"] = {"description": "any other error", "content": content}
    for status, response in responses.items():
        if status >= "400":
            response.setdefault("content", content)


def _component(model: str) -> str:
    """The name of a model's record among the schemas; no schema of a view has a point in its name."""
    return f"{model}.record"


def _operation(manifest: Manifest, views: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """The operation of one model: the view's answers, the model's own request body."""
    view = views["/predict"]["post"]
    made_up = "; the examples are made up from what the estimator knows" if manifest.examples_made_up else ""
    return {
        "tags": ["models served"],
        "operationId": f"predict_{manifest.model}",
        "summary": f"Predict with {manifest.model}",
        "description": f"{manifest.task}, `{manifest.estimator}`, version {manifest.version}{made_up}.",
        "requestBody": body,
        "responses": _answers(view["responses"]),
    }


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
