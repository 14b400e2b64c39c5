"""Spans of requests: every request has one, however it is answered."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator, Sequence
from http import HTTPMethod
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from app.gateway import RequestContext, Response
from app.gateway.context import Match
from app.gateway.gateway import Gateway
from app.gateway.spans import FROM_ENVIRON, RequestSpans
from app.gateway.standard import tracing
from app.server.contract import Environ, Refusal
from app.settings import Settings
from app.telemetry import Timings, current_request, scope_of
from app.telemetry import traces as traces_module
from app.telemetry.traces import Traces
from tests.gateway.fakes import Client, FakeRoute, FakeRouter, environ, gateway

REFUSAL = Refusal(503, "queue-full", "the server is busy")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Kept(SpanExporter):
    """Keep the exported spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


class Traced:
    """Interceptor and exporter, and a gateway with them."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.traces = Traces(lambda: self.kept)
        self.interceptor = RequestSpans(self.traces)

    def gateway(self, router: FakeRouter | None = None) -> Gateway:
        return gateway(self.interceptor, router=router).serve(streamed)

    def spans(self) -> list[ReadableSpan]:
        """End the export, and return all spans."""
        self.traces.close()
        return self.kept.spans

    def servers(self) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.kind is trace.SpanKind.SERVER]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    # The provider of the process can be set only once: these tests leave it as it is.
    monkeypatch.setattr(traces_module.trace, "set_tracer_provider", lambda provider: None)
    made = Traced()
    yield made
    made.traces.close()


def streamed(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    return iter([b"a", b"b"])


def predicting(context: RequestContext) -> Response:
    context.model, context.version, context.rows, context.timings = "penguins", 3, 2, Timings()
    for stage in ("parse", "validate", "run", "encode"):
        context.timings.ended(stage)
    return Response(200, [], b"ok")


class PatternRouter(FakeRouter):
    """Match every path as one pattern."""

    def match(self, environ: Environ) -> Match:
        return Match(self.route, pattern="/models/{model}")


def test_requests_that_share_a_run_are_linked_to_one_span(traced: Traced) -> None:
    served = traced.gateway(FakeRouter(FakeRoute(predicting)))
    contexts = [served.admit(environ()) for _ in range(3)]
    served.respond(contexts)
    servers, [run] = traced.servers(), [span for span in traced.kept.spans if span.name == "shared run"]
    assert len(servers) == 3
    assert {span.links[0].context.span_id for span in servers} == {run.context.span_id}
    assert {link.context.span_id for link in run.links} == {span.context.span_id for span in servers}
    assert run.attributes == {"retort.model": "penguins", "retort.version": 3, "retort.requests": 3}
    assert {context.trace_id for context in contexts} == {f"{span.context.trace_id:032x}" for span in servers}


def test_requests_of_several_threads_that_share_a_run_are_linked_too(traced: Traced) -> None:
    """Requests of an artifact are joined like this: after their spans began."""
    served = traced.gateway()
    contexts = [served.admit(environ()) for _ in range(2)]
    for context in contexts:
        traced.interceptor.before(context)
    scope_of(contexts)
    for context in contexts:
        traced.interceptor.after(context, predicting(context))
    servers = traced.servers()
    [run] = [span for span in traced.kept.spans if span.name == "shared run"]
    assert [span.links[0].context.span_id for span in servers] == [run.context.span_id] * 2
    assert len(run.links) == 2


def test_a_refusal_of_the_server_is_one_failed_span(traced: Traced) -> None:
    served = traced.gateway()
    served.refuse(environ(HTTP_TRACEPARENT=TRACEPARENT), None, REFUSAL)
    [span] = traced.servers()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == span.attributes["retort.outcome"] == "queue-full"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


def test_a_request_that_is_refused_while_it_runs_has_one_span(traced: Traced) -> None:
    served = traced.gateway()
    context = served.admit(environ())

    def late(context: RequestContext) -> Response:
        served.refuse(context.environ, context, REFUSAL)
        return Response(200, [], b"late")

    served._router.route.answer = late  # type: ignore[attr-defined]
    served.respond([context])
    [span] = traced.servers()
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 503


def test_a_request_through_wsgi_ends_with_its_last_part(traced: Traced) -> None:
    client = Client(traced.gateway(), environ("/other"))
    assert traced.kept.spans == []
    client.body()
    assert len(traced.servers()) == 1


def test_the_span_is_the_current_one_while_the_request_runs_and_not_after_it(traced: Traced) -> None:
    seen = []

    def looking(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(trace.get_current_span().get_span_context().span_id)
        assert current_request.get().span_identity.span_id == seen[-1]
        start_response("200 OK", [])
        return [b"ok"]

    served = traced.gateway().serve(looking)
    thread = threading.Thread(target=lambda: Client(served, environ("/other")).body())
    thread.start()
    thread.join()
    Client(served, environ("/other", HTTP_X_REQUEST_ID="second")).body()
    assert not trace.get_current_span().get_span_context().is_valid
    assert seen == [span.context.span_id for span in traced.servers()]


@pytest.mark.parametrize("sent", ["", "00-zz-1-01", f"{TRACEPARENT},{TRACEPARENT}", "x" * 10_000, "\xff"])
def test_a_field_that_names_no_trace_begins_one(traced: Traced, sent: str) -> None:
    traced.gateway().refuse(environ(HTTP_TRACEPARENT=sent), None, REFUSAL)
    [span] = traced.servers()
    assert span.parent is None


def test_hostile_methods_and_paths_are_bounded_text(traced: Traced) -> None:
    served = traced.gateway()
    served.refuse({"REQUEST_METHOD": "X" * 5000, "PATH_INFO": "/\xff\xc3\xa9" + "x" * 5000}, None, REFUSAL)
    [span] = traced.servers()
    assert span.name == "HTTP"
    assert span.attributes is not None
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["url.scheme"] == "http"
    assert str(span.attributes["url.path"]).startswith("/\ufffdéxxx")
    assert len(str(span.attributes["url.path"])) < 1100


def test_a_span_has_the_pattern_of_its_route_as_its_name(traced: Traced) -> None:
    served = traced.gateway(PatternRouter())
    served.respond([served.admit(environ("/models/a", "GET"))])
    [span] = traced.servers()
    assert span.name == "GET /models/{model}"


@pytest.mark.parametrize("method", [*HTTPMethod, "QUERY"])
def test_every_method_of_http_stands_in_its_span(traced: Traced, method: str) -> None:
    traced.gateway().refuse(environ(method=str(method)), None, REFUSAL)
    [span] = traced.servers()
    assert span.name == method
    assert span.attributes is not None
    assert span.attributes["http.request.method"] == method


def test_propagators_find_the_names_of_fields() -> None:
    """The propagator of Jaeger looks for fields with a common prefix."""
    sent = environ(HTTP_UBERCTX_USER_ID="7")
    assert FROM_ENVIRON.keys(sent) == ["host", "uberctx-user-id"]
    assert [FROM_ENVIRON.get(sent, name) for name in ("uberctx-user-id", "uber-trace-id")] == [["7"], None]


def test_ids_do_not_repeat_where_a_model_seeds_the_generator(traced: Traced) -> None:
    state = random.getstate()
    served = traced.gateway()
    for _ in range(2):
        random.seed(0)
        served.refuse(environ(), None, REFUSAL)
    random.setstate(state)
    first, second = traced.servers()
    assert first.context.trace_id != second.context.trace_id


@pytest.mark.parametrize(
    ("settings", "is_on"),
    [
        (Settings(), False),
        (Settings(otel_exporter_otlp_endpoint="http://a"), True),
        (Settings(otel_exporter_otlp_traces_endpoint="http://a"), True),
        (Settings(otel_exporter_otlp_endpoint="http://a", otel_sdk_disabled="True"), False),
        (Settings(otel_exporter_otlp_endpoint="http://a", otel_traces_exporter="none"), False),
    ],
)
def test_traces_are_on_if_there_is_an_endpoint(settings: Settings, is_on: bool) -> None:
    assert len(tracing(settings)) == is_on


def test_without_the_extra_the_log_names_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "app.gateway.spans", None)
    monkeypatch.delitem(sys.modules, "app.gateway.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert tracing(Settings(otel_exporter_otlp_endpoint="http://a")) == []
    assert "pip install opentelemetry-sdk" in caplog.text


def test_without_an_exporter_only_traces_are_missing(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    def wrong() -> SpanExporter:
        raise ValueError("Invalid compression type")

    traced.traces = Traces(wrong)
    served = gateway(RequestSpans(traced.traces), router=FakeRouter(FakeRoute(predicting)))
    served.start()
    [response] = served.respond([served.admit(environ())]) or []
    assert response.status == 200
    assert "there are no traces" in caplog.text
    assert "Invalid compression type" in caplog.text


def test_an_exporter_that_raises_is_logged_once(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    def failing(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise OSError("no room")

    traced.kept.export = failing  # type: ignore[method-assign]
    told = traces_module._LoggedOnce(traced.kept)
    assert [told.export([]) for _ in range(3)] == [SpanExportResult.FAILURE] * 3
    assert caplog.text.count("traces are not exported") == 1
    del traced.kept.export  # type: ignore[method-assign]
    caplog.set_level("INFO")
    assert told.export([]) is SpanExportResult.SUCCESS
    assert "traces are exported again" in caplog.text
    told.shutdown()
