"""`/invocations` and `/ping`, which MLflow's scoring server and SageMaker's containers both have, and the rest of both.

Sources: mlflow/pyfunc/scoring_server/__init__.py and client.py; amazon-sagemaker-developer-guide
your-algorithms-inference-code.md and your-algorithms-batch-code.md (protocols.md 2.0, 2.2, 2.3). The default model
answers; `/endpoints/<name>/invocations`, where boto3 asks, names another. Errors are MLflow's, whose `message` boto3
reads too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

import marshmallow as ma
import msgspec
from flask import Response
from flask_smorest import Blueprint

from app import __version__
from app.gateway.errors import ErrorFormat, Problem, sentence
from app.wire import codecs, problems
from app.wire.backend import JSON_TYPE, Backend, json_response
from app.wire.invocations.adapter import InvocationAdapter, envelope
from app.wire.openapi.requests import RequestBodyForm
from app.wire.stream import NdjsonStreaming

MOST_TRANSFORMED_MB = 100
"""SageMaker's limit of concurrent requests times their megabytes (CreateTransformJob)."""
LARGEST_INVOCATION_MB = 6
ERROR_CODES: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "RESOURCE_DOES_NOT_EXIST",
    HTTPStatus.UNPROCESSABLE_ENTITY: "INVALID_PARAMETER_VALUE",
    HTTPStatus.TOO_MANY_REQUESTS: "REQUEST_LIMIT_EXCEEDED",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL_ERROR",
    HTTPStatus.SERVICE_UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}
"""MLflow's words for statuses (databricks.proto); every other one is BAD_REQUEST."""


def error_form(problem: Problem) -> tuple[bytes, str]:
    """`{"error_code", "message"}`."""
    code = ERROR_CODES.get(problem.status, "BAD_REQUEST")
    return msgspec.json.encode({"error_code": code, "message": sentence(problem)}), JSON_TYPE


class InvocationErrorSchema(ma.Schema):
    """Every error of both."""

    error_code = ma.fields.String(required=True, metadata={"example": "INVALID_PARAMETER_VALUE"})
    message = ma.fields.String(required=True, metadata={"description": "what was wrong, where, and what is allowed"})


ERRORS = ErrorFormat(
    re.compile(r"/(ping|health|version|invocations|execution-parameters|endpoints)(?![^/])"),
    error_form,
    InvocationErrorSchema,
    statuses={422: 400},
)
"""MLflow has 400 for whatever is wrong with a request."""


REQUESTS: Mapping[str, RequestBodyForm] = dict.fromkeys(
    ("/invocations", "/endpoints/{model}/invocations"), RequestBodyForm(envelope)
)


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoints of both."""
    blp = Blueprint("invocations", __name__, description="MLflow's scoring server and SageMaker's containers.")
    _describe(blp, backend)
    limits = codecs.Limits.of(backend.settings)
    backend.add_predictions(
        blp,
        backend.endpoint(lambda context: InvocationAdapter(context.environ, limits), NdjsonStreaming(limits)),
        "invocations",
        ["/endpoints/<string:model>/invocations", "/invocations"],
        "Predict (MLflow, SageMaker)",
        schema=None,
        errors={
            400: "the body cannot be read, or has values that the model does not accept",
            406: "Accept allows no type that is offered",
            415: "the Content-Type is not supported",
        },
    )
    return blp


def _describe(blp: Blueprint, backend: Backend) -> None:
    settings = backend.settings
    payload_mb = max(1, min(LARGEST_INVOCATION_MB, settings.body_limit_bytes // 2**20))
    parameters = {
        "MaxConcurrentTransforms": min(settings.web_concurrency * settings.threads, MOST_TRANSFORMED_MB // payload_mb),
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": payload_mb,
    }

    @blp.get("/ping")
    @blp.get("/health")
    @blp.response(200, {"type": "object"}, description="every model is available")
    @blp.alt_response(503, description="some are not, or the server is about to stop")
    def ping() -> Response:
        """Is every model available? (MLflow, SageMaker)"""
        is_ready, _ = backend.catalogue.readiness()
        return json_response({"ping": "pong"}) if is_ready else problems.unready(error_form)

    @blp.get("/version")
    @blp.response(200, {"type": "string"}, content_type="text/plain", description="the bare version")
    def version() -> Response:
        """Tell the version of this server (MLflow)"""
        return Response(__version__, content_type="text/plain; charset=utf-8")

    @blp.get("/execution-parameters")
    @blp.response(200, {"type": "object"}, description="how a batch transform had best be sent")
    def execution_parameters() -> Response:
        """Tell how much may be asked at once (SageMaker's batch transform)"""
        return json_response(parameters)
