"""Vertex AI's custom containers: a health route and a predict route.

`AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE` set the URLs of these routes.

Source: Google Cloud, "Custom container requirements for inference", contract version 1.0.0 (docs/protocols.md). The
default model answers. The contract has no error format, so errors are problem documents.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from flask import Response
from flask_smorest import Blueprint

from app.core.answer import Answer
from app.gateway.errors import NOT_READY, problem_json
from app.signature import Signature
from app.signature.batch import Decode, PredictRequest
from app.signature.field_errors import refused
from app.wire import body
from app.wire.backend import UNREADY, Adapter, Backend, Segment, answers, json_response, not_ready
from app.wire.instances import decode_instances, instance_list, json_object, predictions, requested_outputs
from app.wire.openapi.contents import RequestBodyForm
from app.wire.openapi.schemas import ModelSchemas, Schema, object_schema

HEALTH = "/v1/endpoints/<segment:endpoint>/deployedModels/<segment:deployed>"
PREDICT = f"{HEALTH}:predict"
"""The routes that the platform uses by default."""


def envelope(model: ModelSchemas) -> Schema:
    """Return the schema of a body with `instances` and optional `parameters`."""
    parameters = {"type": ["object", "null"], "properties": {"outputs": model.requested_outputs}}
    return object_schema({"instances": model.instances, "parameters": parameters}, ["instances"])


REQUESTS: Mapping[str, RequestBodyForm] = {
    "/v1/endpoints/{endpoint}/deployedModels/{deployed}:predict": RequestBodyForm(envelope, only_json=True)
}


class VertexAdapter(Adapter):
    """Adapter of the predict route: takes `instances` and optional `parameters`."""

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """Return the instances, for the outputs in `parameters`. Other parameters are ignored."""
        raw = body.read(self._environ, self._limits.body_bytes)
        if (predict_request := decode_instances(raw, decode, signature)) is not None:
            return predict_request
        document = json_object(raw, self._limits)
        if "instances" not in document:
            raise refused("#", "must have the key instances with a list")
        instances = instance_list(document["instances"], signature, "#/instances")
        outputs = requested_outputs(document.get("parameters"), signature, "#/parameters")
        return PredictRequest(instances, "#/instances", outputs=outputs, outputs_pointer="#/parameters/outputs")

    def encode(self, answer: Answer) -> bytes:
        """Return `predictions`, one for each instance."""
        return msgspec.json.encode({"predictions": predictions(answer)})


def blueprint(backend: Backend) -> Blueprint:
    """Return the two routes, at their default URLs and at the URLs in the settings."""
    blp = Blueprint("vertex", __name__, description="Vertex AI's custom containers.")
    settings, limits = backend.settings, backend.limits

    blp.record_once(lambda state: state.app.url_map.converters.update(segment=Segment))

    @answers(blp, "every model is available", UNREADY)
    def vertex_health(endpoint: str = "", deployed: str = "") -> Response:
        """Check whether every model is available (Vertex AI)"""
        is_ready, _ = backend.catalogue.readiness()
        return json_response({"status": "ready"}) if is_ready else not_ready(*problem_json(NOT_READY))

    for route in (HEALTH, *filter(None, [settings.aip_health_route])):
        blp.get(route)(vertex_health)
    backend.add_predictions(
        blp,
        "vertex_predict",
        [PREDICT, *filter(None, [settings.aip_predict_route])],
        "Predict with the default model (Vertex AI)",
        lambda context: VertexAdapter(context.environ, limits),
        errors={400: "the body is not JSON", 422: "values that the model does not accept"},
    )
    return blp
