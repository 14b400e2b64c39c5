"""An OTLP collector on this machine: it keeps the spans that servers export over HTTP."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SERVER, INTERNAL = 2, 1
"""`SpanKind` in OTLP."""
EXPORTED_WITHIN_S = 15.0


@dataclass(frozen=True)
class ExportedSpan:
    """One span, with its ids in hexadecimal digits, and the attributes of its process in `resource`."""

    name: str
    kind: int
    trace_id: str
    id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    failed: bool
    attributes: dict[str, Any]
    links: tuple[str, ...]
    resource: dict[str, Any]


@dataclass
class Collector:
    """The spans that were exported to `endpoint`."""

    endpoint: str
    spans: list[ExportedSpan] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, object]:
        """Variables of a server that exports to it, with little delay."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": 50}

    def until(self, done: Callable[[], bool]) -> None:
        """Wait until the exported spans satisfy a condition."""
        until_s = time.monotonic() + EXPORTED_WITHIN_S
        while not done():
            assert time.monotonic() < until_s, [(span.name, span.attributes) for span in self.spans]
            time.sleep(0.02)

    def servers(self, request_id: str) -> list[ExportedSpan]:
        """Return the server spans of a request so far."""
        return [span for span in self.spans if span.attributes.get("retort.request_id") == request_id]

    def request(self, request_id: str) -> ExportedSpan:
        """Wait for the server span of a request, which must be the only one."""
        self.until(lambda: bool(self.servers(request_id)))
        [span] = self.servers(request_id)
        assert span.kind == SERVER
        return span

    def children(self, parent: ExportedSpan) -> dict[str, ExportedSpan]:
        """Return the spans below a span by name. They are exported with it or before it."""
        return {span.name: span for span in self.spans if span.parent_id == parent.id}

    def receive(self, content: bytes) -> None:
        """Keep the spans of an exporter's request."""
        for from_process in ExportTraceServiceRequest.FromString(content).resource_spans:
            resource = _values(from_process.resource.attributes)
            for scope in from_process.scope_spans:
                self.spans += [_exported(span, resource) for span in scope.spans]


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            collector.receive(gzip.decompress(content) if self.headers["Content-Encoding"] == "gzip" else content)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as listening:
        listening.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            listening.shutdown()
            thread.join()


def _exported(span: Any, resource: dict[str, Any]) -> ExportedSpan:
    return ExportedSpan(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        _values(span.attributes),
        tuple(link.span_id.hex() for link in span.links),
        resource,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
