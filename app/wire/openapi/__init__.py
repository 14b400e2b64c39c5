"""`GET /openapi.json`: an OpenAPI 3.1 document with an operation for each available model, with the model's fields.

This module adds the models' operations to flask-smorest's description of the views. `contents` describes bodies,
responses and errors; `schemas` describes the models.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, request
from flask_smorest import Api
from flask_smorest.spec.plugins import FlaskPlugin
from werkzeug.routing import Map

from app.core.catalogue import permitted
from app.errors import MalformedRequest
from app.gateway.errors import ErrorRenderer
from app.gateway.forwarded import root_of
from app.gateway.key_table import KeyTable
from app.runtime.policy import State
from app.runtime.registry import Registry
from app.storage.manifest import Manifest
from app.wire.application import FURTHER_URL
from app.wire.backend import json_response
from app.wire.codecs import CODECS, canonical
from app.wire.openapi.contents import (
    PROBLEMS_OF_METHOD,
    RequestBodyForm,
    prediction_content,
    prediction_schema,
    problems_for,
    request_body,
    with_errors,
)
from app.wire.openapi.operation_ids import OWN_TAGS, model_keys, name_operations, operation_id, operations_of
from app.wire.openapi.schemas import ANY, OPENAPI_VERSION, ModelSchemas, Schema, component, model_schemas, reference

log = logging.getLogger(__name__)

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
UNUSED_SCHEMAS = ("Error", "PaginationMetadata")
"""Schemas of flask-smorest that no response of Retort uses."""
REFUSALS_OF_KEYS = {
    "401": {"description": "the request has no valid API key"},
    "403": {"description": "the API key may not do this, or not use this model"},
}


@dataclass(frozen=True, slots=True)
class _Model:
    """The parts of the document that depend on one model; by default, those for any model."""

    manifest: Manifest | None = None
    key: str = ""
    schemas: ModelSchemas = ANY
    prediction: str = "Prediction"
    most_rows: int = 10_000


ANY_MODEL = _Model()


def register(
    app: Flask,
    api: Api,
    registry: Registry,
    errors: ErrorRenderer,
    requests: Mapping[str, RequestBodyForm],
    keys: KeyTable,
    open_views: Sequence[str] = (),
) -> None:
    """Add `GET /openapi.json`, generated for each request. `?media=` limits the document to some media types.

    `requests` are the request bodies by prediction path. `open_views` are the endpoints that need no API key.
    """

    @app.get("/openapi.json")
    def openapi() -> Response:
        openapi_document = document(app, api, registry, errors, requests)
        if keys.required:
            describe_keys(openapi_document, app.url_map, open_views)
        if media_types := request.args.getlist("media"):
            keep_media_types(openapi_document["paths"], media_types)
        return json_response({**openapi_document, "servers": [{"url": root_of(request.environ)}]})


def document(
    app: Flask, api: Api, registry: Registry, errors: ErrorRenderer, requests: Mapping[str, RequestBodyForm]
) -> dict[str, Any]:
    """Return the OpenAPI document: operations of the default model, of the other models, then of the views."""
    views: dict[str, Any] = deepcopy(api.spec.to_dict())
    common_schemas: dict[str, Schema] = views["components"]["schemas"]
    entries_of = permitted(registry.entries())
    default = registry.default() if registry.default() in entries_of else None
    available = [
        name for name, entries in entries_of.items() if any(entry.state is State.AVAILABLE for entry in entries)
    ]
    keys = model_keys(available, name_operations(views["paths"], app.url_map))
    groups = [each["name"] for each in views.get("tags", [])]
    names = {name: f"{name} (model)" if name in groups else name for name in available}
    schemas: dict[str, Schema] = {}
    model_at: dict[str, _Model] = {}
    paths: dict[str, Any] = {}
    tags: list[dict[str, Any]] = []
    responses = views["paths"]["/predict"]["post"]["responses"]
    for name in sorted(available, key=lambda name: name != default):
        key, prediction, path = keys[name], f"{keys[name]}.prediction", f"/models/{name}/predict"
        with registry.lease(name) as lease:
            manifest, validator = lease.manifest, lease.validator
        try:
            described, components = model_schemas(key, validator.signature)
            model = _Model(manifest, key, described, prediction, validator.max_instances)
            operation = _operation(model, manifest, names[name], responses, requests["/predict"])
            components |= {prediction: prediction_schema(common_schemas[ANY_MODEL.prediction], manifest)}
        except Exception:  # document the other models all the same
            log.exception("model %s cannot be documented; /openapi.json has no operation of its own for it", name)
            continue
        model_at[path], paths[path] = model, {"post": operation}
        tags.append(_tag_of(names[name], manifest))
        schemas |= components
    tags_of = {path: operation["tags"] for path, _, operation in operations_of(views["paths"])}
    paths |= dict(sorted(views["paths"].items(), key=lambda each: tags_of[each[0]][0] not in OWN_TAGS))
    example = next(iter(model_at.values()), ANY_MODEL)
    _describe_predictions(paths, requests, model_at.get(f"/models/{default or ''}/predict", ANY_MODEL), example)
    _fill_parameters(paths, example)
    schemas |= {name: schema for name, schema in common_schemas.items() if name not in UNUSED_SCHEMAS}
    schemas |= _describe_errors(paths, errors, requests, model_at)
    others = sorted(views.get("tags", []), key=lambda tag: tag["name"] not in OWN_TAGS)
    return {
        **views,
        "tags": [*tags, *others],
        "x-tagGroups": _groups([each["name"] for each in tags], groups),
        "paths": paths,
        "components": {"schemas": schemas},
    }


def describe_keys(document: dict[str, Any], url_map: Map, open_views: Sequence[str]) -> None:
    """Add the API key that all operations need, except those of `open_views`, to a document."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token of the issuer."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{"bearer": []}, {"apiKey": []}]
    rules = [rule.rule for rule in url_map.iter_rules() if FURTHER_URL.sub("", rule.endpoint) in open_views]
    open_paths = {FlaskPlugin.flaskpath2openapi(rule) for rule in rules}
    for path, _, operation in operations_of(document["paths"]):
        if path in open_paths:
            operation["security"] = []
        else:
            operation["responses"] = {**operation["responses"], **REFUSALS_OF_KEYS}


