"""`/openapi.json`: what flask-smorest knows of the views, and each model as an operation with its real fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import msgspec
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask, Response, request
from flask_smorest import Api

from app.gateway.errors import ErrorFormat as Errors
from app.gateway.forwarded import root_of
from app.runtime.policy import State
from app.runtime.registry import Lease, Registry
from app.signature import Layout, Signature
from app.signature.kinds import KINDS
from app.signature.nested import nested_schema
from app.signature.schema import schema_of
from app.signature.values import INT64_MAX, INT64_MIN
from app.storage.manifest import Manifest
from app.wire.answered import answers_of, errors_of, responses_of
from app.wire.described import ANY, Described, RequestForm, described, request_body
from app.wire.problems import errors_at

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


OWN_TAGS = ("predict", "models", "health", "metrics")
"""The views of our own protocol, which come before all others'."""
MOST_ROWS = 10_000
"""Stands for a server's limit, where no model could tell it."""
NOT_ANSWERED = ("Error", "PaginationMetadata")
"""What flask-smorest would answer, and we do not."""


def register(
    app: Flask, api: Api, registry: Registry, forms: Sequence[Errors], requests: Mapping[str, RequestForm]
) -> None:
    """Adds `GET /openapi.json`; asked anew each time, so that it says what is served now."""

    @app.get("/openapi.json")
    def openapi() -> Response:
        served = {**document(api, registry, forms, requests), "servers": [{"url": root_of(request.environ)}]}
        return Response(msgspec.json.encode(served), content_type="application/json")


def document(
    api: Api, registry: Registry, forms: Sequence[Errors], requests: Mapping[str, RequestForm]
) -> dict[str, Any]:
    """The OpenAPI document: the operations of the available models first, the default one's before all, then the views.

    `forms` are those of errors, and `requests` those of the paths that predict.
    """
    views: dict[str, Any] = deepcopy(api.spec.to_dict())
    prediction = views["components"]["schemas"]["Prediction"]
    leases = _leases(registry)
    manifests = {name: lease.manifest for name, lease in leases.items()}
    records = _records(leases)
    models = {name: described(manifest, _component(name), records) for name, manifest in manifests.items()}
    own = {f"/models/{name}/predict": name for name in leases}
    paths = {
        path: {"post": _operation(manifests[name], views["paths"], requests["/predict"], models[name], prediction)}
        for path, name in own.items()
    }
    paths |= dict(sorted(views["paths"].items(), key=lambda each: _tag(each[1]) not in OWN_TAGS))
    default = registry.default() if registry.default() in leases else None
    example = default or next(iter(leases), None)
    for path, form in requests.items():
        name = example if "{model}" in path else default
        manifest = None if name is None else manifests[name]
        is_any = name is None or "{model}" in path
        operation = paths[path]["post"]
        operation["requestBody"] = request_body(form, ANY if is_any or name is None else models[name], manifest)
        if path.endswith("/predict"):
            operation["responses"]["200"]["content"] = answers_of(prediction, manifest, own=not is_any)
    for name, record in list(records.items()):
        if any("." in field for field in record.get("properties", {})):
            # A dotted name may be sent as an object inside the record.
            records[name] = {"anyOf": [record, nested_schema(record)]}
    schemas = records | {
        name: schema for name, schema in views["components"]["schemas"].items() if name not in NOT_ANSWERED
    }
    _fill_parameters(paths, manifests.get(example or ""))
    tags = sorted(views.get("tags", []), key=lambda tag: tag["name"] not in OWN_TAGS)
    return {
        **views,
        "tags": [{"name": "models served", "description": "Each model, with its real fields."}, *tags],
        "paths": paths,
        "components": {"schemas": schemas | _tell_errors(paths, forms, requests, leases, own, example)},
    }


def _fill_parameters(paths: dict[str, Any], manifest: Manifest | None) -> None:
    """Gives the parameters of paths values that are there."""
    true = {"verb": "predict"}
    if manifest is not None:
        true |= {"model": manifest.model, "version": str(manifest.version)}
    for operations in paths.values():
        for parameter in operations.get("parameters", ()):
            if parameter["name"] in true:
                parameter["example"] = true[parameter["name"]]


