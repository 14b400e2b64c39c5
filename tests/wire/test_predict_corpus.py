"""Requests as files of bytes, each with its expected response.

`NAME.http` is the request as a client sends it. If it declares no length, the driver adds a Content-Length. `NAME.json`
has the expected status, header fields, and body. A valid request's body is complete; a problem's may have more members.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app.runtime.proving import same
from tests.wire.exchange import check, send

CORPUS = Path(__file__).parent / "corpus" / "predict"
VALID, INVALID = (sorted(path.stem for path in (CORPUS / kind).glob("*.http")) for kind in ("valid", "invalid"))


def test_every_request_has_an_expected_answer() -> None:
    for kind, names in (("valid", VALID), ("invalid", INVALID)):
        assert names
        assert sorted(path.stem for path in (CORPUS / kind).glob("*.json")) == names


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("name", VALID)
@pytest.mark.fault("I01", "I02", "I06", "I10", "I14")
def test_a_valid_request_gets_the_expected_answer(app: Flask, name: str) -> None:
    answer, expected = exchange(app, "valid", name)
    assert answer.status == expected["status"] == 200, answer.content
    check(answer)
    assert list(answer.document) == list(expected["body"])
    assert same(list(expected["body"].values()), list(answer.document.values())), answer.document
    assert [part.split(";")[0] for part in answer.headers["Server-Timing"].split(", ")] == [
        "parse",
        "validate",
        "queue",
        "run",
        "encode",
    ]


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("name", INVALID)
@pytest.mark.fault("I01", "I02", "I03", "I04", "I05", "I07", "I08", "I09", "I10", "I11", "I14", "I15", "B06", "X04")
def test_an_invalid_request_gets_the_expected_error(app: Flask, name: str) -> None:
    answer, expected = exchange(app, "invalid", name)
    assert answer.status == expected["status"], answer.content
    check(answer)
    assert as_far_as(expected["body"], answer.document) == expected["body"]
    for header, listed in expected.get("headers", {}).items():
        assert sorted(answer.headers[header].split(", ")) == listed.split(", ")


def exchange(app: Flask, kind: str, name: str) -> tuple[Any, Any]:
    expected = json.loads((CORPUS / kind / f"{name}.json").read_text("utf-8"))
    return send(app, (CORPUS / kind / f"{name}.http").read_bytes()), expected


def as_far_as(written: Any, got: Any) -> Any:
    """Return `got` without the members of objects that `written` does not have."""
    if isinstance(written, dict) and isinstance(got, dict):
        return {key: as_far_as(written[key], value) for key, value in got.items() if key in written}
    if isinstance(written, list) and isinstance(got, list) and len(written) == len(got):
        return [as_far_as(*pair) for pair in zip(written, got, strict=True)]
    return got
