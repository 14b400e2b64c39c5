"""The URLs of MLflow's scoring server and of SageMaker's containers: `/invocations`, `/ping` and others.

Sources: mlflow/pyfunc/scoring_server/__init__.py and client.py; amazon-sagemaker-developer-guide
your-algorithms-inference-code.md and your-algorithms-batch-code.md (docs/protocols.md). `/invocations` asks the default
model. boto3 calls `/endpoints/<name>/invocations`, which names a model. Errors have MLflow's format, whose `message`
boto3 also reads.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import marshmallow as ma
import msgspec
from flask import Response
from flask_smorest import Blueprint

from app import __version__
from app.core.answer import Answer
from app.gateway.errors import NOT_READY, ErrorFormat, Problem, sentence
from app.server.contract import Environ, Headers
from app.signature import Signature
from app.signature.batch import Decode, PredictRequest
from app.signature.field_errors import refused
from app.wire import body, codecs
from app.wire.backend import UNREADY, Adapter, Backend, answers, json_response, not_ready
from app.wire.instances import (
    instance_list,
    move_pointers,
    predictions,
    requested_outputs,
    rows_from_columns,
    rows_from_table,
    transpose_pointers,
)
from app.wire.openapi.contents import RequestBodyForm
from app.wire.openapi.schemas import ModelSchemas, Schema, object_schema
from app.wire.stream import NdjsonStreaming

MOST_TRANSFORMED_MB = 100
"""SageMaker's limit of concurrent requests multiplied by the megabytes of each (CreateTransformJob)."""
LARGEST_INVOCATION_MB = 6
ERROR_CODES: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "RESOURCE_DOES_NOT_EXIST",
    HTTPStatus.UNPROCESSABLE_ENTITY: "INVALID_PARAMETER_VALUE",
    HTTPStatus.TOO_MANY_REQUESTS: "REQUEST_LIMIT_EXCEEDED",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL_ERROR",
    HTTPStatus.SERVICE_UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}
"""MLflow's error code for each status (databricks.proto). All other statuses have BAD_REQUEST."""
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
ENVELOPES = ("dataframe_split", "dataframe_records", "instances", "inputs")
ONE_OF = ", ".join(ENVELOPES)
SPLIT = ("columns", "index", "data")
FAST = re.compile(rb'\s*+(?:(\[)|\{\s*+"instances"\s*+:)')


def error_form(problem: Problem) -> tuple[bytes, str]:
    """Return `{"error_code", "message"}`."""
    code = ERROR_CODES.get(problem.status, "BAD_REQUEST")
    return msgspec.json.encode({"error_code": code, "message": sentence(problem)}), codecs.JSON_TYPE


class InvocationErrorSchema(ma.Schema):
    """The error document of MLflow and SageMaker."""

    error_code = ma.fields.String(required=True, metadata={"example": "INVALID_PARAMETER_VALUE"})
    message = ma.fields.String(required=True, metadata={"description": "what was wrong, where, and what is allowed"})


ERRORS = ErrorFormat(
    re.compile(r"/(ping|health|version|invocations|execution-parameters|endpoints)(?![^/])"),
    error_form,
    InvocationErrorSchema,
    statuses={422: 400},
)
"""MLflow answers 400 to every invalid request."""


def envelope(model: ModelSchemas) -> Schema:
    """Return the schema of MLflow's four forms, with `params`, and of a bare list. Other members are ignored."""
    columns = object_schema(
        {name: {"type": "array", "items": field} for name, field in model.fields.items()},
        list(model.fields),
        additionalProperties=not model.fields,
        description="columns of one length",
    )
    names: Schema = {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "description": "the names of the columns, in any order",
    }
    if model.fields:
        names |= {
            "prefixItems": [{"const": name} for name in model.fields],
            "minItems": len(model.fields),
            "maxItems": len(model.fields),
        }
    members = {"columns": names, "index": {}, "data": {"type": "array", "items": model.row}}
    split = object_schema(members, ["data"], additionalProperties=False)
    forms: dict[str, Schema] = {
        "dataframe_split": split,
        "dataframe_records": model.instances,
        "instances": model.instances,
        "inputs": {"anyOf": [model.instances, columns, model.record]},
    }
    params = {"type": ["object", "null"], "properties": {"outputs": model.requested_outputs}}

    def only_member(key: str) -> Schema:
        others = [{"required": [other]} for other in (*forms, "signature_name") if other != key]
        return object_schema({key: forms[key], "params": params}, [key]) | {"not": {"anyOf": others}}

    return {"anyOf": [model.instances, *map(only_member, forms)]}


REQUESTS: Mapping[str, RequestBodyForm] = dict.fromkeys(
    ("/invocations", "/endpoints/{model}/invocations"), RequestBodyForm(envelope)
)


