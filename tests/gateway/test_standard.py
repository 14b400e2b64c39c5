"""Common header fields and metrics see every request."""

from __future__ import annotations

from typing import Any

import pytest

from app.gateway import RequestContext, Response
from app.gateway.standard import CommonHeaders, RequestMetrics
from app.server.contract import Refusal
from app.telemetry import Timings
from tests.gateway.fakes import Client, FakeRoute, FakeRouter, environ, gateway, streaming


class FakeMetrics:
    def __init__(self) -> None:
        self.predictions: list[tuple[Any, ...]] = []
        self.responses: list[tuple[int, str]] = []

    def responded(self, status: int, outcome: str) -> None:
        self.responses.append((status, outcome))

    def predicted(self, *prediction: Any) -> None:
        self.predictions.append(prediction[:4])


def predicting(context: RequestContext) -> Response:
    context.model, context.version, context.rows, context.timings = "penguins", 3, 2, Timings()
    return Response(200, [], b"ok")


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


@pytest.mark.parametrize("path", ["/predict", "/other"])
def test_every_answer_has_the_id_and_forbids_type_sniffing(path: str) -> None:
    client = Client(gateway(CommonHeaders()).serve(hello), environ(path, HTTP_X_REQUEST_ID="abc"))
    assert client.headers["X-Request-ID"] == "abc"
    assert client.headers["X-Content-Type-Options"] == "nosniff"


def test_predictions_and_other_responses_are_counted() -> None:
    metrics = FakeMetrics()
    served = gateway(RequestMetrics(metrics), router=FakeRouter(FakeRoute(predicting)))  # type: ignore[arg-type]
    served.serve(hello)
    for path in ("/predict", "/other"):
        Client(served, environ(path)).body()
    served.refuse({}, None, Refusal(503, "queue-full", "too many"))
    assert metrics.predictions == [("penguins", 3, "ok", 2)]
    assert metrics.responses == [(200, "ok"), (200, "ok"), (503, "queue-full")]


def test_a_stream_is_counted_at_its_end_once() -> None:
    metrics = FakeMetrics()
    route = FakeRouter(FakeRoute(streaming))
    served = gateway(RequestMetrics(metrics), router=route)  # type: ignore[arg-type]
    client = Client(served.serve(hello), environ())
    assert metrics.predictions == []
    assert client.body() == b"rowrowrow"
    assert metrics.predictions == [("penguins", 3, "ok", 3)]
    assert metrics.responses == [(200, "ok")]
