"""`GET /openapi.json`: an OpenAPI 3.1 document that has each available model as an operation with its real fields.

This module puts the document together: the operations of the models, and the views as flask-smorest knows them.
`contents` describes bodies, answers and errors, `schemas` describes the models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, request
from flask_smorest import Api
from flask_smorest.spec.plugins import FlaskPlugin
from werkzeug.routing import Map, Rule

from app.errors import MalformedRequest
from app.gateway.errors import ErrorRenderer
from app.gateway.forwarded import root_of
from app.runtime.policy import State
from app.runtime.registry import Registry
from app.storage.manifest import Manifest
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
from app.wire.openapi.schemas import ANY, OPENAPI_VERSION, ModelSchemas, Schema, component, model_schemas, reference

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
"""Schemas of flask-smorest that no answer of ours has."""
OWN_TAGS = ("predict", "models", "health", "metrics")
"""The blueprints of our own protocol, which come before all others' and whose ids need no prefix."""
COUNTED = re.compile(r"_[0-9]+$")
"""The end of an endpoint's name by which flask-smorest tells several paths to one view apart."""


@dataclass(frozen=True, slots=True)
class _Model:
    """A model as the document shows it; without schemas of its own it stands for any model."""

    manifest: Manifest | None = None
    key: str = ""
    schemas: ModelSchemas = ANY
    prediction: str = "Prediction"
    most_rows: int = 10_000


ANY_MODEL = _Model()


def register(
    app: Flask, api: Api, registry: Registry, errors: ErrorRenderer, requests: Mapping[str, RequestBodyForm]
) -> None:
    """Add `GET /openapi.json`, made anew for each request, and `?media=` for a document of some media types alone.

    Args:
        app: the application whose views are documented.
        api: flask-smorest's description of the views.
        registry: the models.
        errors: how the errors of each path are worded.
        requests: the request bodies of the paths that predict.
    """

    @app.get("/openapi.json")
    def openapi() -> Response:
        found = document(app, api, registry, errors, requests)
        if wanted := request.args.getlist("media"):
            keep_media_types(found["paths"], wanted)
        return json_response({**found, "servers": [{"url": root_of(request.environ)}]})


