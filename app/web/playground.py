"""The playground: a form for one record of a model, and its answer for browsers without JavaScript.

`static/site/form.js` builds the same record in the browser. Both send text that they cannot parse unchanged, because
the server describes the error better.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes, urlencode

from flask import current_app, request
from werkzeug.wrappers import Response as Answer

from app.web.answers import answer_view, recorded_answer
from app.web.cards import curl, headline, label, says
from app.web.fields import (
    MANY_INPUTS,
    RECORD,
    Field,
    FormValues,
    as_record,
    example_record,
    field_for,
    fields,
    is_whole,
    own_key,
)

NOT_PASSED_ON: Final = (
    "HTTP_ACCEPT",
    "HTTP_ACCEPT_ENCODING",
    "HTTP_CONTENT_ENCODING",
    "HTTP_X_REQUEST_ID",
    "HTTP_EXPECT",
)
PASSED_ON: Final = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE")
PRESETS: Final = 8
ABSENT: Final = object()
"""The value of an empty field that is not nullable. The record omits it, so that the server refuses the record."""


def playground(
    model: Mapping[str, Any],
    version: str | None,
    root_url: str,
    form: FormValues | None = None,
    answer: Mapping[str, Any] | None = None,
    status: int = 200,
) -> dict[str, Any]:
    """Return the values of a model's playground, for the `version` in the URL or the current version.

    `answer` is the answer to `form`, if the form was sent. In the result, `described` is JSON for the script,
    `page_path` is relative to the application's root, and `presets` has a query and a label for each recorded example.
    """
    form_fields = fields(model, form, answer)
    record = shown_record(model, form_fields) if form else example_record(model)
    page_path = f"models/{quote(model['name'], safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")
    return {
        "model": model,
        "fields": form_fields,
        "dense": len(model["inputs"]) > MANY_INPUTS and not is_whole(model),
        "presets": _presets(model),
        "described": _described(model),
        "page_path": page_path,
        "curl": curl(f"{root_url}{page_path}/predict", record),
        "missing": own_key(model, "missing"),
        "example_key": own_key(model, "example"),
        "answer": answer or (None if form else recorded_answer(model)),
        "steps": [name for names in (model.get("steps") or {}).values() for name in names],
        "says": says(model),
        "status": status,
    }


def _presets(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a query and a label for each recorded example; empty if there is only one."""
    examples = (model.get("examples") or ())[:PRESETS]
    key = own_key(model, "example")
    presets = [
        (urlencode({key: number}), headline(model, each["prediction"]) if "prediction" in each else label(number))
        for number, each in enumerate(examples, start=1)
    ]
    return presets if len(presets) > 1 else []


def _described(model: Mapping[str, Any]) -> str:
    """Return the facts of a model that the script needs, as JSON."""
    kept = ("name", "kind", "nullable", "minimum", "maximum", "shape")
    return json.dumps(
        {
            "task": model.get("task"),
            "says": says(model),
            "made_up": bool(model.get("examples_made_up")),
            "inputs": [{key: each[key] for key in kept if key in each} for each in model["inputs"]],
            "outputs": model.get("outputs", []),
            "whole": is_whole(model),
            "predicted": (model.get("profile") or {}).get("prediction"),
            "examples": [
                {**each, "instance": as_record(model, each["instance"])} for each in (model.get("examples") or ())
            ][:PRESETS],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def answered(model: Mapping[str, Any], version: str | None, root_url: str) -> dict[str, Any]:
    """Return the playground with the answer of the prediction API to the posted form."""
    files = {name: content for name, file in request.files.items() if (content := file.read())}
    record = record_of(model, request.form, files)
    form = request.form.copy()
    for name in files:
        if isinstance(record, dict) and name in record:
            form[name] = record[name]  # the page shows the image, and sends it again
    empty_playground = playground(model, version, root_url)
    response = ask(f"{empty_playground['page_path']}/predict", json.dumps(record).encode())
    try:
        document = json.loads(response.get_data())
    except ValueError:
        document = {"detail": f"the server answered with status {response.status_code}"}
    view = answer_view(model, response.status_code, document)
    return playground(model, version, root_url, form, view, response.status_code)


def ask(path: str, body: bytes) -> Answer:
    """Send a body to a path of this application with the headers of the current request."""
    environ: dict[str, Any] = {
        key: value
        for key, value in request.environ.items()
        if (key.startswith("HTTP_") and key not in NOT_PASSED_ON) or key.startswith("wsgi.") or key in PASSED_ON
    }
    environ |= {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": request.environ.get("SCRIPT_NAME", ""),
        "PATH_INFO": unquote_to_bytes(f"/{path}").decode("latin-1"),
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    return Answer.from_app(current_app.wsgi_app, environ, buffered=True)


def record_of(model: Mapping[str, Any], form: FormValues, files: Mapping[str, bytes]) -> object:
    """Return the record of a form. `files` are the chosen images by the name of the input."""
    absent = set(form.getlist(own_key(model, "missing")))
    if is_whole(model):
        return _json_or_text(str(form.get(RECORD["name"]) or ""))
    record: dict[str, Any] = {}
    for number, described in enumerate(model["inputs"]):
        name = described["name"]
        field = field_for(described, f"f{number}", None)
        if name in files:
            record[name] = base64.b64encode(files[name]).decode()
        elif name in absent:
            record[name] = None
        elif name in form and (value := _value(field, described, str(form.get(name)))) is not ABSENT:
            record[name] = value
    return record


def shown_record(model: Mapping[str, Any], shown: Sequence[Field]) -> object:
    """Return the record of the fields."""
    if is_whole(model):
        return _json_or_text(shown[0].text)
    record: dict[str, Any] = {}
    for field, described in zip(shown, model["inputs"], strict=True):
        value = None if field.missing else _value(field, described, field.text)
        if value is not ABSENT:
            record[field.name] = value
    return record


def _value(field: Field, described: Mapping[str, Any], text: str) -> object:
    text = text.replace("\r\n", "\n")
    if field.control == "text":
        return text
    if text.strip() == "":
        return None if field.nullable else ABSENT
    if field.control == "json":
        return _array(text, described.get("shape"))
    if field.typed or described["kind"] in ("number", "integer", "boolean", "unused"):
        return _json_or_text(text)
    return text


def _array(text: str, shape: Sequence[int] | None) -> object:
    """Return JSON, or the numbers of a table: nested by the shape if their count fits it, else in one list."""
    value = _json_or_text(text)
    if isinstance(value, list | dict) or shape is None:
        return value
    cells: list[Any] = [_json_or_text(cell) for cell in re.split(r"[\s,;]+", text.strip()) if cell]
    if len(cells) != math.prod(shape):
        return cells
    for width in reversed(shape[1:]):
        cells = [cells[at : at + width] for at in range(0, len(cells), width)]
    return cells


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text
