"""The corpora of other servers' protocols: requests as files of bytes, each with its expected response.

As in `test_predict_corpus.py`: `NAME.json` holds the status, required header fields, the media type if it is not JSON,
and the body. A valid request's body is complete; an error's may have further members.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask import Flask

from app.runtime.proving import same
from tests.wire.exchange import FROM_INSIDE, JSON, Answer, send

CORPUS = Path(__file__).parent / "corpus"


def names(protocol: str, kind: str) -> list[str]:
    """Return the names of the requests of a kind, valid or invalid. Each has an expected response."""
    folder = CORPUS / protocol / kind
    found = sorted(path.stem for path in folder.glob("*.http"))
    assert found
    assert found == sorted(path.stem for path in folder.glob("*.json"))
    return found


def exchange(app: Flask, protocol: str, kind: str, name: str) -> tuple[Answer, Any]:
    """Return the response and the expected one, after comparing status and header fields."""
    folder = CORPUS / protocol / kind
    expected = json.loads((folder / f"{name}.json").read_text("utf-8"))
    answer = send(app, (folder / f"{name}.http").read_bytes())
    assert answer.status == expected["status"], answer.content
    assert (answer.status == 200) is (kind == "valid")
    assert answer.headers["Content-Type"] == expected.get("content_type", JSON)
    assert answer.headers["X-Request-ID"]
    for header, value in expected.get("headers", {}).items():
        assert sorted(answer.headers[header].split(", ")) == sorted(value.split(", "))
    return answer, expected


def check_valid(app: Flask, protocol: str, name: str) -> None:
    """Check that the response to a valid request is the expected one."""
    answer, expected = exchange(app, protocol, "valid", name)
    got = answer.document if "content_type" not in expected else answer.content.decode("latin-1")
    assert same(in_lists(expected["body"]), in_lists(got)), answer.content


def check_invalid(app: Flask, protocol: str, name: str) -> Answer:
    """Check that the error is the expected one, and reveals nothing internal."""
    answer, expected = exchange(app, protocol, "invalid", name)
    assert not FROM_INSIDE.search(answer.content.decode("utf-8"))
    written = expected["body"]
    assert {key: answer.document[key] for key in written} == written
    return answer


def in_lists(document: Any) -> Any:
    """Return objects as lists of pairs, which `same` compares with the tolerance of the service."""
    if isinstance(document, dict):
        return [[key, in_lists(value)] for key, value in document.items()]
    return [in_lists(value) for value in document] if isinstance(document, list) else document
