"""Tests of traces of a server: one span for each request, exported by OTLP to a collector on this machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import joblib
import pytest

from app.packing.spawn import PackRequest
from app.packing.write import pack
from tests.end_to_end.collector import Collector, collecting
from tests.end_to_end.halves import Halves
from tests.end_to_end.process import Server, free_port, serving
from tests.end_to_end.test_behind_proxy import logged

STAGES = {"parse", "validate", "queue", "run", "encode"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
BODY = '{"feature1": 5.1, "feature2": 3.5}'
MANY = json.dumps([[5.1, 3.5]] * 2000)
AT_ONCE = 64
ONE_LINE = "traces are not exported"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def server(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = collector.settings | {"RETORT_BODY_LIMIT_BYTES": 1_000_000}
    with serving(tmp_path_factory.mktemp("traces"), **settings) as started:
        yield started


def new_id() -> str:
    return uuid.uuid4().hex


def headers(request_id: str, **more: str) -> dict[str, str]:
    return {"X-Request-ID": request_id, "Content-Type": "application/json", **more}


@pytest.mark.parametrize(("body", "rows"), [(BODY, 1), (MANY, 2000)], ids=["inline", "threaded"])
def test_a_prediction_is_a_span_with_a_child_for_each_stage(
    server: Server, collector: Collector, body: str, rows: int
) -> None:
    asked, began_ns = new_id(), time.time_ns()
    path = "/models/iris-two/predict"
    assert server.ask("POST", path, body, headers(asked, traceparent=TRACEPARENT, tracestate="a=b")).status == 200
    ended_ns = time.time_ns()
    span = collector.request(asked)
    assert (span.name, span.trace_id, span.parent_id) == ("POST /models/{model}/predict", TRACE, PARENT)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/models/{model}/predict",
        "retort.model": "iris-two",
        "retort.request_id": asked,
        "retort.rows": rows,
        "retort.version": 1,
        "url.path": path,
        "url.scheme": "http",
    }
    assert span.resource["service.name"] == "retort"
    stages = collector.children(span)
    assert stages.keys() == STAGES
    in_order = [stages[name] for name in ("queue", "parse", "validate", "run", "encode")]
    times = [time_ns for stage in in_order for time_ns in (stage.began_ns, stage.ended_ns)]
    slack_ns = 1_000_000  # the two clocks are read one after the other
    assert all(later >= earlier - slack_ns for earlier, later in itertools.pairwise(times))
    for each in (span, *in_order):
        assert began_ns - slack_ns <= each.began_ns <= each.ended_ns <= ended_ns + slack_ns
    assert logged(server, asked)["status"] == 200


def test_a_stream_is_one_span_with_its_rows(server: Server, collector: Collector) -> None:
    asked = new_id()
    lines = "".join(f"[5.1, {number % 7}]\n" for number in range(1500))
    sent = {"X-Request-ID": asked, "Content-Type": "application/x-ndjson"}
    answer = server.ask("POST", "/models/iris-two/predict", lines, sent)
    assert answer.content.count(b"\n") == 1500
    span = collector.request(asked)
    assert span.attributes["retort.rows"] == 1500
    assert collector.children(span).keys() == {"queue", "run"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "route"),
    [
        ("GET", "/livez", None, 200, "/livez"),
        ("GET", "/models/iris-two", None, 200, "/models/{model}"),
        ("GET", "/nowhere", None, 404, None),
        ("POST", "/models/iris-two/predict", '{"feature1": "x"}', 422, "/models/{model}/predict"),
        ("BREW", "/livez", None, 405, None),
    ],
)
def test_every_request_without_a_prediction_is_a_span_too(
    server: Server, collector: Collector, method: str, path: str, body: str | None, status: int, route: str | None
) -> None:
    asked = new_id()
    assert server.ask(method, path, body, headers(asked)).status == status
    span = collector.request(asked)
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("http.route") == route
    assert span.attributes["http.request.method"] == ("_OTHER" if method == "BREW" else method)
    assert not span.failed, "an error of the client is none of the server"


@pytest.mark.own_worker("the application refuses it there")
def test_a_refusal_of_the_worker_is_a_span(server: Server, collector: Collector) -> None:
    asked = new_id()
    sent = headers(asked, traceparent=TRACEPARENT)
    assert server.ask("POST", "/models/iris-two/predict", b"x" * 1_000_001, sent).status == 413
    span = collector.request(asked)
    assert span.attributes["retort.outcome"] == "body-too-large"
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)


@pytest.mark.own_worker("it shares no runs")
def test_requests_that_share_a_run_have_a_link_to_it(server: Server, collector: Collector) -> None:
    ids = [new_id() for _ in range(AT_ONCE)]
    at_once(server, ids)
    spans = [collector.request(each) for each in ids]
    assert len({span.trace_id for span in spans}) == AT_ONCE
    linked = [span for span in spans if span.links]
    assert len(linked) > AT_ONCE / 2
    runs = {run.id: run for run in collector.spans if run.name == "shared run"}
    for span in linked:
        [run] = span.links
        assert span.id in runs[run].links
        assert runs[run].attributes["retort.model"] == "iris-two"
    assert sum(len(run.links) for run in runs.values()) == sum(bool(span.links) for span in spans)


def at_once(server: Server, ids: list[str]) -> None:
    """Send a request for each id while the worker is stopped, so that it finds all of them at once."""
    connections = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in ids]
    try:
        for connection in connections:  # all are accepted
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        [worker] = server.workers
        os.kill(worker, signal.SIGSTOP)
        for connection, asked in zip(connections, ids, strict=True):
            head = f"POST /models/iris-two/predict HTTP/1.1\r\nHost: a\r\nX-Request-ID: {asked}\r\n"
            connection.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode())
        os.kill(worker, signal.SIGCONT)
        for connection in connections:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    finally:
        for connection in connections:
            connection.close()


STEPS = """
import os

