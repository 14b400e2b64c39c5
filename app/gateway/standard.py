"""The interceptors of every server (common header fields, metrics), and interceptors that settings switch on."""

from __future__ import annotations

import logging

from app.gateway.context import RequestContext
from app.gateway.interceptors import Interceptor
from app.server.contract import Response
from app.settings import Settings
from app.telemetry.metrics import SharedMetrics

log = logging.getLogger(__name__)


class CommonHeaders(Interceptor):
    """Interceptor that adds two header fields to every response: the request id, and `nosniff` for browsers."""

    may_block = False

    def after(self, context: RequestContext, response: Response) -> None:
        """Add both header fields."""
        response.headers += (("X-Request-ID", context.id), ("X-Content-Type-Options", "nosniff"))


class RequestMetrics(Interceptor):
    """Interceptor that counts responses by problem type, and predictions by model, version and outcome."""

    may_block = False

    def __init__(self, metrics: SharedMetrics) -> None:
        self._metrics = metrics

    def after(self, context: RequestContext, response: Response) -> None:
        """Count the response. Count a stream at its end, when its rows and its outcome are known."""
        if isinstance(response.body, bytes):
            self._count(context)
        else:
            context.at_end(lambda: self._count(context))

    def _count(self, context: RequestContext) -> None:
        metrics, outcome = self._metrics, context.outcome
        metrics.responded(context.status, outcome)
        if context.model:
            timings = context.timings
            metrics.predicted(context.model, context.version, outcome, context.rows, timings.total_s, timings.ms)


def limits(settings: Settings, metrics: SharedMetrics) -> list[Interceptor]:
    """Return the interceptor of the clients' limits; none if the settings have no limits."""
    if not settings.has_limits:
        return []
    from app.gateway.limits import client_limits  # the library takes a tenth of a second to import

    return [client_limits(settings, metrics)]


def tracing(settings: Settings) -> list[Interceptor]:
    """Return the interceptor that makes spans; none if traces are off.

    A platform may set OpenTelemetry's variables for other programs. So a server without the extra `otel` still starts.
    """
    if not settings.traces:
        return []
    try:
        from app.gateway.spans import RequestSpans
        from app.telemetry.traces import Traces
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        log.warning(
            "there are no traces: they need OpenTelemetry, which is not installed: "
            "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        )
        return []
    return [RequestSpans(Traces())]
