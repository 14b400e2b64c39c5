"""Retort's own protocol: `POST /predict` and its longer forms, a record or `instances` in, predictions by name out.

To add another protocol, copy this file: its URLs, its envelope (`parse`), its answer (`encode`); errors are those of
`app.wire.problems` unless the protocol has a form of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import marshmallow as ma
from flask import Response, request
from flask_smorest import Blueprint

from app.core.answer import Answer
from app.core.catalogue import Catalogue
from app.core.service import Asked, Decode, PredictService
from app.errors import FieldError, InvalidInstances
from app.settings import Settings
from app.signature import Signature
from app.signature.pointers import escaped, shown
from app.signature.refusals import refuse
from app.telemetry import Timings
from app.wire import body, codecs, coding, stream
from app.wire.application import FAILED, Environ, Headers, WholeResponse, timings_of
from app.wire.codecs import Limits, Rows
from app.wire.openapi.requests import RequestBodyForm
from app.wire.openapi.schemas import ModelSchemas, Schema

ENVELOPE = ("instances", "outputs")


class PredictionSchema(ma.Schema):
    """What `/predict` answers: each output, by its name, has one entry for each instance."""

    class Meta:
        """Models have other outputs too: decision scores, what their steps made."""

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
    warnings_more = ma.fields.Integer(metadata={"description": "how many more warnings there are than are listed"})


def envelope(model: ModelSchemas) -> Schema:
    """A record, `{"instances": [...]}` of records or rows, or a bare list of them."""
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


class PredictExchange:
    """One request of this protocol and its answer."""

    def __init__(self, environ: Environ, limits: Limits) -> None:
        self._environ = environ
        self._limits = limits
        self._coded: Headers = []
        self.media_type, self._writer = codecs.writer(environ.get("HTTP_ACCEPT"))

    def parse(self, signature: Signature, decode: Decode) -> Asked:
        """A record, `{"instances": [...]}` of records or rows, or a bare list of them; or rows without an envelope."""
        raw = body.read(self._environ, self._limits.body_bytes)
        codec, parameters = codecs.reader(self._environ.get("CONTENT_TYPE"), raw)
        if codec is codecs.JSON and (decoded := decode(raw)) is not None:
            return Asked.decoded(decoded)
        document = codec.decode(raw, codecs.Reading(signature, self._limits, parameters))
        if isinstance(document, Rows):
            return document.asked()
        if isinstance(document, list):
            return Asked(document)
        if not isinstance(document, dict):
            detail = 'must be an object (one record, or {"instances": [...]}) or a list of instances'
            raise InvalidInstances([FieldError("#", detail, shown(document))], 1)
        named = document.get("instances")
        # A model may have a feature of that name, which is never a list.
        if "instances" not in document or ("instances" in signature.names and not isinstance(named, list)):
            return Asked([document], single=True)
        return self._envelope(document)

    @staticmethod
    def _envelope(document: dict[str, Any]) -> Asked:
        refuse(_amiss(document))
        return Asked(document["instances"], "#/instances", outputs=document.get("outputs"))

    def encode(self, answer: Answer) -> bytes:
        """The outputs by name, the classes where there are any, and who answered; compressed where that is wanted."""
        content = self._writer.write(answer, _document)
        wanted = self._environ.get("HTTP_ACCEPT_ENCODING")
        if wanted is not None and (len(content) >= coding.WORTH_BYTES or "q=0" in wanted):
            content, self._coded = coding.compressed(content, wanted)
        return content

    def headers(self, timings: Timings) -> Headers:
        """The headers of the answer."""
        return [("Content-Type", self.media_type), ("Server-Timing", timings.header()), *self._coded]


def _amiss(document: dict[str, Any]) -> Iterator[FieldError]:
    """What is wrong with an envelope."""
    told = f"is not allowed beside instances; allowed: {', '.join(ENVELOPE)}"
    for key, value in document.items():
        if key not in ENVELOPE:
            yield FieldError(f"#/{escaped(key)}", told, shown(value))
    instances, outputs = document["instances"], document.get("outputs")
    if not isinstance(instances, list):
        yield FieldError("#/instances", "must be a list of records or rows", shown(instances))
    if not isinstance(outputs, list | None):
        yield FieldError("#/outputs", "must be a list of output names", shown(outputs))


def _document(answer: Answer) -> dict[str, Any]:
    classes = {} if answer.classes is None else {"classes": answer.classes}
    document = {**answer.values(), **classes, "model": answer.model, "version": answer.version}
    return document | answer.warnings.document() if answer.warnings.found else document


class Predictor:
    """Answers requests of this protocol: with Flask around it in a view, without it on the straight way."""

    def __init__(self, service: PredictService, settings: Settings) -> None:
        self._service = service
        self._limits = Limits(settings.body_limit_bytes, settings.max_instances)

    def __call__(self, environ: Environ, model: str | None, version: str | None = None) -> tuple[bytes, Headers]:
        """The body and headers of the answer to the request in a WSGI environ; raises what `PredictService` raises."""
        if FAILED in environ:
            raise environ.pop(FAILED)
        timings = timings_of(environ)
        exchange = PredictExchange(environ, self._limits)
        content = self._service.predict(model, version, exchange, timings)
        return content, exchange.headers(timings)

    def attempt(self, environ: Environ, model: str | None) -> tuple[bytes, Headers]:
        """As a call, for who comes back with a call if this raises; what is `FINAL` is then in the environ."""
        timings = timings_of(environ)
        exchange = PredictExchange(environ, self._limits)
        content = self._service.attempt(model, exchange, timings)
        return content, exchange.headers(timings)

    def together(self, environs: Sequence[Environ], model: str | None) -> list[tuple[bytes, Headers] | None]:
        """The answers to several requests for one model, which may share runs; None for those to be answered alone."""
        requests = [(PredictExchange(environ, self._limits), timings_of(environ)) for environ in environs]
        answers = self._service.predict_together(model, requests)
        return [
            None if content is None else (content, exchange.headers(timings))
            for content, (exchange, timings) in zip(answers, requests, strict=True)
        ]


ERRORS_OF_PREDICT = {
    400: "the body is not what its Content-Type says",
    404: "there is no such model or version",
    406: "Accept allows no type that is offered",
    413: "the body is too long or has too many instances",
    415: "the Content-Type is not supported",
    422: "values that the model does not accept, each with a pointer",
    429: "the server is busy, and more requests of this client wait than of others",
    503: "the model is not available, or the server is busy",
    504: "the request's time ran out",
}


def _documented(blp: Blueprint, view: Any) -> Any:
    """The view, with what OpenAPI says of it."""
    described = blp.response(200, PredictionSchema, description="one prediction for each instance")(view)
    for status, when in ERRORS_OF_PREDICT.items():
        described = blp.alt_response(status, description=when)(described)
    # The views return responses: they take the description, and not the calls around them, which cost more than the
    # model does.
    view._apidoc = described._apidoc
    return view


def blueprint(service: PredictService, catalogue: Catalogue, settings: Settings) -> Blueprint:
    """The prediction endpoints."""
    blp = Blueprint("predict", __name__, description="Predictions.")

    documented = functools.partial(_documented, blp)
    predictor = Predictor(service, settings)
    limits = Limits(settings.body_limit_bytes, settings.max_instances)

    def answer(model: str | None, version: str | None) -> Response:
        if stream.is_wanted(request.environ):
            return stream.answer(service.series(model, version), request.environ, limits)
        return WholeResponse(*predictor(request.environ, model, version))

    @blp.post("/predict")
    @documented
    def predict() -> Response:
        """Predict with the default model"""
        return answer(None, None)

    @blp.post("/models/<string:model>/predict")
    @documented
    def predict_with_model(model: str) -> Response:
        """Predict with the current version of a model"""
        return answer(model, None)

    @blp.post("/models/<string:model>/versions/<string:version>/predict")
    @documented
    def predict_with_version(model: str, version: str) -> Response:
        """Predict with one version of a model, by its number or an alias"""
        return answer(model, version)

    return blp
