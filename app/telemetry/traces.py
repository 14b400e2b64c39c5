"""The spans of this process, which OpenTelemetry makes and exports by OTLP over HTTP.

Needs the extra `otel`, and is imported only if traces are on.
"""

from __future__ import annotations

import atexit
import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, TraceFlags, Tracer

import app

log = logging.getLogger(__name__)

FLUSH_WITHIN_S = 1.0
"""Longest time to export the last spans at the end of a worker, after its last request."""
SERVICE = "retort"
"""The name of the service, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES sets another one."""
EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
QUEUE_LOG = "opentelemetry.sdk._shared_internal"
NOT_EXPORTED = "traces are not exported, and are dropped while that lasts"
NAME = "app.gateway"
SAMPLED = TraceFlags(TraceFlags.SAMPLED)

Attributes = Mapping[str, str | int]


class Traces:
    """Maker and exporter of spans. Lives as long as the process; safe to call from many threads.

    `start` starts the thread that exports: a server calls it in each worker, after the fork. OpenTelemetry's own
    variables (`OTEL_*`) set the sampler, the limits, and the target and the way of the export.

    Args:
        exporter: function that makes the exporter, after the fork.
    """

    def __init__(self, exporter: Callable[[], SpanExporter] = OTLPSpanExporter) -> None:
        self._make_exporter = exporter
        self._lock = threading.Lock()
        self._tracer: Tracer | None = None
        self._provider: TracerProvider | None = None
        self._processor: BatchSpanProcessor | None = None
        self._scope = InstrumentationScope(NAME, app.__version__)
        self._ids = _Ids()

    @property
    def tracer(self) -> Tracer:
        """The tracer of this process. Start the export if it has not started yet."""
        return self._tracer or self.start()

    def start(self) -> Tracer:
        """Start the export. Users' steps get the same tracers, unless users have set up OpenTelemetry themselves."""
        with self._lock:
            if self._tracer is None:
                self._ids = _Ids()
                self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
                self._add_processor(self._provider)
                if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                    trace.set_tracer_provider(self._provider)
                atexit.register(self.close)
                self._tracer = self._provider.get_tracer(NAME, app.__version__)
            return self._tracer

    def _add_processor(self, provider: TracerProvider) -> None:
        """Start the thread that exports. If that fails, log the reason; the server then serves without traces."""
        try:
            self._processor = BatchSpanProcessor(_LoggedOnce(self._make_exporter()))
        except Exception:
            log.exception("there are no traces: the variables of OpenTelemetry cannot be used")
        else:
            provider.add_span_processor(self._processor)

    def new_root(self) -> SpanContext:
        """Return the identity of a new span without a parent, which is sampled."""
        return SpanContext(self._ids.generate_trace_id(), self._ids.generate_span_id(), False, SAMPLED)

    def new_child(self, parent: SpanContext) -> SpanContext:
        """Return the identity of a new span of the same trace."""
        return SpanContext(parent.trace_id, self._ids.generate_span_id(), False, parent.trace_flags, parent.trace_state)

    def add(
        self,
        name: str,
        context: SpanContext,
        began_ns: int,
        ended_ns: int,
        parent: SpanContext | None = None,
        attributes: Attributes | None = None,
        links: Sequence[Link] = (),
    ) -> None:
        """Export a span that has ended, in a fifth of the time that a span of the tracer would take."""
        if self._provider is None or self._processor is None:
            return
        self._processor.on_end(
            ReadableSpan(
                name,
                context,
                parent,
                self._provider.resource,
                attributes,
                links=links,
                start_time=began_ns,
                end_time=ended_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Export the spans that wait, within `FLUSH_WITHIN_S`. Spans that end later are dropped."""
        with self._lock:
            provider, self._provider, self._processor = self._provider, None, None
        if provider is not None:
            atexit.unregister(self.close)
            ending = threading.Thread(target=provider.shutdown, name="retort-traces-end", daemon=True)
            ending.start()
            ending.join(FLUSH_WITHIN_S)


class _Ids(IdGenerator):
    """Generator of random ids. It has a random generator of its own, which no model can seed."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - unique, not secret

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128) or self.generate_trace_id()

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64) or self.generate_span_id()


class _LoggedOnce(SpanExporter):
    """Wrapper of an exporter that logs one line when the exporter begins to fail, and one when it works again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_failing = False
        logging.getLogger(EXPORTER_LOG).addFilter(self._log_once)
        logging.getLogger(QUEUE_LOG).setLevel(logging.CRITICAL)  # NOT_EXPORTED already says that spans are dropped

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:
            if not self._is_failing:
                log.exception(NOT_EXPORTED)
            self._is_failing = True
            return SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS and self._is_failing:
            self._is_failing = False
            log.info("traces are exported again")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        logging.getLogger(EXPORTER_LOG).removeFilter(self._log_once)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _log_once(self, record: logging.LogRecord) -> bool:
        """Log the first error line of the exporter, and drop all lines of its own."""
        if not self._is_failing:
            self._is_failing = True
            log.warning("%s: %s", NOT_EXPORTED, record.getMessage())
        return False


def _resource() -> Resource:
    """Return the facts of this process that every span has."""
    resource = Resource.create({"service.version": app.__version__})
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    return resource