import aiohttp
import httpx
from opentelemetry import trace

from app import step

URL = os.environ["SERVICE_URL"]


@step("await", needs={"customer": int}, provides=("feature1",))
async def look_up(instances, session: aiohttp.ClientSession):
    with trace.get_tracer("mine").start_as_current_span("look up"):
        async with session.get(URL) as answer:
            await answer.read()
    return [{**each, "feature1": 1.0} for each in instances]


@step("wait", needs={"customer": int}, provides=("feature1",))
def look_up_waiting(instances, client: httpx.Client):
    client.get(URL)
    return [{**each, "feature1": 1.0} for each in instances]
"""


@pytest.mark.any_worker
def test_requests_of_steps_belong_to_the_trace(collector: Collector, tmp_path: Path) -> None:
    (tmp_path / "traced_steps.py").write_text(STEPS, "utf-8")
    joblib.dump(Halves(), tmp_path / "halves.joblib")
    models = str(tmp_path / "models")
    for name in ("await", "wait"):
        pack(PackRequest(str(tmp_path / "halves.joblib"), name, models, before=(name,), graph_limit_bytes=0))
    with recording() as (url, sent):
        settings = {"RETORT_STEPS": "traced_steps", "PYTHONPATH": tmp_path, "SERVICE_URL": url}
        with serving(tmp_path, RETORT_MODELS_DIR=models, **settings, **collector.settings) as server:
            for name in ("await", "wait"):
                asked = new_id()
                body = '{"customer": 7, "feature2": 1.0}'
                answer = server.ask("POST", f"/models/{name}/predict", body, headers(asked, traceparent=TRACEPARENT))
                assert answer.status == 200, answer
                span = collector.request(asked)
                below = collector.children(span)
                assert below.keys() - {"look up"} == {*STAGES, "prepare", "finish"}
                parent = below.get("look up", span)
                assert sent.pop() == f"00-{TRACE}-{parent.id}-01"
            assert "look up" in {each.name for each in collector.spans}


@contextlib.contextmanager
def recording() -> Iterator[tuple[str, list[str | None]]]:
    """Run a service, and return its URL and the `traceparent` of each request to it."""
    sent: list[str | None] = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers["traceparent"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", sent
        finally:
            listening.shutdown()
            thread.join()


@pytest.mark.any_worker
def test_the_sampler_decides_and_the_last_spans_are_exported_at_the_end(collector: Collector, tmp_path: Path) -> None:
    left_out, kept = new_id(), new_id()
    settings = {"OTEL_TRACES_SAMPLER": "parentbased_always_off", "OTEL_SERVICE_NAME": "flowers"}
    with serving(tmp_path, **collector.settings | settings | {"OTEL_BSP_SCHEDULE_DELAY": 60_000}) as server:
        for sent in (headers(left_out), headers(kept, traceparent=TRACEPARENT)):
            assert server.ask("POST", "/models/iris-two/predict", BODY, sent).status == 200
        assert collector.servers(kept) == []
        assert server.stop() == 0
    assert collector.request(kept).resource["service.name"] == "flowers"
    assert collector.servers(left_out) == []


@pytest.mark.any_worker
def test_a_dead_collector_costs_one_line_and_no_request(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": 64, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 16}
    with serving(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=nobody, OTEL_BSP_SCHEDULE_DELAY=20, **small) as server:
        until_s = time.monotonic() + 30
        while ONE_LINE not in server.output:
            assert time.monotonic() < until_s
            assert server.ask("POST", "/models/iris-two/predict", BODY).status == 200
        for _ in range(100):  # several times as many spans as may wait
            assert server.ask("POST", "/models/iris-two/predict", BODY).status == 200
        assert server.stop() == 0
        lines = [line for line in server.output.splitlines() if '"retort.access"' not in line]
        assert sum(ONE_LINE in line for line in lines) == 1
        assert not [line for line in lines if "xport" in line and ONE_LINE not in line]
