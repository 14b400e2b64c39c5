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
from flask import Response, request
from flask_smorest import Blueprint

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.errors import InvalidInstances
from app.settings import Settings
from app.wire import codecs, problems, stream
from app.wire.application import Environ, Headers, WholeResponse, release, timings_of
from app.wire.invocations.exchange import InvocationExchange, envelope
from app.wire.openapi.requests import RequestBodyForm

JSON = "application/json"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
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


def error_form(problem: problems.Problem) -> tuple[bytes, str]:
    """`{"error_code", "message"}`."""
    code = ERROR_CODES.get(problem.status, "BAD_REQUEST")
    return msgspec.json.encode({"error_code": code, "message": problems.sentence(problem)}), JSON


class InvocationErrorSchema(ma.Schema):
    """Every error of both."""

    error_code = ma.fields.String(required=True, metadata={"example": "INVALID_PARAMETER_VALUE"})
    message = ma.fields.String(required=True, metadata={"description": "what was wrong, where, and what is allowed"})


ERRORS = problems.Errors(
    re.compile(r"/(ping|health|version|invocations|execution-parameters|endpoints)(?![^/])"),
    error_form,
    InvocationErrorSchema,
    statuses={422: 400},
)
"""MLflow has 400 for whatever is wrong with a request."""


REQUESTS: Mapping[str, RequestBodyForm] = dict.fromkeys(
    ("/invocations", "/endpoints/{model}/invocations"), RequestBodyForm(envelope)
)


def blueprint(service: PredictService, catalogue: Catalogue, settings: Settings) -> Blueprint:
    """The endpoints of both."""
    blp = Blueprint("invocations", __name__, description="MLflow's scoring server and SageMaker's containers.")
    _probes(blp, catalogue)
    _parameters(blp, settings)
    _invocations(blp, service, settings)
    return blp


def _probes(blp: Blueprint, catalogue: Catalogue) -> None:
    @blp.get("/ping")
    @blp.get("/health")
    @blp.response(200, {"type": "object"}, description="every model is available")
    @blp.alt_response(503, description="some are not, or the server is about to stop")
    def ping() -> Response:
        """Is every model available? (MLflow, SageMaker)"""
        is_ready, _ = catalogue.readiness()
        if is_ready and not request.environ.get("retort.draining"):
            return Response(b'{"ping":"pong"}', content_type=JSON)
        return problems.unready(error_form)

    @blp.get("/version")
    @blp.response(200, {"type": "string"}, content_type="text/plain", description="the bare version")
    def version() -> Response:
        """Tell the version of this server (MLflow)"""
        return Response(release(), content_type="text/plain; charset=utf-8")


def _parameters(blp: Blueprint, settings: Settings) -> None:
    payload_mb = max(1, min(LARGEST_INVOCATION_MB, settings.body_limit_bytes // 2**20))
    parameters = {
        "MaxConcurrentTransforms": min(settings.web_concurrency * settings.threads, MOST_TRANSFORMED_MB // payload_mb),
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": payload_mb,
    }

    @blp.get("/execution-parameters")
    @blp.response(200, {"type": "object"}, description="how a batch transform had best be sent")
    def execution_parameters() -> Response:
        """Tell how much may be asked at once (SageMaker's batch transform)"""
        return Response(msgspec.json.encode(parameters), content_type=JSON)


def _invocations(blp: Blueprint, service: PredictService, settings: Settings) -> None:
    limits = codecs.Limits(settings.body_limit_bytes, settings.max_instances)

    @blp.post("/invocations")
    @blp.post("/endpoints/<string:model>/invocations")
    @blp.response(200, description="a prediction for each instance")
    @blp.alt_response(400, description="the body cannot be read, or has values that the model does not accept")
    @blp.alt_response(404, description="there is no such model")
    @blp.alt_response(406, description="Accept allows no type that is offered")
    @blp.alt_response(413, description="the body is too long or has too many instances")
    @blp.alt_response(415, description="the Content-Type is not supported")
    @blp.alt_response(429, description="the server is busy, and more requests of this client wait than of others")
    @blp.alt_response(503, description="the model is not available, or the server is busy")
    @blp.alt_response(504, description="the request's time ran out")
    def invocations(model: str | None = None) -> Response:
        """Predict (MLflow, SageMaker)"""
        if stream.is_wanted(request.environ):
            return stream.answer(service.series(model, None), request.environ, limits)
        timings = timings_of(request.environ)
        exchange = InvocationExchange(request.environ, settings)
        try:
            content = service.predict(model, None, exchange, timings)
        except InvalidInstances as error:
            raise exchange.placed(error) from None
        return WholeResponse(content, exchange.headers(timings) + _attributes(request.environ))


def _attributes(environ: Environ) -> Headers:
    """The caller's own attributes, which SageMaker hands back to it: up to 1024 printable characters of ASCII."""
    sent = environ.get("HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES", "")
    fit = 0 < len(sent) <= 1024 and sent.isascii() and sent.isprintable()
    return [(ATTRIBUTES, sent)] if fit else []