def document(
    app: Flask, api: Api, registry: Registry, errors: ErrorRenderer, requests: Mapping[str, RequestBodyForm]
) -> dict[str, Any]:
    """The OpenAPI document: the operations of the models first, the default model's before all, then the views."""
    views: dict[str, Any] = deepcopy(api.spec.to_dict())
    known: dict[str, Schema] = views["components"]["schemas"]
    default = registry.default()
    available = [
        name for name, entries in registry.entries().items() if any(entry.state is State.AVAILABLE for entry in entries)
    ]
    keys = model_keys(available, name_operations(views["paths"], app.url_map))
    groups = [each["name"] for each in views.get("tags", [])]
    names = {name: f"{name} (model)" if name in groups else name for name in available}
    schemas: dict[str, Schema] = {}
    own: dict[str, _Model] = {}
    paths: dict[str, Any] = {}
    tags: list[dict[str, Any]] = []
    responses = views["paths"]["/predict"]["post"]["responses"]
    for name in sorted(available, key=lambda name: name != default):
        key, prediction, path = keys[name], f"{keys[name]}.prediction", f"/models/{name}/predict"
        with registry.lease(name) as lease:
            manifest, validator = lease.manifest, lease.validator
        described, components = model_schemas(key, validator.signature)
        own[path] = model = _Model(manifest, key, described, prediction, validator.max_instances)
        tags.append(_tag_of(names[name], manifest))
        paths[path] = {"post": _operation(model, manifest, names[name], responses, requests["/predict"])}
        schemas |= components | {prediction: prediction_schema(known[ANY_MODEL.prediction], manifest)}
    paths |= dict(sorted(views["paths"].items(), key=lambda each: _tag(each[1]) not in OWN_TAGS))
    example = next(iter(own.values()), ANY_MODEL)
    _describe_predictions(paths, requests, own.get(f"/models/{default or ''}/predict", ANY_MODEL), example)
    _fill_parameters(paths, example)
    schemas |= {name: schema for name, schema in known.items() if name not in NOT_ANSWERED}
    schemas |= _describe_errors(paths, errors, requests, own)
    others = sorted(views.get("tags", []), key=lambda tag: tag["name"] not in OWN_TAGS)
    return {
        **views,
        "tags": [*tags, *others],
        "x-tagGroups": _groups([each["name"] for each in tags], groups),
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _tag_of(name: str, manifest: Manifest) -> dict[str, Any]:
    """The group of a model's own operation, with a link to the model's page relative to the documentation pages."""
    page = f"./models/{quote(manifest.model, safe='')}"
    text = f"{manifest.task.replace('_', ' ').capitalize()}, version {manifest.version}."
    return {"name": name, "description": text, "externalDocs": {"description": "Playground", "url": page}}


def _groups(models: list[str], others: list[str]) -> list[dict[str, Any]]:
    """The groups of groups, which ReDoc shows: the models, our own protocol, and the last, which the pages fold."""
    found = {
        "Models": models,
        "Retort": [name for name in others if name in OWN_TAGS],
        "Protocols of other servers": [name for name in others if name not in OWN_TAGS],
    }
    return [{"name": name, "tags": tags} for name, tags in found.items() if tags]


def _operation(
    model: _Model, manifest: Manifest, tag: str, responses: dict[str, Any], form: RequestBodyForm
) -> dict[str, Any]:
    """The operation of one model: its own request body and answer, and otherwise the responses of the view."""
    made_up = "; the examples are made up from what the estimator knows" if manifest.examples_made_up else ""
    content = prediction_content(reference(model.prediction), manifest)
    return {
        "tags": [tag],
        "operationId": operation_id(model.key),
        "summary": f"Predict with {manifest.model}",
        "description": f"{manifest.task}, `{manifest.estimator}`, version {manifest.version}{made_up}.",
        "requestBody": request_body(form, model.schemas, manifest),
        "responses": {**responses, "200": {**responses["200"], "content": content}},
    }


def _describe_predictions(
    paths: dict[str, Any], requests: Mapping[str, RequestBodyForm], default: _Model, example: _Model
) -> None:
    """Describe the bodies and answers of the views that predict.

    A view that names no model has the schemas of the default model, the others those of any model. Where a path can
    name any model, the examples are those of the `example`.
    """
    for path, form in requests.items():
        operation, model = paths[path]["post"], _Model(example.manifest) if "{model}" in path else default
        operation["requestBody"] = request_body(form, model.schemas, model.manifest)
        if path.endswith("/predict"):
            content = prediction_content(reference(model.prediction), model.manifest)
            operation["responses"]["200"]["content"] = content


def _fill_parameters(paths: dict[str, Any], example: _Model) -> None:
    """Give the parameters of paths the values of a model that is there."""
    true = {"verb": "predict"}
    if example.manifest is not None:
        true |= {"model": example.manifest.model, "version": str(example.manifest.version)}
    for members in paths.values():
        for parameter in members.get("parameters", ()):
            if parameter["name"] in true:
                parameter["example"] = true[parameter["name"]]


def _describe_errors(
    paths: dict[str, Any], errors: ErrorRenderer, requests: Mapping[str, RequestBodyForm], own: Mapping[str, _Model]
) -> dict[str, Schema]:
    """Describe the errors of every operation, and return the schemas of their forms.

    The examples of errors are those of the path's `own` model, else of the first.
    """
    schemas: dict[str, Schema] = {}
    names = [model.manifest.model for model in own.values() if model.manifest is not None]
    problems = {path: problems_for(model.manifest, model.most_rows, names) for path, model in own.items()}
    others = next(iter(problems.values()), problems_for(None, ANY_MODEL.most_rows, []))
    for path, method, operation in operations_of(paths):
        found, told = errors.format_at(path), problems.get(path, others)
        if path not in own and path not in requests:
            told = told | PROBLEMS_OF_METHOD.get(method, {})
        name = found.schema.__name__.removesuffix("Schema")
        schemas[name] = component(name, found.schema)
        operation["responses"] = with_errors(operation["responses"], found, reference(name), told)
    return schemas


def _tag(members: dict[str, Any]) -> str:
    """The tag of a path."""
    return next(str(each["tags"][0]) for each in members.values() if isinstance(each, dict))


def operations_of(paths: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of each operation."""
    for path, members in paths.items():
        for method, operation in members.items():
            if isinstance(operation, dict):
                yield path, method, operation


def name_operations(paths: dict[str, Any], url_map: Map) -> list[str]:
    """Give each view's operation an `operationId` by the name of the view, and return the ids.

    Of several paths to one view the shortest has the bare name, the others add the words by which they differ; several
    methods of one path add their names. An id that a view was given with `blp.doc(operationId=...)` stays.
    """
    rules: dict[str, list[Rule]] = {}
    for rule in url_map.iter_rules():
        rules.setdefault(COUNTED.sub("", rule.endpoint), []).append(rule)
    ids: dict[tuple[str, str], str] = {}
    for endpoint, several in rules.items():
        blueprint, _, view = endpoint.rpartition(".")
        name = view if blueprint in OWN_TAGS or view.startswith(blueprint) else f"{blueprint}_{view}".replace(".", "_")
        known = {*_words(min(several, key=lambda rule: _plainness(rule, name)).rule), *name.split("_")}
        for rule in several:
            more = [word for word in _words(rule.rule) if word not in known]
            methods = [method.lower() for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
            path = FlaskPlugin.flaskpath2openapi(rule.rule)
            ids |= {(path, each): "_".join([name, *more, *([each] if methods[1:] else [])]) for each in methods}
    for path, method, operation in operations_of(paths):
        operation.setdefault("operationId", ids[path, method])
    return [operation["operationId"] for _, _, operation in operations_of(paths)]


def _plainness(rule: Rule, name: str) -> tuple[int, bool, str]:
    """Sorts the rules of one view: the shortest path first, of those the path that says the view's name."""
    return rule.rule.count("/"), not name.endswith(rule.rule.rpartition("/")[2]), rule.rule


def _words(rule: str) -> list[str]:
    """The segments of a URL rule that are no parameters; a slash at the end counts as one."""
    segments = [*rule.removesuffix("/").split("/"), *(["slash"] if rule.endswith("/") else [])]
    return [re.sub(r"\W", "_", segment) for segment in segments if segment and "<" not in segment]


def model_keys(models: Iterable[str], taken: Sequence[str]) -> dict[str, str]:
    """A key for each model, to begin the names of its components: the model's name, or the name and a number.

    The number keeps apart names that a client generator would write alike, `iris-two` and `iris_two`. It also keeps
    `operation_id(key)` apart from the ids that are `taken`.
    """
    keys: dict[str, str] = {}
    alike = {_letters(each) for each in taken}
    for model in sorted(models):
        key, number = model, 1
        while _letters(operation_id(key)) in alike:
            number += 1
            key = f"{model}-{number}"
        alike.add(_letters(operation_id(key)))
        keys[model] = key
    return keys


def operation_id(key: str) -> str:
    """The `operationId` of a model's own operation: a name that programs can have for a function."""
    return f"predict_{re.sub(r'[^0-9A-Za-z]', '_', key)}"


def _letters(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def keep_media_types(paths: dict[str, Any], wanted: Sequence[str]) -> None:
    """Leave only these media types of each body and answer that has one of them; all others stay as they are.

    Raises:
        MalformedRequest: no codec knows one of the media types.
    """
    kept = {canonical(each) for each in wanted}
    if unknown := sorted(kept - CODECS.keys()):
        raise MalformedRequest("the query parameter media", f"is {unknown[0][:100]!r}; allowed: {', '.join(CODECS)}")
    for _, _, operation in operations_of(paths):
        for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
            content = holder.get("content", {})
            if kept & content.keys():
                holder["content"] = {each: told for each, told in content.items() if each in kept}
