"""TensorFlow Serving's REST API, which KServe v1 shares: `POST /v1/models/<model>:predict`, status and metadata.

Sources: tensorflow/serving api_rest.md and http_rest_api_util.cc, kserve v1_endpoints.py (protocols.md 2.0, 2.5).
Labels are our aliases. A Content-Type is never looked at. `signature_name` names the outputs, which TensorFlow Serving
has no other way to choose.
"""

from __future__ import annotations

import re
from typing import Any

import marshmallow as ma
import msgspec
from flask import Response, request
from flask.blueprints import BlueprintSetupState
from flask_smorest import Blueprint
from werkzeug.routing import BaseConverter

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.errors import InvalidInstances
from app.settings import Settings
from app.wire import problems, rows
from app.wire.application import Environ, WholeResponse, timings_of
from app.wire.tensorflow_serving.describe import metadata, status
from app.wire.tensorflow_serving.exchanges import ExamplesExchange, PredictExchange

JSON = "application/json"
MODEL = "/v1/models/<segment:model>"
VERSION, LABEL = f"{MODEL}/versions/<segment:version>", f"{MODEL}/labels/<segment:version>"


def error_form(problem: problems.Problem) -> tuple[bytes, str]:
    """`{"error": "<sentence>"}`."""
    return msgspec.json.encode({"error": problems.sentence(problem)}), JSON


class ServingErrorSchema(ma.Schema):
    """Every error of this protocol."""

    error = ma.fields.String(required=True, metadata={"description": "what was wrong, where, and what is allowed"})


ERRORS = problems.Errors(re.compile(r"/v1/models(?![^/:])"), error_form, ServingErrorSchema, statuses={422: 400})


class Verb(BaseConverter):
    """What a model is asked for, in whatever case."""

    regex = "(?i:predict|classify|regress)"

    def to_python(self, value: str) -> str:
        """The verb in lower case."""
        return value.lower()


def blueprint(service: PredictService, catalogue: Catalogue, settings: Settings) -> Blueprint:
    """The endpoints of this protocol."""
    blp = Blueprint("tensorflow_serving", __name__, description="TensorFlow Serving and KServe v1.")

    @blp.record_once
    def begin(state: BlueprintSetupState) -> None:
        state.app.url_map.converters.update(segment=rows.Segment, verb=Verb)

    _describe(blp, catalogue)
    _predict(blp, service, settings)
    return blp


def _describe(blp: Blueprint, catalogue: Catalogue) -> None:
    @blp.get("/v1/models")
    @blp.response(200, {"type": "object"}, description="the names of the models")
    def v1_models() -> Response:
        """List the names of the models (KServe v1)"""
        return _json({"models": [model["name"] for model in catalogue.models()["models"]]})

    @blp.get(MODEL)
    @blp.get(VERSION)
    @blp.get(LABEL)
    @blp.response(200, {"type": "object"}, description="the state of each version, or of one")
    @blp.alt_response(404, description="there is no such model or version")
    def v1_status(model: str, version: str | None = None) -> Response:
        """Tell the states of a model's versions"""
        return _json(status(catalogue, model, version))

    @blp.get(f"{MODEL}/metadata")
    @blp.get(f"{VERSION}/metadata")
    @blp.get(f"{LABEL}/metadata")
    @blp.response(200, {"type": "object"}, description="inputs and outputs, as signatures")
    @blp.alt_response(404, description="there is no such model or version")
    @blp.alt_response(503, description="the model is not available")
    def v1_metadata(model: str, version: str | None = None) -> Response:
        """Tell the signatures of a model"""
        return _json(metadata(catalogue, model, version))


def _predict(blp: Blueprint, service: PredictService, settings: Settings) -> None:
    @blp.post(f"{MODEL}:<verb:verb>")
    @blp.post(f"{VERSION}:<verb:verb>")
    @blp.post(f"{LABEL}:<verb:verb>")
    @blp.doc(requestBody={"required": True, "content": {"application/json": {"schema": {"type": "object"}}}})
    @blp.response(200, {"type": "object"}, description="a prediction for each instance, or a result for each example")
    @blp.alt_response(400, description="the body is not JSON, or has values that the model does not accept")
    @blp.alt_response(404, description="there is no such model or version")
    @blp.alt_response(413, description="the body is too long or has too many instances")
    @blp.alt_response(429, description="the server is busy, and more requests of this client wait than of others")
    @blp.alt_response(503, description="the model is not available, or the server is busy")
    @blp.alt_response(504, description="the request's time ran out")
    def v1_predict(model: str, verb: str, version: str | None = None) -> Response:
        """Predict, classify or regress"""
        timings = timings_of(request.environ)
        exchange = _exchange(request.environ, settings, verb)
        try:
            content = service.predict(model, version, exchange, timings)
        except InvalidInstances as error:
            raise exchange.placed(error) from None
        return WholeResponse(content, [("Content-Type", JSON), ("Server-Timing", timings.header())])


def _exchange(environ: Environ, settings: Settings, verb: str) -> PredictExchange | ExamplesExchange:
    return PredictExchange(environ, settings) if verb == "predict" else ExamplesExchange(environ, settings, verb)


def _json(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), content_type=JSON)
