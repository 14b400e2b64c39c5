"""Bodies and responses of the operations, for each protocol and model.

The examples are true: predictions were recorded with the model, each example request succeeds, and errors come from the
model's own rules.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np
from werkzeug.http import HTTP_STATUS_CODES

from app.core.answer import Answer
from app.errors import (
    DeadlineExceeded,
    InvalidInstances,
    InvalidJson,
    ModelNotFound,
    ModelUnavailable,
    NotAcceptable,
    TooManyInstances,
    UnsupportedMediaType,
)
from app.gateway.errors import INTERNAL_ERROR, NOT_READY, ErrorFormat, Problem, problem_of
from app.signature import EXPLANATION, Input, Layout
from app.signature.field_errors import escaped, refused
from app.signature.kinds import KINDS, rule_of
from app.storage.manifest import Manifest
from app.wire.body import codings
from app.wire.codecs import CODECS, JSON_TYPE, NDJSON_TYPE
from app.wire.openapi.schemas import ANY, ModelSchemas, Schema

EXAMPLES_SHOWN = 3
FORM_TYPE = "multipart/form-data"
IN_JSON = ("array", "record")
"""Kinds that a form sends as JSON in one field."""
TEXT_TYPES = ("text/csv", NDJSON_TYPE)
BINARY: Schema = {"type": "string", "format": "binary"}
COMMON_MEMBERS = ("classes", "model", "version", "warnings", "warnings_more")
EXAMPLE_TIMEOUT_S = 30.0
EXAMPLE_REQUEST_ID = "4c1f5b0e9d3a4c7f8e21"
INVALID_VALUES: tuple[object, ...] = ("n/a", 5, [])
"""Values of which every kind of input refuses at least one."""
BUSY = "the server is at its capacity, and more requests of this client wait than of others; try again in a moment"


@dataclass(frozen=True, slots=True)
class RequestBodyForm:
    """The request body of a prediction path.

    `envelope` returns the JSON schema of the body for a model. `examples` names the examples that this schema allows.
    """

    envelope: Callable[[ModelSchemas], Schema]
    examples: Sequence[str] = ("records",)
    only_json: bool = False


def table_schema(media_type: str) -> Schema:
    """Return the schema of a body that is not JSON: text or bytes."""
    return {"type": "string"} if media_type in TEXT_TYPES else BINARY


def request_body(form: RequestBodyForm, model: ModelSchemas, manifest: Manifest | None) -> dict[str, Any]:
    """Return the request body in each media type, with the examples recorded in the manifest."""
    json = {"schema": form.envelope(model)} | ({} if manifest is None else _examples(manifest, form))
    others = {} if form.only_json else _tables(model, manifest)
    return {"required": True, "content": {JSON_TYPE: json, **others}}


def _examples(manifest: Manifest, form: RequestBodyForm) -> dict[str, Any]:
    signature = manifest.signature
    if not manifest.examples:
        return {}
    records = [example.instance for example in manifest.examples]
    whole = signature.layout is Layout.RECORDS
    rows = [[record] if whole else [record[name] for name in signature.names] for record in records]
    examples = {
        "record": {"summary": "one record", "value": records[0]},
        "records": {"summary": "many records", "value": {"instances": records[:EXAMPLES_SHOWN]}},
        "rows": {
            "summary": "many rows",
            "value": {"instances": rows[:EXAMPLES_SHOWN], "outputs": list(signature.defaults)},
        },
    }
    return {"examples": {name: examples[name] for name in form.examples}}


def _tables(model: ModelSchemas, manifest: Manifest | None) -> dict[str, Any]:
    """Return the request body in the other media types, with the recorded examples for text formats."""
    content: dict[str, Any] = {name: {"schema": table_schema(name)} for name in CODECS if name != JSON_TYPE}
    content[FORM_TYPE] = _form(model, manifest)
    records = [example.instance for example in manifest.examples[:EXAMPLES_SHOWN]] if manifest is not None else []
    names = list(records[0]) if records else []
    flat = not any(isinstance(value, list | dict) for record in records for value in record.values())
    if names and flat and all(record.keys() == set(names) for record in records):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([names, *([record[name] for name in names] for record in records)])
        content["text/csv"]["example"] = text.getvalue()
    if records:
        content[NDJSON_TYPE]["example"] = msgspec.json.Encoder().encode_lines(records).decode()
    return content


def _form(model: ModelSchemas, manifest: Manifest | None) -> dict[str, Any]:
    """Return the schema of a form with the fields of a record. An empty field stands for a missing value."""
    form: Schema = {"type": "object", "description": "a record's fields, empty where missing; or one file"}
    if manifest is None or model is ANY:
        return {"schema": form}
    whole = manifest.signature.layout is Layout.RECORDS
    record = manifest.examples[0].instance if manifest.examples else {}
    fields, encoding = {}, {}
    for spec in manifest.signature.inputs:
        value = record if whole else record.get(spec.name, spec.example)
        fields[spec.name] = _part(spec, model.fields.get(spec.name, {}), value)
        if spec.kind in IN_JSON:  # else a client would send each element in its own part
            encoding[spec.name] = {"contentType": JSON_TYPE}
    schema = {**form, "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"schema": schema, **({"encoding": encoding} if encoding else {})}


def _part(spec: Input, field: Schema, value: object) -> Schema:
    """Return the schema of one form field: a file for an image, JSON for an array or a whole record."""
    description = KINDS[spec.kind].describe(spec)
    described = {"description": description} if description else {}
    if spec.kind == "image":
        return {**BINARY, "description": f"the file, or {description}"}
    if spec.kind in IN_JSON:
        text = {} if not value else {"example": msgspec.json.encode(value).decode()}
        return {"type": "string", **described, **text}
    return {**_without_null(field), **described, **({} if value is None else {"example": value})}


def _without_null(field: Schema) -> Schema:
    """Return the schema of a field without null."""
    schema = dict(field)
    if isinstance(field.get("type"), list):
        schema["type"] = next(each for each in field["type"] if each != "null")
    if "enum" in field:
        schema["enum"] = [each for each in field["enum"] if each is not None]
    return schema


def prediction_content(schema: Schema, manifest: Manifest | None) -> dict[str, Any]:
    """Return the content of a 200 by media type: JSON of this schema, with the examples in the manifest."""
    content: dict[str, Any] = {
        name: {"schema": table_schema(name)} for name, codec in CODECS.items() if codec.writes and name != JSON_TYPE
    }
    json: dict[str, Any] = {"schema": schema}
    if manifest is not None and (one := _answer(manifest, 1)) and (many := _answer(manifest, EXAMPLES_SHOWN)):
        json["examples"] = {
            "record": {"summary": "to one record", "value": prediction_document(one)},
            "records": {"summary": "to many records", "value": prediction_document(many)},
        }
        for name in TEXT_TYPES:
            content[name]["example"] = CODECS[name].write(many, prediction_document).decode()
    return {JSON_TYPE: json, **content}


def _answer(manifest: Manifest, rows: int) -> Answer | None:
    """Return the answer to the first recorded examples; None if a default output is missing, ragged or null."""
    signature, examples = manifest.signature, manifest.examples[:rows]
    if not examples or any(name not in example.outputs for name in signature.defaults for example in examples):
        return None
    try:
        outputs = {name: np.array([example.outputs[name] for example in examples]) for name in signature.defaults}
    except ValueError:  # ragged lists: probabilities of targets that differ in their number of classes
        return None
    if any(array.dtype.kind not in "biufU" for array in outputs.values()):  # null
        return None
    return Answer(outputs, signature.classes, manifest.model, manifest.version)


def prediction_document(answer: Answer) -> dict[str, Any]:
    """Return the document of `/predict`: outputs by name, classes, model, version, and warnings."""
    classes = {} if answer.classes is None else {"classes": answer.classes}
    document = {**answer.values(), **classes, "model": answer.model, "version": answer.version}
    return document | answer.warnings.document() if answer.warnings.found else document


EXPLANATION_SCHEMA: Schema = {
    "type": "object",
    "description": "How much each input adds to an output: `base` and all `contributions` add up to it.",
    "required": ["output", "base", "contributions", "exact"],
    "properties": {
        "output": {"type": "string", "description": "the explained output"},
        "base": {"description": "the output on average: a number, or a number for each class"},
        "contributions": {
            "type": "object",
            "description": "by input: a number, or a number for each class",
            "additionalProperties": {},
        },
        "exact": {"type": "boolean", "description": "false if the contributions are estimated from samples"},
    },
}


def prediction_schema(prediction: Schema, manifest: Manifest) -> Schema:
    """Return the schema of one model's response. `prediction` describes the response of any model."""
    signature, known = manifest.signature, prediction["properties"]
    properties: dict[str, Any] = {}
    for name in signature.outputs:
        description = {} if name in signature.defaults else {"description": "only where `outputs` asks for it"}
        properties[name] = {"type": "array", **known.get(name, {}), **description, "items": _entry(name, manifest)}
    labels = list(signature.classes or ())
    own: dict[str, Schema] = {"model": {"example": manifest.model}, "version": {"example": manifest.version}}
    if signature.classes is not None:
        own["classes"] = {"items": _schema_of_values(labels), "example": labels}
    properties |= {
        name: {**known[name], **own.get(name, {})} for name in COMMON_MEMBERS if name != "classes" or name in own
    }
    return {**prediction, "properties": properties}