def csv_of(answer: Answer) -> bytes:
    """Return CSV with a line for each prediction and no header, as SageMaker's containers do."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    for prediction in zip(*answer.values().values(), strict=True):
        writer.writerow(value for part in prediction for value in (part if isinstance(part, list) else [part]))
    return out.getvalue().encode("utf-8", "replace")


class InvocationAdapter(Adapter):
    """Adapter of `/invocations`: takes MLflow's envelopes, or rows in any media type."""

    def __init__(self, environ: Environ, limits: codecs.BodyLimits) -> None:
        super().__init__(environ, limits)
        self._bare = False
        self.media_type, self._writer = codecs.writer(environ.get("HTTP_ACCEPT"))

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """Return the request of an MLflow envelope, of SageMaker's list of rows, or of rows in any media type."""
        raw = body.read(self._environ, self._limits.body_bytes)
        codec, parameters = codecs.reader(self._environ.get("CONTENT_TYPE"), raw)
        if codec is codecs.JSON and (form := FAST.match(raw)) and (decoded := decode(raw)) and not decoded.outputs:
            self._bare = form[1] is not None
            return replace(decoded, outputs=signature.defaults[:1])
        document = codec.decode(raw, codecs.Reading(signature, self._limits, parameters))
        if isinstance(document, codecs.Rows):
            self._bare = codec is codecs.CODECS["application/x-npy"]
            return document.to_request(signature.defaults[:1])
        if isinstance(document, list):
            self._bare = True
            return PredictRequest(instance_list(document, signature, "#"), outputs=signature.defaults[:1])
        if not isinstance(document, dict):
            raise refused("#", f"must be a list of rows, or an object with one of {ONE_OF}", document)
        return self._envelope(document, signature)

    def _envelope(self, document: dict[str, Any], signature: Signature) -> PredictRequest:
        keys = [key for key in ENVELOPES if key in document]
        if len(keys) != 1:
            found = f"; it has {', '.join(keys)}" if keys else ""
            raise refused("#", f"must have exactly one of {ONE_OF}{found}")
        if "signature_name" in document:
            raise refused("#/signature_name", "is not supported; params.outputs names the outputs")
        outputs = requested_outputs(document.get("params"), signature, "#/params")
        (key,) = keys
        instances, pointer = self._instances(key, document[key], signature)
        return PredictRequest(instances, pointer, outputs=outputs, outputs_pointer="#/params/outputs")

    def _instances(self, key: str, values: Any, signature: Signature) -> tuple[list[Any], str]:
        pointer = f"#/{key}"
        if key == "dataframe_split":
            return self._split(values, signature), f"{pointer}/data"
        if key == "inputs" and isinstance(values, dict):
            if values and not any(isinstance(value, list) for value in values.values()):
                return instance_list([values], signature, pointer), pointer  # a record
            self._place = lambda error: transpose_pointers(error, signature.names, pointer)
            return rows_from_columns(values, signature, pointer), pointer
        if key == "inputs" and not isinstance(values, list) and len(signature.inputs) == 1:
            values = [values]
        return instance_list(values, signature, pointer), pointer

    def _split(self, frame: Any, signature: Signature) -> list[Any]:
        pointer = "#/dataframe_split"
        if not isinstance(frame, dict) or "data" not in frame or not frame.keys() <= set(SPLIT):
            raise refused(pointer, "must be an object with data, and perhaps columns and index", frame)
        columns = frame.get("columns")
        if columns is None:
            return instance_list(frame["data"], signature, f"{pointer}/data")
        if not isinstance(columns, list):
            raise refused(f"{pointer}/columns", "must be a list of names", columns)
        table, order = rows_from_table(columns, frame["data"], signature, pointer)
        at = f"{pointer}/data"
        self._place = lambda error: move_pointers(error, at, lambda row, position: f"{at}/{row}/{order[position]}")
        return instance_list(table, signature, at)

    def encode(self, answer: Answer) -> bytes:
        """Return `{"predictions": [...]}`, the bare list if the request was a list, or rows in the type in `Accept`."""
        content = csv_of(answer) if self.media_type == "text/csv" else self._writer.write(answer, self._document)
        return self._compressed(content)

    def _document(self, answer: Answer) -> Any:
        predicted = predictions(answer)
        return predicted if self._bare else {"predictions": predicted}

    def headers(self) -> Headers:
        """Return the header fields of the response, with the client's custom attributes.

        SageMaker returns these attributes to the client: up to 1024 printable ASCII characters.
        """
        attributes = self._environ.get("HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES", "")
        is_valid = 0 < len(attributes) <= 1024 and attributes.isascii() and attributes.isprintable()
        return [*super().headers(), *([(ATTRIBUTES, attributes)] if is_valid else [])]


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoints of MLflow and SageMaker."""
    blp = Blueprint("invocations", __name__, description="MLflow's scoring server and SageMaker's containers.")
    _describe(blp, backend)
    limits = backend.limits
    backend.add_predictions(
        blp,
        "invocations",
        ["/endpoints/<string:model>/invocations", "/invocations"],
        "Predict (MLflow, SageMaker)",
        lambda context: InvocationAdapter(context.environ, limits),
        streaming=NdjsonStreaming(limits),
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
    @answers(blp, "every model is available", UNREADY)
    def ping() -> Response:
        """Check whether every model is available (MLflow, SageMaker)"""
        is_ready, _ = backend.catalogue.readiness()
        return json_response({"ping": "pong"}) if is_ready else not_ready(*error_form(NOT_READY))

    @blp.get("/version")
    @answers(blp, "the bare version", schema={"type": "string"}, content_type="text/plain")
    def version() -> Response:
        """Return the version of this server (MLflow)"""
        return Response(__version__, content_type="text/plain; charset=utf-8")

    @blp.get("/execution-parameters")
    @answers(blp, "the best settings for a batch transform job")
    def execution_parameters() -> Response:
        """Return the limits of batch transform jobs (SageMaker)"""
        return json_response(parameters)
