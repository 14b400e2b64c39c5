"""Retort's own protocol: `POST /predict`, and the same for a named model or version.

It takes a record or `instances`, and returns outputs by name. To add another protocol, copy this file and change its
URLs, its envelope (`parse`) and its response (`encode`). Errors are problem documents unless the module has its own
`ErrorFormat` (`ERRORS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import marshmallow as ma
from flask_smorest import Blueprint

from app.core.answer import Answer
from app.errors import FieldError
from app.server.contract import Environ
from app.signature import Signature
from app.signature.batch import Decode, PredictRequest
from app.signature.field_errors import escaped, hinted, refuse, refused, shown
from app.wire import body, codecs
from app.wire.backend import Adapter, Backend
from app.wire.codecs import BodyLimits, Rows
from app.wire.openapi.contents import RequestBodyForm, prediction_document
from app.wire.openapi.schemas import ModelSchemas, Schema
from app.wire.stream import NdjsonStreaming

ENVELOPE = ("instances", "outputs")


class PredictionSchema(ma.Schema):
    """The response of `/predict`: outputs by name, each with one entry for each instance."""

    class Meta:
        """Options that allow more outputs, such as decision scores and the outputs of steps."""

        unknown = ma.INCLUDE

    prediction = ma.fields.List(ma.fields.Raw(), metadata={"description": "what the model predicts for each instance"})
    probabilities = ma.fields.List(
        ma.fields.List(ma.fields.Raw()), metadata={"description": "of each instance, in the order of `classes`"}
    )
    classes = ma.fields.List(ma.fields.Raw(), metadata={"description": "the labels of a classifier"})
    model = ma.fields.String(required=True)
    version = ma.fields.Integer(required=True)
    warnings = ma.fields.List(
        ma.fields.Dict(), metadata={"description": "values that are accepted but new to the model: `pointer`, `detail`"}
    )
    warnings_more = ma.fields.Integer(metadata={"description": "how many warnings are not listed"})


def envelope(model: ModelSchemas) -> Schema:
    """Return the schema of a record, `{"instances": [...]}` of records or rows, or a bare list of them."""
    return {
        model.joined: [
            {**model.record, "title": "one record"},
            {**model.many, "title": "instances"},
            {**model.instances, "title": "a list of instances"},
        ]
    }


REQUESTS: Mapping[str, RequestBodyForm] = dict.fromkeys(
    ("/predict", "/models/{model}/predict", "/models/{model}/versions/{version}/predict"),
    RequestBodyForm(envelope, ("record", "records", "rows")),
)


class PredictAdapter(Adapter):
    """Adapter of `/predict`: takes a record or instances in any media type."""

    def __init__(self, environ: Environ, limits: BodyLimits) -> None:
        super().__init__(environ, limits)
        self.media_type, self._writer = codecs.writer(environ.get("HTTP_ACCEPT"))

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """Return the request of a record, `{"instances": [...]}`, a bare list, or rows without an envelope."""
        raw = body.read(self._environ, self._limits.body_bytes)
        codec, parameters = codecs.reader(self._environ.get("CONTENT_TYPE"), raw)
        if codec is codecs.JSON and (decoded := decode(raw)) is not None:
            return decoded
        document = codec.decode(raw, codecs.Reading(signature, self._limits, parameters))
        if isinstance(document, Rows):
            return document.to_request()
        if isinstance(document, list):
            return PredictRequest(document)
        if not isinstance(document, dict):
            detail = 'must be an object (one record, or {"instances": [...]}) or a list of instances'
            raise refused("#", detail, document)
        instances = document.get("instances")
        # A model may have a feature named "instances", whose value is never a list.
        if "instances" not in document or ("instances" in signature.names and not isinstance(instances, list)):
            return PredictRequest([document], single=True)
        refuse(_envelope_errors(document, signature))
        return PredictRequest(document["instances"], "#/instances", outputs=document.get("outputs"))

    def encode(self, answer: Answer) -> bytes:
        """Return the outputs by name, the classes, and the model and version that answered."""
        return self._compressed(self._writer.write(answer, prediction_document))


def _envelope_errors(document: dict[str, Any], signature: Signature) -> Iterator[FieldError]:
    not_allowed = f"is not allowed beside instances; allowed: {', '.join(ENVELOPE)}"
    for key, value in document.items():
        if key not in ENVELOPE:
            yield FieldError(f"#/{escaped(key)}", not_allowed, shown(value))
    instances, outputs = document["instances"], document.get("outputs")
    if not isinstance(instances, list):
        detail = hinted("must be a list of records or rows", instances, signature)
        yield FieldError("#/instances", detail, shown(instances))
    if not isinstance(outputs, list | None):
        yield FieldError("#/outputs", "must be a list of output names", shown(outputs))


ERRORS_OF_PREDICT = {
    400: "the body is not what its Content-Type says",
    406: "Accept allows no type that is offered",
    415: "the Content-Type is not supported",
    422: "values that the model does not accept, each with a pointer",
}
URLS = {
    "predict": ("/predict", "Predict with the default model"),
    "predict_with_model": ("/models/<string:model>/predict", "Predict with the current version of a model"),
    "predict_with_version": (
        "/models/<string:model>/versions/<string:version>/predict",
        "Predict with one version of a model, by its number or an alias",
    ),
}


def blueprint(backend: Backend) -> Blueprint:
    """Return the prediction endpoints."""
    blp = Blueprint("predict", __name__, description="Predictions.")
    limits = backend.limits
    for name, (rule, summary) in URLS.items():
        backend.add_predictions(
            blp,
            name,
            [rule],
            summary,
            lambda context: PredictAdapter(context.environ, limits),
            streaming=NdjsonStreaming(limits),
            schema=PredictionSchema,
            description="one prediction for each instance",
            errors=ERRORS_OF_PREDICT,
        )
    return blp