def _tell_errors(
    paths: dict[str, Any],
    forms: Sequence[Errors],
    requests: Mapping[str, RequestForm],
    leases: Mapping[str, Lease],
    own: Mapping[str, str],
    example: str | None,
) -> dict[str, Any]:
    """Describes the errors of every operation, and returns the schemas of their forms.

    Those of a path in `own` are of its model, those of all others of the `example`.
    """
    schemas: dict[str, Any] = {}
    of_none = errors_of(None, MOST_ROWS, [])
    told = {name: errors_of(lease.manifest, lease.validator.max_instances, [*leases]) for name, lease in leases.items()}
    for path, operations in paths.items():
        errors = errors_at(path, forms)
        schemas[_name(errors)] = _form(errors)
        problems = told.get(own.get(path, example or ""), of_none)
        for method, operation in operations.items():
            if isinstance(operation, dict):
                kind = "predict" if path in requests or path in own else method
                reference = f"#/components/schemas/{_name(errors)}"
                operation["responses"] = responses_of(operation["responses"], errors, reference, problems, kind)
    return schemas


def _leases(registry: Registry) -> dict[str, Lease]:
    """The available models, the default one first."""
    default = registry.default()
    names = sorted(registry.entries().items(), key=lambda entries: entries[0] != default)
    return {
        model: registry.lease(model)
        for model, entries in names
        if any(entry.state is State.AVAILABLE for entry in entries)
    }


def _records(leases: Mapping[str, Lease]) -> dict[str, Any]:
    """The schemas of the models' records, by the names of their components."""
    own = APISpec("", "", OPENAPI_VERSION, plugins=[MarshmallowPlugin()])
    for model, lease in leases.items():
        if lease.manifest.signature.layout is Layout.RECORDS:
            own.components.schema(_component(model), component=_whole(lease.manifest.signature))
        else:
            own.components.schema(_component(model), schema=schema_of(lease.validator.signature, model))
    records: dict[str, Any] = own.to_dict().get("components", {}).get("schemas", {})
    for record in records.values():
        fields = record.get("properties", {})
        for field in fields.values():
            _tell_width(field)
        if "required" in record:
            record["required"] = [name for name in fields if name in record["required"]]  # which came sorted
    return records


def _tell_width(field: dict[str, Any]) -> None:
    """The limits of 64 bits by their name, which is all that they say; JavaScript cannot even hold them."""
    if field.get("minimum") == INT64_MIN and field.get("maximum") == INT64_MAX and "integer" in field["type"]:
        del field["minimum"], field["maximum"]
        field["format"] = "int64"


def _tag(operations: dict[str, Any]) -> str:
    """The tag of a path."""
    return next(str(each["tags"][0]) for each in operations.values() if isinstance(each, dict))


def _name(errors: Errors) -> str:
    return errors.schema.__name__.removesuffix("Schema")


def _form(errors: Errors) -> dict[str, Any]:
    spec = APISpec("", "", OPENAPI_VERSION, plugins=[MarshmallowPlugin()])
    spec.components.schema(_name(errors), schema=errors.schema)
    found: dict[str, Any] = spec.to_dict()["components"]["schemas"][_name(errors)]
    return found


def _component(model: str) -> str:
    """The name of a model's record among the schemas; no schema of a view has a point in its name."""
    return f"{model}.record"


def _operation(
    manifest: Manifest, views: dict[str, Any], form: RequestForm, model: Described, prediction: dict[str, Any]
) -> dict[str, Any]:
    """The operation of one model: the view's answers with the model's own outputs, the model's own request body."""
    responses = views["/predict"]["post"]["responses"]
    made_up = "; the examples are made up from what the estimator knows" if manifest.examples_made_up else ""
    return {
        "tags": ["models served"],
        "operationId": f"predict_{manifest.model}",
        "summary": f"Predict with {manifest.model}",
        "description": f"{manifest.task}, `{manifest.estimator}`, version {manifest.version}{made_up}.",
        "requestBody": request_body(form, model, manifest),
        "responses": {**responses, "200": {**responses["200"], "content": answers_of(prediction, manifest)}},
    }


def _whole(signature: Signature) -> dict[str, Any]:
    """The schema of a record that is given whole to the model."""
    (spec,) = signature.inputs
    kind = KINDS[spec.kind]
    example = {} if spec.example is None else {"example": spec.example}
    return {**kind.schema(spec), "description": kind.describe(spec), **example}
