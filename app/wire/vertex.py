"""Vertex AI's custom containers: a health route and a predict route, which the platform may choose (`AIP_*`).

Source: Google Cloud, "Custom container requirements for inference", contract version 1.0.0 (protocols.md 2.4). The
default model answers. The contract has no form for errors: they are problem documents.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from flask import Response, request
from flask.blueprints import BlueprintSetupState
from flask_smorest import Blueprint

from app.core.answer import Answer
from app.core.catalogue import Catalogue
from app.core.service import Asked, Decode, PredictService
from app.settings import Settings
from app.signature import Signature
from app.wire import body, problems, rows
from app.wire.application import Environ, WholeResponse, timings_of
from app.wire.openapi.requests import RequestBodyForm
from app.wire.openapi.schemas import ModelSchemas, Schema

JSON = "application/json"
HEALTH = "/v1/endpoints/<segment:endpoint>/deployedModels/<segment:deployed>"
PREDICT = f"{HEALTH}:predict"
"""The routes that are the platform's where it names none."""


def envelope(model: ModelSchemas) -> Schema:
    """`instances` and perhaps `parameters`."""
    return {
        "type": "object",
        "required": ["instances"],
        "properties": {
            "instances": model.instances,
            "parameters": {"type": ["object", "null"], "properties": {"outputs": model.wanted}},
        },
    }


REQUESTS: Mapping[str, RequestBodyForm] = {
    "/v1/endpoints/{endpoint}/deployedModels/{deployed}:predict": RequestBodyForm(envelope, only_json=True)
}


class VertexExchange:
    """One request, `instances` and perhaps `parameters`, and its answer."""

    def __init__(self, environ: Environ, body_limit_bytes: int) -> None:
        self._environ = environ
        self._body_limit_bytes = body_limit_bytes

    def parse(self, signature: Signature, decode: Decode) -> Asked:
        """The instances; of the parameters only `outputs`, a list of output names, is heeded."""
        raw = body.read(self._environ, self._body_limit_bytes)
        if (asked := rows.asked_alone(raw, decode, signature)) is not None:
            return asked
        document = rows.object_in(raw)
        if "instances" not in document:
            raise rows.refused("#", "must have instances, a list of them")
        instances = rows.listed(document["instances"], signature, "#/instances")
        outputs = rows.outputs_in(document.get("parameters"), signature, "#/parameters")
        return Asked(instances, "#/instances", outputs=outputs, outputs_pointer="#/parameters/outputs")

    def encode(self, answer: Answer) -> bytes:
        """`predictions`, one for each instance."""
        return msgspec.json.encode({"predictions": rows.predictions(answer)})


def blueprint(service: PredictService, catalogue: Catalogue, settings: Settings) -> Blueprint:
    """The two routes, as they always are, and where the platform wants them."""
    blp = Blueprint("vertex", __name__, description="Vertex AI's custom containers.")

    @blp.record_once
    def begin(state: BlueprintSetupState) -> None:
        state.app.url_map.converters.update(segment=rows.Segment)
        if settings.aip_predict_route.endswith("/predict"):
            # The straight way would answer there as Retort does; it leaves all to Flask where there is any hook.
            state.app.before_request(lambda: None)

    _health(blp, catalogue, [HEALTH, *filter(None, [settings.aip_health_route])])
    _predict(blp, service, settings, [PREDICT, *filter(None, [settings.aip_predict_route])])
    return blp


def _health(blp: Blueprint, catalogue: Catalogue, routes: list[str]) -> None:
    @blp.response(200, {"type": "object"}, description="every model is available")
    @blp.alt_response(503, description="some are not, or the server is about to stop")
    def vertex_health(endpoint: str = "", deployed: str = "") -> Response:
        """Is every model available? (Vertex AI)"""
        is_ready, _ = catalogue.readiness()
        if is_ready and not request.environ.get("retort.draining"):
            return Response(b'{"status":"ready"}', content_type=JSON)
        return problems.unready(problems.problem_json)

    for route in routes:
        blp.get(route)(vertex_health)


def _predict(blp: Blueprint, service: PredictService, settings: Settings, routes: list[str]) -> None:
    @blp.response(200, {"type": "object"}, description="a prediction for each instance")
    @blp.alt_response(400, description="the body is not JSON")
    @blp.alt_response(404, description="there is no default model")
    @blp.alt_response(413, description="the body is too long or has too many instances")
    @blp.alt_response(422, description="values that the model does not accept")
    @blp.alt_response(429, description="the server is busy, and more requests of this client wait than of others")
    @blp.alt_response(503, description="the model is not available, or the server is busy")
    @blp.alt_response(504, description="the request's time ran out")
    def vertex_predict(endpoint: str = "", deployed: str = "") -> Response:
        """Predict with the default model (Vertex AI)"""
        timings = timings_of(request.environ)
        exchange = VertexExchange(request.environ, settings.body_limit_bytes)
        content = service.predict(None, None, exchange, timings)
        return WholeResponse(content, [("Content-Type", JSON), ("Server-Timing", timings.header())])

    for route in routes:
        blp.post(route)(vertex_predict)
