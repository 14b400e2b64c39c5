"""Traces of requests by OpenTelemetry, if they are on and the extra `otel` is installed."""

from __future__ import annotations

import logging

from app.gateway.interceptors import Interceptor
from app.settings import Settings

log = logging.getLogger(__name__)


def tracing(settings: Settings) -> list[Interceptor]:
    """Return the interceptor that makes spans; none if traces are off.

    A platform may set OpenTelemetry's variables for other programs, so a missing extra does not stop the start.
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