def _tag_of(name: str, manifest: Manifest) -> dict[str, Any]:
    """Return the tag of a model's own operation, with a relative link to the model's page."""
    page = f"./models/{quote(manifest.model, safe='')}"
    text = f"{manifest.task.replace('_', ' ').capitalize()}, version {manifest.version}."
    return {"name": name, "description": text, "externalDocs": {"description": "Playground", "url": page}}


def _groups(models: list[str], others: list[str]) -> list[dict[str, Any]]:
    """Return the groups of tags that ReDoc shows: models, Retort's own protocol, other protocols."""
    groups = {
        "Models": models,
        "Retort": [name for name in others if name in OWN_TAGS],
        "Protocols of other servers": [name for name in others if name not in OWN_TAGS],
    }
    return [{"name": name, "tags": tags} for name, tags in groups.items() if tags]


def _operation(
    model: _Model, manifest: Manifest, tag: str, responses: dict[str, Any], form: RequestBodyForm
) -> dict[str, Any]:
    """Return the operation of one model: its request body and response, and the error responses of the view."""
    remark = "; the examples are made up from what the estimator knows" if manifest.examples_made_up else ""
    content = prediction_content(reference(model.prediction), manifest)
    return {
        "tags": [tag],
        "operationId": operation_id(model.key),
        "summary": f"Predict with {manifest.model}",
        "description": f"{manifest.task}, `{manifest.estimator}`, version {manifest.version}{remark}.",
        "requestBody": request_body(form, model.schemas, manifest),
        "responses": {**responses, "200": {**responses["200"], "content": content}},
    }


def _describe_predictions(
    paths: dict[str, Any], requests: Mapping[str, RequestBodyForm], default: _Model, example: _Model
) -> None:
    """Describe the bodies and responses of the views that predict.

    A path without a model in it has the schemas of the default model. A path that can name any model has the schemas of
    any model, and examples from `example`.
    """
    for path, form in requests.items():
        operation, model = paths[path]["post"], _Model(example.manifest) if "{model}" in path else default
        operation["requestBody"] = request_body(form, model.schemas, model.manifest)
        if path.endswith("/predict"):
            content = prediction_content(reference(model.prediction), model.manifest)
            operation["responses"]["200"]["content"] = content


def _fill_parameters(paths: dict[str, Any], example: _Model) -> None:
    """Add examples to the parameters of paths, from an existing model."""
    examples = {"verb": "predict"}
    if example.manifest is not None:
        examples |= {"model": example.manifest.model, "version": str(example.manifest.version)}
    for members in paths.values():
        for parameter in members.get("parameters", ()):
            if parameter["name"] in examples:
                parameter["example"] = examples[parameter["name"]]


def _describe_errors(
    paths: dict[str, Any], errors: ErrorRenderer, requests: Mapping[str, RequestBodyForm], own: Mapping[str, _Model]
) -> dict[str, Schema]:
    """Describe the errors of every operation, and return the schemas of their formats.

    The examples of errors come from the path's `own` model, else from the first model.
    """
    schemas: dict[str, Schema] = {}
    names = [model.manifest.model for model in own.values() if model.manifest is not None]
    problems = {path: problems_for(model.manifest, model.most_rows, names) for path, model in own.items()}
    others = next(iter(problems.values()), problems_for(None, ANY_MODEL.most_rows, []))
    for path, method, operation in operations_of(paths):
        error_format, examples = errors.format_at(path), problems.get(path, others)
        if path not in own and path not in requests:
            examples = examples | PROBLEMS_OF_METHOD.get(method, {})
        name = error_format.schema.__name__.removesuffix("Schema")
        schemas[name] = component(name, error_format.schema)
        operation["responses"] = with_errors(operation["responses"], error_format, reference(name), examples)
    return schemas


def keep_media_types(paths: dict[str, Any], wanted: Sequence[str]) -> None:
    """Keep only these media types of each body and response that has one of them. Leave all others unchanged.

    Raises:
        MalformedRequest: no codec knows one of the media types.
    """
    kept = {canonical(media_type) for media_type in wanted}
    if unknown := sorted(kept - CODECS.keys()):
        raise MalformedRequest("the query parameter media", f"is {unknown[0][:100]!r}; allowed: {', '.join(CODECS)}")
    for _, _, operation in operations_of(paths):
        for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
            content = holder.get("content", {})
            if kept & content.keys():
                holder["content"] = {media_type: form for media_type, form in content.items() if media_type in kept}
