"""Tests that the server's own refusals have the format of the path's protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.wire.application import Application
from tests.server.reference import statuses_in
from tests.server.stage import staged
from tests.wire.exchange import JSON, PROBLEM

ERROR, MLFLOW, DOCUMENT = ["error"], ["error_code", "message"], ["type", "title", "status", "detail", "request_id"]
FORMS = {
    "/v2/models/iris-two/infer": (JSON, ERROR),
    "/v2": (JSON, ERROR),
    "/v1/models/iris-two:predict": (JSON, ERROR),
    "/invocations": (JSON, MLFLOW),
    "/endpoints/iris-two/invocations": (JSON, MLFLOW),
    "/predict": (PROBLEM, DOCUMENT),
    "/models/iris-two/predict": (PROBLEM, DOCUMENT),
    "/v1/endpoints/1/deployedModels/2:predict": (PROBLEM, DOCUMENT),
    "/v2nd": (PROBLEM, DOCUMENT),
}
NOT_QUICK = "Content-Encoding: identity\r\n"
REFUSED = {
    400: "Transfer-Encoding: chunked\r\n\r\nno length\r\n",
    413: "Content-Length: 1001\r\n\r\n",
    431: "X: " + "a" * 5000,
    503: f"{NOT_QUICK}Content-Length: 2\r\n\r\n{{}}",
    504: f"{NOT_QUICK}X-Request-Timeout: 0ms\r\nContent-Length: 2\r\n\r\n{{}}",
}


def refusal(app: Application, path: str, status: int) -> tuple[str, Any]:
    """Return the media type and the document of a refusal with this status."""
    with staged(
        app.gateway.serve(app), body_bytes=1000, head_bytes=4096, queue_max_wait_s=0.0 if status == 503 else 60.0
    ) as stage:
        stage.dispatcher.threads.queue.places = 0  # requests that reach it wait
        with stage.connect() as client:
            stage.say(client, f"POST {path} HTTP/1.1\r\nHost: a\r\n{REFUSED[status]}".encode())
            stage.turn()
            received = client.recv(10_000)
    assert statuses_in(received) == [status]
    head, _, body = received.partition(b"\r\n\r\n")
    headers = dict(field.split(": ", 1) for field in head.decode().split("\r\n")[1:])
    assert headers["X-Request-ID"]
    assert ("Retry-After" in headers) is (status == 503)
    return headers["Content-Type"], json.loads(body)


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize("path", FORMS)
def test_a_refusal_has_the_format_of_the_protocol(app: Application, path: str, status: int) -> None:
    media_type, members = FORMS[path]
    found_type, document = refusal(app, path, status)
    assert found_type == media_type
    assert list(document) == members
    assert all(document.values())


@pytest.mark.parametrize(
    ("status", "code"), [(413, "BAD_REQUEST"), (503, "TEMPORARILY_UNAVAILABLE"), (504, "DEADLINE_EXCEEDED")]
)
def test_a_refusal_has_mlflows_error_code(app: Application, status: int, code: str) -> None:
    _, document = refusal(app, "/invocations", status)
    assert document["error_code"] == code
