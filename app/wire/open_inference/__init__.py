"""The Open Inference Protocol v2 over REST, for clients of Triton, KServe and MLServer.

Sources: kserve/open-inference-protocol inference_rest.md; Triton's extensions for binary tensors, the model repository,
the model configuration and statistics (docs/protocols.md). No URL requires a Content-Type: tritonclient sends none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import marshmallow as ma
import msgspec
from flask import Response, request
from flask_smorest import Blueprint

from app import __version__
from app.core.catalogue import Catalogue, permitted
from app.core.inference_statistics import InferenceStatistics
from app.errors import MalformedRequest, ModelUnavailable
from app.gateway.context import RequestContext
from app.gateway.errors import ErrorFormat
from app.runtime.entry import Entry
from app.runtime.policy import State
from app.runtime.registry import Registry
from app.settings import Settings
from app.storage.manifest import Manifest
from app.wire import body, codecs
from app.wire.backend import OBJECT, UNKNOWN_MODEL, Backend, answers, json_response, not_ready
from app.wire.open_inference import describe
from app.wire.open_inference.adapter import InferAdapter
from app.wire.openapi.schemas import object_schema
from app.wire.problems import ErrorSchema, error_sentence

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"]
MODEL = "/v2/models/<string:model>"
VERSION = f"{MODEL}/versions/<string:version>"


class TensorErrorSchema(ErrorSchema):
    """The error document of this protocol."""

    ready = ma.fields.Boolean(metadata={"description": "false if the server is not ready"})


TEXT = {"type": "string"}
_PARAMETERS = {"type": "object", "description": "flat: each a string, a number or a boolean"}
_TENSOR = object_schema(
    {
        "name": TEXT,
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {**TEXT, "example": "FP64"},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {}, "description": "nested by the shape, or flat; absent if it is binary"},
    },
    ["name", "shape", "datatype"],
)
_REQUEST = object_schema(
    {
        "id": TEXT,
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array", "items": object_schema({"name": TEXT, "parameters": _PARAMETERS}, ["name"])},
    },
    ["inputs"],
    example={
        "inputs": [
            {"name": "feature1", "shape": [1], "datatype": "FP64", "data": [5.1]},
            {"name": "feature2", "shape": [1], "datatype": "FP64", "data": [3.5]},
        ]
    },
)
INFER_BODY = {"required": True, "content": {codecs.JSON_TYPE: {"schema": _REQUEST}}}
OBJECTS = {"type": "array", "items": {"type": "object"}}
OPTIONAL_BODY = {"required": False, "content": {codecs.JSON_TYPE: {"schema": OBJECT}}}
ERRORS_OF_MODEL: Mapping[int, str] = {**UNKNOWN_MODEL, 503: "the version cannot be served"}
ERRORS_OF_INFER: Mapping[int, str] = {
    400: "the request is not what it says (JSON, shapes, sizes), or has values that the model does not accept",
    413: "the body is too long or has too many rows",
    415: "the Content-Encoding is not supported",
    500: "the model failed",
}
ERRORS_OF_CHANGE: Mapping[int, str] = {
    400: "the body is not JSON, or asks for what is not offered",
    404: "there is no such model",
    413: "the body is too long",
    415: "the Content-Encoding is not supported",
    503: "no version of the model could be loaded",
}
ERRORS = ErrorFormat(re.compile(r"/v2(/|$)"), error_sentence, TensorErrorSchema, statuses={422: 400})
"""The protocol answers 400 to every invalid request."""


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoints of this protocol."""
    blp = Blueprint("open_inference", __name__, description="Open Inference Protocol v2 (Triton, KServe, MLServer).")
    settings, registry = backend.settings, backend.registry
    _server(blp, backend.catalogue)
    _models(blp, registry, settings)
    _infer(blp, backend)
    _repository(blp, registry, settings)
    return blp


def _server(blp: Blueprint, catalogue: Catalogue) -> None:
    @blp.get("/v2/")
    @blp.get("/v2")
    @answers(blp, "name, version and extensions of the server")
    def server() -> Response:
        """Describe the server"""
        return json_response({"name": "retort", "version": __version__, "extensions": EXTENSIONS})

    @blp.get("/v2/health/live")
    @answers(blp, "the process answers")
    def live() -> Response:
        """Check whether the server is live"""
        return json_response({"live": True})

    @blp.get("/v2/health/ready")
    @answers(blp, "every model is ready", {503: "some models are not ready, or the server is about to stop"})
    def ready() -> Response:
        """Check whether all models are ready"""
        is_ready, readiness = catalogue.readiness()
        if is_ready:
            return json_response({"ready": True})
        reasons = readiness["reasons"][:20]
        unready = [f"the service {r['service']}" if "service" in r else f"{r['model']} {r['version']}" for r in reasons]
        which = ", ".join(unready)
        error = f"not everything is ready: {which}; /readyz says why" if which else "the server is about to stop"
        return not_ready(msgspec.json.encode({"ready": False, "error": error}))


