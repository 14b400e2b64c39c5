"""The interceptor that makes spans of requests (OpenTelemetry).

Needs the extra `otel`, and is imported only if traces are on.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from opentelemetry import context as span_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode

from app.gateway.context import RequestContext
from app.gateway.interceptors import Interceptor
from app.server.contract import Environ, Response
from app.telemetry import RequestScope
from app.telemetry.traces import Traces

METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))
OTHER_METHOD = "_OTHER"
MAX_PATH_CHARS = 1024
NO_PARENT = Context()
SHARED_RUN = "shared run"


@dataclass(slots=True)
class RequestSpan:
    """The span of one request. While it is the current span of a thread: that thread, and the context before it."""

    span: Span
    context: SpanContext
    before: Context | None = None
    thread_id: int = 0


class RequestSpans(Interceptor):
    """Interceptor that makes a server span for each request, with a child for each stage of a prediction.

    This span is the current one while its request runs. So the spans of steps, and the requests that steps send,
    belong to the same trace. Each of the requests that share a run has a link to the one span of that run.
    """

    may_block = False

    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._propagator = propagate.get_global_textmap()
        self._fields = [_variable(field) for field in self._propagator.fields]

    def start(self) -> None:
        """Start the export."""
        self._traces.start()

    def close(self) -> None:
        """Export the last spans."""
        self._traces.close()

    def before(self, context: RequestContext) -> Response | None:
        """Begin the span."""
        begun, parent = self._begin(context)
        if context.batch_key is None:  # a request that may share a run has no steps, which would need a current span
            begun.before, begun.thread_id = span_context.get_current(), threading.get_ident()
            span_context.attach(trace.set_span_in_context(begun.span, parent))
        return None

    def after(self, context: RequestContext, response: Response) -> None:
        """End the span, for a stream when the stream ends. Begin it first if the server has refused the request."""
        begun = context.span if isinstance(context.span, RequestSpan) else self._begin(context)[0]
        if begun.before is not None and begun.thread_id == threading.get_ident():
            span_context.attach(begun.before)
            begun.before = None
        if isinstance(response.body, bytes):
            self._end(context, begun, response.status)
        else:
            context.at_end(lambda: self._end(context, begun, context.status))

    def _begin(self, context: RequestContext) -> tuple[RequestSpan, Context]:
        environ = context.environ
        parent = NO_PARENT
        if any(field in environ for field in self._fields):
            parent = self._propagator.extract(environ, NO_PARENT, FROM_ENVIRON)
        method = environ.get("REQUEST_METHOD", "")
        method = method if method in METHODS else OTHER_METHOD
        attributes = {
            "http.request.method": method,
            "url.scheme": environ.get("wsgi.url_scheme", "http"),
            "url.path": _path(environ),
            "retort.request_id": context.id,
        }
        name = "HTTP" if method is OTHER_METHOD else method
        if context.pattern:
            attributes["http.route"] = context.pattern
            name = f"{name} {context.pattern}"
        began_ns = time.time_ns() - time.monotonic_ns() + int(context.began_s * 1e9)
        span = self._traces.tracer.start_span(name, parent, SpanKind.SERVER, attributes, start_time=began_ns)
        begun = RequestSpan(span, span.get_span_context())
        context.span, context.span_identity = begun, begun.context
        context.trace_id = trace.format_trace_id(begun.context.trace_id)
        if context.joined is not None:
            vars(context.joined).setdefault("span_identities", []).append(begun.context)
        return begun, parent

    def _end(self, context: RequestContext, begun: RequestSpan, status: int) -> None:
        span, identity = begun.span, begun.context
        if span.is_recording():
            facts: dict[str, str | int] = {"http.response.status_code": status}
            if context.outcome != "ok":
                facts["retort.outcome"] = context.outcome
            if context.model:
                facts |= {"retort.model": context.model, "retort.version": context.version, "retort.rows": context.rows}
            if status >= 500:
                facts["error.type"] = context.outcome if context.outcome != "ok" else str(status)
                span.set_status(StatusCode.ERROR)
            span.set_attributes(facts)
            run = self._add_stages(context, identity)
            if context.joined is not None and run is not None:
                span.add_link(self._shared_run(context, context.joined, run))
        span.end()

    def _add_stages(self, context: RequestContext, parent: SpanContext) -> tuple[int, int] | None:
        """Add a span for each stage of a prediction, and return the begin and end of its run, None if it did not run.

        Times are nanoseconds of the wall clock.
        """
        timings = getattr(context, "timings", None)
        if timings is None:
            return None
        traces, now_ns = self._traces, time.time_ns()
        since_ns = now_ns - time.monotonic_ns()
        arrived_ns = int(context.began_s * 1e9) + since_ns
        queued_ns = int(context.queued_s * 1e9)
        traces.add("queue", traces.new_child(parent), arrived_ns, arrived_ns + queued_ns, parent)
        run = None
        since_ns = now_ns - time.perf_counter_ns()
        for stage, began_s, ended_s in timings.stages():
            began_ns, ended_ns = int(began_s * 1e9) + since_ns, int(ended_s * 1e9) + since_ns
            traces.add(stage, traces.new_child(parent), began_ns, ended_ns, parent)
            if stage == "run":
                run = began_ns, ended_ns
        return run

    def _shared_run(self, context: RequestContext, joined: RequestScope, run: tuple[int, int]) -> SpanContext:
        """Return the span of a shared run. The first request that ends adds it, with a link to each request."""
        while joined.joined is not None:
            joined = joined.joined
        new = self._traces.new_root()
        # One atomic call, because requests that share a run may end in several threads at once.
        shared: SpanContext = vars(joined).setdefault("span_identity", new)
        if shared is new:
            facts: dict[str, str | int] = {
                "retort.model": context.model,
                "retort.version": context.version,
                "retort.requests": len(joined.span_identities),
            }
            links = [Link(each) for each in joined.span_identities]
            self._traces.add(SHARED_RUN, new, *run, attributes=facts, links=links)
        return shared


class _FromEnviron(Getter[Environ]):
    """Getter of header fields from a WSGI environ."""

    def get(self, carrier: Environ, key: str) -> list[str] | None:
        value = carrier.get(_variable(key))
        return None if value is None else [value]

    def keys(self, carrier: Environ) -> list[str]:
        return [name[5:].replace("_", "-").lower() for name in carrier if name.startswith("HTTP_")]


FROM_ENVIRON = _FromEnviron()


def _variable(field: str) -> str:
    return "HTTP_" + field.upper().replace("-", "_")


def _path(environ: Environ) -> str:
    """Return the path as text of bounded length."""
    path: str = environ.get("PATH_INFO", "")[:MAX_PATH_CHARS]
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")
