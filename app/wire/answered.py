"""What `/openapi.json` says of answers: of a model's its own outputs and a true one, of each error its own words.

The examples are true: they are what the recorded examples of a model, and its own rules, give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np
from werkzeug.http import HTTP_STATUS_CODES

from app.core.answer import Answer
from app.errors import (
    DeadlineExceeded,
    FieldError,
    InvalidInstances,
    InvalidJson,
    ModelNotFound,
    ModelUnavailable,
    NotAcceptable,
    RetortError,
    TooManyInstances,
    UnsupportedMediaType,
)
from app.gateway.errors import ErrorFormat as Errors
from app.gateway.errors import Problem
from app.gateway.errors import problem_of as of_error
from app.signature.kinds import rule_of
from app.signature.pointers import escaped, shown
from app.storage.manifest import Manifest
from app.wire.codecs import CODECS, JSON_TYPE, NDJSON_TYPE
from app.wire.coding import codings
from app.wire.described import SHOWN, Schema

ALWAYS = ("classes", "model", "version", "warnings", "warnings_more")
"""What is beside the outputs of an answer."""
LIMIT_S = 30.0
"""Stands for the server's limit of a request's time: its default."""
AN_ID = "4c1f5b0e9d3a4c7f8e21"
"""Stands for the id that each request has of its own."""
WRONG: tuple[object, ...] = ("n/a", 5, [])
"""Values of which every kind of input refuses one."""
BUSY = "the server is at its capacity, and more requests of this client wait than of others; try again in a moment"
UNREADY = "not every model is available, or the server is about to stop; GET /readyz says which"
FAILED = "the server failed on this request; its log has the cause under the request id"


def answers_of(prediction: Schema, manifest: Manifest | None, own: bool = True) -> dict[str, Any]:
    """The content of a 200 in each media type, with examples; `prediction` is the schema of any model's answer.

    Of an operation that is not the manifest's `own`, the schema is that of any model.
    """
    content: dict[str, Any] = {
        name: {
            "schema": {"type": "string"}
            if name in ("text/csv", NDJSON_TYPE)
            else {"type": "string", "format": "binary"}
        }
        for name, codec in CODECS.items()
        if codec.writes and name != JSON_TYPE
    }
    json = {"schema": _schema(prediction, manifest) if manifest is not None and own else prediction}
    if manifest is not None and (one := _answer(manifest, 1)) and (many := _answer(manifest, SHOWN)):
        json["examples"] = {
            "record": {"summary": "to one record", "value": _document(one)},
            "records": {"summary": "to many records", "value": _document(many)},
        }
        for name in ("text/csv", NDJSON_TYPE):
            content[name]["example"] = CODECS[name].write(many, _document).decode()
    return {JSON_TYPE: json, **content}


def _answer(manifest: Manifest, rows: int) -> Answer | None:
    """The answer to the first recorded examples; None where not all of it was recorded."""
    signature, examples = manifest.signature, manifest.examples[:rows]
    if not examples or any(name not in example.outputs for name in signature.defaults for example in examples):
        return None
    outputs = {name: np.array([example.outputs[name] for example in examples]) for name in signature.defaults}
    if any(array.dtype.kind not in "biufU" for array in outputs.values()):  # a null, or lists of several lengths
        return None
    return Answer(outputs, signature.classes, manifest.model, manifest.version)


def _document(answer: Answer) -> dict[str, Any]:
    classes = {} if answer.classes is None else {"classes": list(answer.classes)}
    return {**answer.values(), **classes, "model": answer.model, "version": answer.version}


def _schema(prediction: Schema, manifest: Manifest) -> Schema:
    """The answer of one model: its outputs, and what is beside them."""
    signature, known = manifest.signature, prediction["properties"]
    absent = () if signature.classes is not None else ("classes",)
    properties: dict[str, Any] = {}
    for name in signature.outputs:
        told = {} if name in signature.defaults else {"description": "only where `outputs` asks for it"}
        properties[name] = {"type": "array", **known.get(name, {}), **told, "items": _entry(name, manifest)}
    properties |= {name: known[name] for name in ALWAYS if name not in absent}
    if signature.classes is not None:
        labels = list(signature.classes)
        properties["classes"] = {**known["classes"], "items": _like(labels), "example": labels}
    properties["model"] = {**known["model"], "example": manifest.model}
    properties["version"] = {**known["version"], "example": manifest.version}
    return {**prediction, "properties": properties}


def _entry(name: str, manifest: Manifest) -> Schema:
    """What an output has for one instance: a label, or what was recorded; what a step may have made can be anything."""
    signature = manifest.signature
    if name == "prediction" and signature.classes and not signature.multioutput and not manifest.after:
        return _like(signature.classes)
    return _like([example.outputs[name] for example in manifest.examples if name in example.outputs])


def _like(values: Sequence[object]) -> Schema:
    """The schema of values such as these; a number that is computed may be null, which stands for NaN."""
    types = set(map(type, values)) - {type(None)}
    if types == {str}:
        return {"type": "string"}
    if types == {bool}:
        return {"type": "boolean"}
    if types == {int}:
        return {"type": "integer"}
    if types and types <= {int, float}:
        return {"type": ["number", "null"]}
    if types == {list}:
        return {
            "type": "array",
            "items": _like([part for value in values if isinstance(value, list) for part in value]),
        }
    return {}


def errors_of(manifest: Manifest | None, most_rows: int, known: Sequence[str]) -> dict[int, Problem]:
    """A problem for each status: of a request for this model, on a server that has these."""
    name = manifest.model if manifest is not None else "penguins"
    offered = [media_type for media_type, codec in CODECS.items() if codec.writes]
    errors: list[RetortError] = [
        InvalidJson("expecting ',' delimiter", 1, 21),
        ModelNotFound(f"{name}-2", known),
        NotAcceptable("text/html", offered),
        TooManyInstances(most_rows + 1, most_rows),
        UnsupportedMediaType("application/xml", list(CODECS)),
        ModelUnavailable(name, None, ""),
        DeadlineExceeded(LIMIT_S),
    ]
    if manifest is not None:
        errors.append(_wrong(manifest))
    server = [
        Problem(HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests", BUSY),
        Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", FAILED),
    ]
    return {int(problem.status): problem for problem in [*map(of_error, errors), *server]}


_UNREADY = {503: Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unready", UNREADY)}
_ONLY_JSON = {415: of_error(UnsupportedMediaType("compress", [*codings(), "identity"], "Content-Encoding"))}
_OF_KIND: Mapping[str, Mapping[int, Problem]] = {"get": _UNREADY, "post": _ONLY_JSON, "predict": {}}


def _wrong(manifest: Manifest) -> InvalidInstances:
    """What is said of the first input that is wrong in the first instance."""
    spec = manifest.signature.inputs[0]
    value, detail = next((value, detail) for value in WRONG if (detail := rule_of(spec)(value)) is not None)
    return InvalidInstances([FieldError(f"#/instances/0/{escaped(spec.name)}", detail, shown(value))], 1)


def responses_of(
    responses: dict[str, Any], errors: Errors, reference: str, problems: Mapping[int, Problem], kind: str
) -> dict[str, Any]:
    """The answers of an operation by status, each error in the form that it has there, whose schema is referred to.

    The operation is of a kind, "get", "post" or "predict"; some statuses mean another thing to each.
    `default` stands for those of the server in front of it.
    """
    others = _OF_KIND[kind]

    def content(status: int) -> dict[str, Any]:
        name = HTTP_STATUS_CODES[status].lower().replace(" ", "-")
        problem = others.get(status) or problems.get(status) or Problem(status, name, "")
        example = msgspec.json.decode(errors.form(problem)[0])
        if "request_id" in example:
            example["request_id"] = AN_ID
        return {errors.media_type: {"schema": {"$ref": reference}, "example": example}}

    told = {
        status: {"content": content(int(status)), **response} if status.isdigit() and status >= "400" else response
        for status, response in sorted(responses.items())
        if status != "default"
    }
    told["default"] = {"description": "any other error", "content": content(HTTPStatus.INTERNAL_SERVER_ERROR)}
    return told
