"""Tests of forms of a value that only some media types have."""

from __future__ import annotations

import base64
import io
import json
from datetime import date
from typing import Any

import numpy as np
import pytest
from flask import Flask
from scipy import sparse

from tests.wire.codecs import bodies
from tests.wire.codecs.cases import FRAME, GRID, Record, frame
from tests.wire.codecs.conftest import sent
from tests.wire.exchange import post

DAY = date(2024, 1, 31)
NANOSECONDS = "2024-01-31T12:30:00.123456789"
M8 = np.datetime64(NANOSECONDS)
RAW = np.array(GRID["array"]).tobytes()
NPY = bodies.npy(np.array(GRID["array"], order="F"))


def npz_of(times: np.ndarray[Any, Any]) -> bodies.Body:
    """Return a record for the model `frame`, with this timestamp."""
    columns = {name: np.array([value]) for name, value in FRAME.items()}
    return "application/x-npz", bodies.npz(**columns | {"timestamp": times})


OTHER_FORMS: dict[str, tuple[str, list[Record], bodies.Body]] = {
    "raw bytes of an array in MessagePack": ("grid", [GRID], bodies.as_msgpack([GRID | {"array": RAW}])),
    "an npy file in MessagePack": ("grid", [GRID], bodies.as_msgpack([GRID | {"array": NPY}])),
    "raw bytes of an array in Parquet": ("grid", [GRID], bodies.as_parquet([GRID | {"array": RAW}])),
    "an npy file in Arrow": ("grid", [GRID], bodies.as_arrow([GRID | {"array": NPY}])),
    "base64 of an image in Parquet": ("grid", [GRID], bodies.as_parquet([GRID])),
    "base64 objects in a CSV": (
        "grid",
        [GRID],
        bodies.as_csv([GRID | {"array": {"b64": base64.b64encode(RAW).decode()}, "image": {"b64": GRID["image"]}}]),
    ),
    "days in Parquet": ("frame", [frame(timestamp="2024-01-31")], bodies.as_parquet([frame(timestamp=DAY)])),
    "days in Arrow": ("frame", [frame(timestamp="2024-01-31")], bodies.as_arrow([frame(timestamp=DAY)])),
    "nanoseconds in Arrow": ("frame", [frame(timestamp=NANOSECONDS)], bodies.as_arrow([frame(timestamp=M8)])),
    "nanoseconds in npz": ("frame", [frame(timestamp=NANOSECONDS)], npz_of(np.array([M8]))),
    **{
        f"datetime64[{unit}]": (
            "frame",
            [frame(timestamp="2024-01-01")],
            npz_of(np.array(["2024-01-01"], f"M8[{unit}]")),
        )
        for unit in ("Y", "M", "D", "h", "m", "s", "ns")
    },
    "structs of whole records": (
        "weather",
        [{"city": "Rome", "sun": 9.0}, {"city": "Oslo"}],
        bodies.as_parquet([{"record": {"city": "Rome", "sun": 9.0}}, {"record": {"city": "Oslo", "sun": None}}]),
    ),
    "an object inside whole records": (
        "weather",
        [{"city": "Rome", "at": {"sun": 9.0}}, {"city": "Rome", "at": {}}],
        bodies.as_arrow([{"city": "Rome", "at": {"sun": 9.0}}, {"city": "Rome", "at": {"sun": None}}]),
    ),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_of_the_same_values(service: Flask, form: str) -> None:
    model, records, body = OTHER_FORMS[form]
    answer, expected = sent(service, model, body), sent(service, model, bodies.as_json(records))
    assert answer.status == 200, answer.content
    assert answer.document == expected.document


@pytest.mark.parametrize("content", [RAW, NPY])
def test_an_array_may_be_a_file_of_a_form(service: Flask, content: bytes) -> None:
    image = base64.b64decode(GRID["image"])
    body = bodies.form([("array", content, "application/octet-stream"), ("image", image, "image/png")])
    answer = sent(service, "grid", body)
    assert answer.document == sent(service, "grid", ("application/json", json.dumps(GRID).encode())).document


def test_untyped_text_is_not_a_whole_record(service: Flask) -> None:
    """The type of 01 is unknown, so such a record is JSON in one cell or field."""
    for body, pointer in (
        (("text/csv; header=present", b"city,sun\r\nRome,9\r\n"), "#/instances"),
        (bodies.form([("city", b"Rome", None), ("sun", b"9", None)]), "#"),
    ):
        answer = sent(service, "weather", body)
        assert answer.status == 422
        (error,) = answer.document["errors"]
        assert error["pointer"] == pointer
        assert error["detail"].startswith("must have 'record' alone, an object in JSON")


def test_a_sparse_matrix_is_refused_with_a_reason(service: Flask) -> None:
    out = io.BytesIO()
    sparse.save_npz(out, sparse.csr_matrix(np.eye(3)))
    answer = sent(service, "grid", ("application/x-npz", out.getvalue()))
    assert answer.status == 422
    assert "one for each feature by its name, or a single 2-D array" in answer.document["errors"][0]["detail"]


B64 = {"array": {"b64": base64.b64encode(RAW).decode()}, "image": {"b64": GRID["image"]}}


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/v1/models/grid:predict", "predictions"),
        ("/endpoints/grid/invocations", "predictions"),
        ("/models/grid/predict", "prediction"),
    ],
)
def test_base64_objects_in_every_protocol(service: Flask, path: str, member: str) -> None:
    rows = [B64, list(B64.values())]
    answer = post(service, path, json.dumps({"instances": rows}))
    assert answer.status == 200, answer.content
    expected = sent(service, "grid", bodies.as_json([GRID, GRID])).document["prediction"]
    assert answer.document[member] == expected
