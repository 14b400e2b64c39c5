"""Requests of the Open Inference Protocol as files of bytes, each with its expected response.

As for `/predict` (`test_predict_corpus`): `NAME.json` has the response's status and body, complete for a valid request.
Outputs in binary data are there as `binary`, the list of their elements.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

from app.runtime.proving import same
from app.wire.open_inference.tensors import DTYPES
from tests.wire.exchange import FROM_INSIDE, Answer, send

CORPUS = Path(__file__).parent / "corpus" / "open_inference"
VALID, INVALID = (sorted(path.stem for path in (CORPUS / kind).glob("*.http")) for kind in ("valid", "invalid"))
HEADER_LENGTH = "Inference-Header-Content-Length"


def test_every_request_has_an_expected_answer() -> None:
    for kind, names in (("valid", VALID), ("invalid", INVALID)):
        assert names
        assert sorted(path.stem for path in (CORPUS / kind).glob("*.json")) == names


@pytest.mark.parametrize("name", VALID)
def test_a_valid_request_gets_the_expected_answer(app: Flask, name: str) -> None:
    answer, expected = exchange(app, "valid", name)
    assert answer.status == expected["status"] == 200, answer.content
    for header, value in expected.get("headers", {}).items():
        assert answer.headers.get(header) == value
    assert same(pairs(expected["body"]), pairs(document_of(answer))), document_of(answer)


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_request_gets_the_expected_error(app: Flask, name: str) -> None:
    answer, expected = exchange(app, "invalid", name)
    assert answer.status == expected["status"], answer.content
    assert list(answer.document) == ["error"]
    said, wanted = answer.document["error"], expected["body"]["error"]
    if answer.status == 405:  # the methods that are allowed have no order
        said, wanted = (sorted(re.split(r"[ ,]+", sentence)) for sentence in (said, wanted))
    if wanted[-1] == "…":  # the rest depends on which models there are
        said, wanted = said[: len(wanted) - 1], wanted[:-1]
    assert said == wanted
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-ID"]
    assert not FROM_INSIDE.search(answer.content.decode("utf-8"))


def exchange(app: Flask, kind: str, name: str) -> tuple[Answer, Any]:
    expected = json.loads((CORPUS / kind / f"{name}.json").read_text("utf-8"))
    return send(app, (CORPUS / kind / f"{name}.http").read_bytes()), expected


def document_of(answer: Answer) -> Any:
    """Return the JSON of a response, with its binary data as lists, after checking the lengths."""
    opened = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}
    content = opened[answer.headers.get("Content-Encoding")](answer.content)
    if HEADER_LENGTH not in answer.headers:
        assert answer.headers["Content-Type"] == "application/json"
        return json.loads(content)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    length = int(answer.headers[HEADER_LENGTH])
    document, raw = json.loads(content[:length]), content[length:]
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            output["binary"], raw = elements(output["datatype"], raw[:size]), raw[size:]
    assert raw == b""
    return document


def elements(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        listed: list[Any] = np.frombuffer(raw, DTYPES[datatype]).tolist()
        return listed
    found = []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + length].decode("utf-8"))
        raw = raw[4 + length :]
    return found


def pairs(document: Any) -> Any:
    """Return objects as lists of pairs, which `same` compares with the tolerance of the service."""
    if isinstance(document, dict):
        return [[key, pairs(value)] for key, value in document.items()]
    return [pairs(value) for value in document] if isinstance(document, list) else document