def _models(blp: Blueprint, registry: Registry, settings: Settings) -> None:
    @blp.get("/v2/models")
    @answers(blp, "the names of the models")
    def models() -> Response:
        """List the models"""
        return json_response({"models": list(permitted(registry.entries()))})

    @blp.get(VERSION)
    @blp.get(MODEL)
    @answers(blp, "versions, platform, inputs and outputs", ERRORS_OF_MODEL)
    def metadata(model: str, version: str | None = None) -> Response:
        """Describe a model's tensors"""
        entry = registry.entry(model, version)
        served = [str(e.version) for e in registry.entries()[entry.model] if e.state is State.AVAILABLE]
        return json_response(describe.metadata(_manifest(entry), entry.runtime, served))

    @blp.get(f"{VERSION}/ready")
    @blp.get(f"{MODEL}/ready")
    @answers(blp, "the model is ready", {**UNKNOWN_MODEL, 503: "the model exists but is not ready"})
    def model_ready(model: str, version: str | None = None) -> Response:
        """Check whether a model is ready"""
        entry = registry.entry(model, version)
        if entry.state is not State.AVAILABLE:
            raise _unavailable(entry)
        return json_response({"name": entry.model, "ready": True})

    @blp.get(f"{VERSION}/config")
    @blp.get(f"{MODEL}/config")
    @answers(blp, "the model's configuration", ERRORS_OF_MODEL)
    def config(model: str, version: str | None = None) -> Response:
        """Describe a model's configuration"""
        entry = registry.entry(model, version)
        return json_response(describe.config(_manifest(entry), entry.runtime, settings.max_instances))


def _infer(blp: Blueprint, backend: Backend) -> None:
    registry, limits, statistics = backend.registry, backend.limits, InferenceStatistics(backend.metrics)

    def count(context: RequestContext) -> None:
        if context.model and context.error is None:
            statistics.succeeded(context.model, context.version, context.rows, context.timings)
        elif context.model:
            context.timings.ended("run")
            statistics.failed(context.model, context.version, context.timings)

    backend.add_predictions(
        blp,
        "infer",
        [f"{VERSION}/infer", f"{MODEL}/infer"],
        "Infer: one tensor for each input, or one of all; JSON or binary",
        lambda context: InferAdapter(context.environ, limits, registry.entry),
        count=count,
        description="the outputs, each a tensor",
        errors=ERRORS_OF_INFER,
        body=INFER_BODY,
    )

    @blp.get("/v2/models/stats")
    @answers(blp, "counts and durations of each version since the start, in all workers")
    def all_stats() -> Response:
        """Statistics of every model"""
        versions = [(e.model, e.version) for entries in permitted(registry.entries()).values() for e in entries]
        return json_response(describe.statistics(versions, statistics))

    @blp.get(f"{VERSION}/stats")
    @blp.get(f"{MODEL}/stats")
    @answers(blp, "counts and durations since the start, in all workers", UNKNOWN_MODEL)
    def stats(model: str, version: str | None = None) -> Response:
        """Statistics of a model"""
        entry = registry.entry(model, version)
        entries = registry.entries()[entry.model] if version is None else [entry]
        return json_response(describe.statistics([(e.model, e.version) for e in entries], statistics))


def _repository(blp: Blueprint, registry: Registry, settings: Settings) -> None:
    def read_object() -> dict[str, Any]:
        return _optional_object(settings.body_limit_bytes)

    @blp.post("/v2/repository/index")
    @answers(
        blp, "every version, its state and the reason for it", ERRORS_OF_CHANGE, body=OPTIONAL_BODY, schema=OBJECTS
    )
    def repository_index() -> Response:
        """List the versions in the repository"""
        return json_response(describe.index(permitted(registry.entries()), read_object().get("ready") is True))

    @blp.post("/v2/repository/models/<string:model>/load")
    @answers(blp, "its versions are served", ERRORS_OF_CHANGE, body=OPTIONAL_BODY)
    def load(model: str) -> Response:
        """Serve every version of a model that is in the repository"""
        parameters = read_object().get("parameters") or {}
        if refused := [name for name in parameters if name == "config" or name.startswith("file:")]:
            detail = "is not offered: what is served is what was packed; see flask models add"
            raise MalformedRequest(f"#/parameters/{refused[0][:100]}", detail)
        registry.load_model(model)
        return json_response({})

    @blp.post("/v2/repository/models/<string:model>/unload")
    @answers(blp, "it is out of service", ERRORS_OF_CHANGE, body=OPTIONAL_BODY)
    def unload(model: str) -> Response:
        """Take a model out of service"""
        read_object()
        registry.unload_model(model)
        return json_response({})


def _optional_object(limit_bytes: int) -> dict[str, Any]:
    """Return the JSON object in the body; an empty object for an empty body."""
    content = body.read(request.environ, limit_bytes)
    document = codecs.JSON.document(content) if content.strip() else {}
    if not isinstance(document, dict) or not isinstance(document.get("parameters"), dict | None):
        raise MalformedRequest("#", "must be empty, or an object whose parameters, if any, are an object")
    return document


def _manifest(entry: Entry) -> Manifest:
    if entry.manifest is None:
        raise _unavailable(entry)
    return entry.manifest


def _unavailable(entry: Entry) -> ModelUnavailable:
    return ModelUnavailable(entry.model, entry.version, entry.reason or entry.state.value)
