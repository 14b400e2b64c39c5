"""TensorFlow Serving's REST API, which KServe v1 shares: `POST /v1/models/<model>:predict`, status and metadata.

Sources: tensorflow/serving api_rest.md and http_rest_api_util.cc, kserve v1_endpoints.py (protocols.md 2.0, 2.5).
Labels are our aliases. A Content-Type is never looked at. `signature_name` names the outputs, which TensorFlow Serving
has no other way to choose.
"""

from __future__ import annotations

import re

import marshmallow as ma
import msgspec
from flask import Response
from flask.blueprints import BlueprintSetupState
from flask_smorest import Blueprint
from werkzeug.routing import BaseConverter

from app.core.catalogue import Catalogue
from app.gateway.context import RequestContext
from app.gateway.errors import ErrorFormat, Problem, sentence
from app.wire.backend import JSON_TYPE, Backend, Segment, json_response
from app.wire.tensorflow_serving.adapters import ExamplesAdapter, PredictAdapter
from app.wire.tensorflow_serving.describe import metadata, status

MODEL = "/v1/models/<segment:model>"
VERSION, LABEL = f"{MODEL}/versions/<segment:version>", f"{MODEL}/labels/<segment:version>"


def error_form(problem: Problem) -> tuple[bytes, str]:
    """`{"error": "<sentence>"}`."""
    return msgspec.json.encode({"error": sentence(problem)}), JSON_TYPE


class ServingErrorSchema(ma.Schema):
    """Every error of this protocol."""

    error = ma.fields.String(required=True, metadata={"description": "what was wrong, where, and what is allowed"})


ERRORS = ErrorFormat(re.compile(r"/v1/models(?![^/:])"), error_form, ServingErrorSchema, statuses={422: 400})


class Verb(BaseConverter):
    """What a model is asked for, in whatever case."""

    regex = "(?i:predict|classify|regress)"

    def to_python(self, value: str) -> str:
        """The verb in lower case."""
        return value.lower()


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoints of this protocol."""
    blp = Blueprint("tensorflow_serving", __name__, description="TensorFlow Serving and KServe v1.")

    @blp.record_once
    def begin(state: BlueprintSetupState) -> None:
        state.app.url_map.converters.update(segment=Segment, verb=Verb)

    def adapter(context: RequestContext) -> PredictAdapter | ExamplesAdapter:
        verb = context.arguments["verb"]
        if verb == "predict":
            return PredictAdapter(context.environ, backend.settings)
        return ExamplesAdapter(context.environ, backend.settings, verb)

    _describe(blp, backend.catalogue)
    backend.add_predictions(
        blp,
        backend.endpoint(adapter),
        "v1_predict",
        [f"{LABEL}:<verb:verb>", f"{VERSION}:<verb:verb>", f"{MODEL}:<verb:verb>"],
        "Predict, classify or regress",
        says="a prediction for each instance, or a result for each example",
        errors={400: "the body is not JSON, or has values that the model does not accept"},
        body={"required": True, "content": {JSON_TYPE: {"schema": {"type": "object"}}}},
    )
    return blp


def _describe(blp: Blueprint, catalogue: Catalogue) -> None:
    @blp.get("/v1/models")
    @blp.response(200, {"type": "object"}, description="the names of the models")
    def v1_models() -> Response:
        """List the names of the models (KServe v1)"""
        return json_response({"models": [model["name"] for model in catalogue.models()["models"]]})

    @blp.get(MODEL)
    @blp.get(VERSION)
    @blp.get(LABEL)
    @blp.response(200, {"type": "object"}, description="the state of each version, or of one")
    @blp.alt_response(404, description="there is no such model or version")
    def v1_status(model: str, version: str | None = None) -> Response:
        """Tell the states of a model's versions"""
        return json_response(status(catalogue, model, version))

    @blp.get(f"{MODEL}/metadata")
    @blp.get(f"{VERSION}/metadata")
    @blp.get(f"{LABEL}/metadata")
    @blp.response(200, {"type": "object"}, description="inputs and outputs, as signatures")
    @blp.alt_response(404, description="there is no such model or version")
    @blp.alt_response(503, description="the model is not available")
    def v1_metadata(model: str, version: str | None = None) -> Response:
        """Tell the signatures of a model"""
        return json_response(metadata(catalogue, model, version))