def _entry(name: str, manifest: Manifest) -> Schema:
    """Return the schema of one entry of an output, from the labels of a classifier or the recorded values."""
    signature = manifest.signature
    if name == EXPLANATION:
        return EXPLANATION_SCHEMA
    if name == "prediction" and signature.classes and not signature.multioutput and not manifest.after:
        return _schema_of_values(signature.classes)
    return _schema_of_values([example.outputs[name] for example in manifest.examples if name in example.outputs])


def _schema_of_values(values: Sequence[Any]) -> Schema:
    """Return a schema that fits these values. A float may be null, which stands for NaN."""
    types = set(map(type, values)) - {type(None)}
    for python_type, name in ((str, "string"), (bool, "boolean"), (int, "integer")):
        if types == {python_type}:
            return {"type": name}
    if types and types <= {int, float}:
        return {"type": ["number", "null"]}
    if types == {list}:
        return {
            "type": "array",
            "items": _schema_of_values([part for value in values if value is not None for part in value]),
        }
    return {}


def problems_for(manifest: Manifest | None, most_rows: int, known: Sequence[str]) -> dict[int, Problem]:
    """Return an example problem by status for this model. `known` lists the names of all models."""
    name = manifest.model if manifest is not None else "penguins"
    writable = [media_type for media_type, codec in CODECS.items() if codec.writes]
    errors = [
        InvalidJson("expecting ',' delimiter", 1, 21),
        ModelNotFound(f"{name}-2", known),
        NotAcceptable("text/html", writable),
        TooManyInstances(most_rows + 1, most_rows),
        UnsupportedMediaType("application/xml", list(CODECS)),
        ModelUnavailable(name, None, ""),
        DeadlineExceeded(EXAMPLE_TIMEOUT_S),
        *([] if manifest is None else [_example_error(manifest)]),
    ]
    busy = Problem(HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests", BUSY)
    return {int(problem.status): problem for problem in [*map(problem_of, errors), busy, INTERNAL_ERROR]}


_ONLY_JSON = UnsupportedMediaType("compress", [*codings(), "identity"], "Content-Encoding")
PROBLEMS_OF_METHOD = {"get": {503: NOT_READY}, "post": {415: problem_of(_ONLY_JSON)}}
"""Example problems by method and status of views that do not predict."""


def _example_error(manifest: Manifest) -> InvalidInstances:
    """Return the error of an invalid value for the first input of the first instance."""
    spec = manifest.signature.inputs[0]
    value, detail = next((value, detail) for value in INVALID_VALUES if (detail := rule_of(spec)(value)) is not None)
    return refused(f"#/instances/0/{escaped(spec.name)}", detail, value)


def with_errors(
    responses: dict[str, Any], errors: ErrorFormat, reference: Schema, problems: Mapping[int, Problem]
) -> dict[str, Any]:
    """Return the responses of an operation by status, with the content of each error.

    `reference` is the schema of errors. The response `default` is for errors of a server in front of the application.
    """

    def content(status: int) -> dict[str, Any]:
        name = HTTP_STATUS_CODES[status].lower().replace(" ", "-")
        example = msgspec.json.decode(errors.form(problems.get(status) or Problem(status, name, ""))[0])
        if "request_id" in example:
            example["request_id"] = EXAMPLE_REQUEST_ID
        return {errors.media_type: {"schema": reference, "example": example}}

    documented = {
        status: {"content": content(int(status)), **response} if status.isdigit() and status >= "400" else response
        for status, response in sorted(responses.items())
        if status != "default"
    }
    documented["default"] = {"description": "any other error", "content": content(HTTPStatus.INTERNAL_SERVER_ERROR)}
    return documented
