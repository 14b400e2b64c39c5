"""Answers of the operations: predictions with a model's own outputs, and errors with a true example of each.

The examples of predictions come from the recorded examples of a model, those of errors from its own rules.
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
from app.gateway.errors import ErrorFormat, Problem, problem_of
from app.signature.kinds import rule_of
from app.signature.pointers import escaped, shown
from app.storage.manifest import Manifest
from app.wire.codecs import CODECS, JSON_TYPE
from app.wire.coding import codings
from app.wire.openapi.requests import SHOWN, TEXT_TYPES, table_schema
from app.wire.openapi.schemas import Schema

ALWAYS = ("classes", "model", "version", "warnings", "warnings_more")
"""Members of every answer, beside the outputs."""
LIMIT_S = 30.0
"""The limit of a request's time in the example: the default of the setting."""
AN_ID = "4c1f5b0e9d3a4c7f8e21"
"""The request id in the examples."""
WRONG: tuple[object, ...] = ("n/a", 5, [])
"""Every kind of input refuses one of these values."""
BUSY = "the server is at its capacity, and more requests of this client wait than of others; try again in a moment"
UNREADY = "not every model is available, or the server is about to stop; GET /readyz says which"
FAILED = "the server failed on this request; its log has the cause under the request id"


def prediction_content(schema: Schema, manifest: Manifest | None) -> dict[str, Any]:
    """The content of a 200 in each media type; `schema` is that of the JSON, the examples are the manifest's."""
    content: dict[str, Any] = {
        name: {"schema": table_schema(name)} for name, codec in CODECS.items() if codec.writes and name != JSON_TYPE
    }
    json: dict[str, Any] = {"schema": schema}
    if manifest is not None and (one := _answer(manifest, 1)) and (many := _answer(manifest, SHOWN)):
        json["examples"] = {
            "record": {"summary": "to one record", "value": _document(one)},
            "records": {"summary": "to many records", "value": _document(many)},
        }
        for name in TEXT_TYPES:
            content[name]["example"] = CODECS[name].write(many, _document).decode()
    return {JSON_TYPE: json, **content}


def _answer(manifest: Manifest, rows: int) -> Answer | None:
    """The answer to the first recorded examples; None where some of their outputs were not recorded."""
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


def prediction_schema(prediction: Schema, manifest: Manifest) -> Schema:
    """The answer of one model: `prediction` describes the answer of any model."""
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
    """The schema of an output's value for one instance: a label, or like the recorded values; any after a step."""
    signature = manifest.signature
    if name == "prediction" and signature.classes and not signature.multioutput and not manifest.after:
        return _like(signature.classes)
    return _like([example.outputs[name] for example in manifest.examples if name in example.outputs])


def _like(values: Sequence[object]) -> Schema:
    """The schema of values like these; a computed number may be null, which stands for NaN."""
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


def problems_for(manifest: Manifest | None, most_rows: int, known: Sequence[str]) -> dict[int, Problem]:
    """An example of a problem for each status, of requests for this model; `known` are the names of the models."""
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
    return {int(problem.status): problem for problem in [*map(problem_of, errors), *server]}


_UNREADY = {503: Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unready", UNREADY)}
_ONLY_JSON = {415: problem_of(UnsupportedMediaType("compress", [*codings(), "identity"], "Content-Encoding"))}
_OF_KIND: Mapping[str, Mapping[int, Problem]] = {"get": _UNREADY, "post": _ONLY_JSON, "predict": {}}


def _wrong(manifest: Manifest) -> InvalidInstances:
    """The error of a wrong value for the first input of the first instance."""
    spec = manifest.signature.inputs[0]
    value, detail = next((value, detail) for value in WRONG if (detail := rule_of(spec)(value)) is not None)
    return InvalidInstances([FieldError(f"#/instances/0/{escaped(spec.name)}", detail, shown(value))], 1)


def with_errors(
    responses: dict[str, Any], errors: ErrorFormat, reference: Schema, problems: Mapping[int, Problem], kind: str
) -> dict[str, Any]:
    """The responses of an operation by status, with the content of each error; `reference` names its schema.

    `kind` is "get", "post" or "predict": some statuses have another cause in each. `default` stands for errors of a
    server in front of the application.
    """
    others = _OF_KIND[kind]

    def content(status: int) -> dict[str, Any]:
        name = HTTP_STATUS_CODES[status].lower().replace(" ", "-")
        problem = others.get(status) or problems.get(status) or Problem(status, name, "")
        example = msgspec.json.decode(errors.form(problem)[0])
        if "request_id" in example:
            example["request_id"] = AN_ID
        return {errors.media_type: {"schema": reference, "example": example}}

    told = {
        status: {"content": content(int(status)), **response} if status.isdigit() and status >= "400" else response
        for status, response in sorted(responses.items())
        if status != "default"
    }
    told["default"] = {"description": "any other error", "content": content(HTTPStatus.INTERNAL_SERVER_ERROR)}
    return told
