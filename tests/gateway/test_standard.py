"""Common header fields, metrics and the access log see every request."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from app.gateway import RequestContext, Response
from app.gateway.standard import AccessLog, CommonHeaders, PredictionMetrics
from app.server.contract import Refusal
from app.telemetry import JsonLines, Timings
from tests.gateway.fakes import Client, FakeRoute, FakeRouter, environ, gateway

LOG = "retort.access"


class FakeMetrics:
    def __init__(self) -> None:
        self.predictions: list[tuple[Any, ...]] = []

    def predicted(self, *prediction: Any) -> None:
        self.predictions.append(prediction[:4])


def predicting(context: RequestContext) -> Response:
    context.model, context.version, context.rows, context.timings = "penguins", 3, 2, Timings()
    return Response(200, [], b"ok")


def streaming(context: RequestContext) -> Response:
    def parts() -> Iterator[bytes]:
        for _ in range(3):
            context.rows += 1
            yield b"row"

    context.model, context.version, context.timings = "penguins", 3, Timings()
    return Response(200, [], parts())


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


@pytest.mark.parametrize("path", ["/predict", "/other"])
def test_every_answer_has_the_id_and_forbids_type_sniffing(path: str) -> None:
    client = Client(gateway(CommonHeaders()).serve(hello), environ(path, HTTP_X_REQUEST_ID="abc"))
    assert client.headers["X-Request-ID"] == "abc"
    assert client.headers["X-Content-Type-Options"] == "nosniff"


def test_predictions_are_counted_and_other_requests_are_not() -> None:
    metrics = FakeMetrics()
    served = gateway(PredictionMetrics(metrics), router=FakeRouter(FakeRoute(predicting)))  # type: ignore[arg-type]
    served.serve(hello)
    for path in ("/predict", "/other"):
        Client(served, environ(path)).body()
    assert metrics.predictions == [("penguins", 3, "ok", 2)]


def test_a_stream_is_counted_and_logged_at_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    metrics = FakeMetrics()
    route = FakeRouter(FakeRoute(streaming))
    served = gateway(AccessLog(), PredictionMetrics(metrics), router=route)  # type: ignore[arg-type]
    client = Client(served.serve(hello), environ())
    assert (metrics.predictions, caplog.records) == ([], [])
    assert client.body() == b"rowrowrow"
    assert metrics.predictions == [("penguins", 3, "ok", 3)]
    assert [record.event.rows for record in caplog.records] == [3]  # type: ignore[attr-defined]


def test_a_log_line_has_the_facts_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    served = gateway(AccessLog(), router=FakeRouter(FakeRoute(predicting))).serve(hello)
    Client(served, environ(HTTP_X_REQUEST_ID="abc")).body()
    [record] = caplog.records
    line = json.loads(JsonLines().format(record))
    told = {name: line[name] for name in ("request_id", "client", "method", "path", "status", "model", "rows")}
    assert told == {
        "request_id": "abc",
        "client": "192.0.2.1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "model": "penguins",
        "rows": 2,
    }
    assert record.getMessage().startswith("POST /predict 200 ")


def test_refusals_of_the_server_and_requests_through_wsgi_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    served = gateway(AccessLog()).serve(hello)
    served.refuse({}, None, Refusal(431, "header-too-large", "too large"))
    Client(served, environ("/other", "GET")).body()
    assert [record.event.status for record in caplog.records] == [431, 200]  # type: ignore[attr-defined]


def test_no_log_line_is_made_while_the_log_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOG)
    Client(gateway(AccessLog()).serve(hello), environ()).body()
    assert caplog.records == []
