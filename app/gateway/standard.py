"""The interceptors of every server: common header fields, metrics and the access log."""

from __future__ import annotations

import logging
import time

import msgspec

from app.gateway.context import RequestContext
from app.gateway.interceptors import Interceptor
from app.server.contract import Response
from app.settings import Settings
from app.telemetry import EventRecord, flush_lines
from app.telemetry.metrics import Metrics, SharedMetrics

access_log = logging.getLogger("retort.access")


class CommonHeaders(Interceptor):
    """Interceptor that adds the request id to every response, and forbids browsers to guess the media type."""

    may_block = False

    def after(self, context: RequestContext, response: Response) -> None:
        """Add both header fields."""
        response.headers += (("X-Request-ID", context.id), ("X-Content-Type-Options", "nosniff"))


class PredictionMetrics(Interceptor):
    """Interceptor that counts predictions by model, version and outcome, with their rows and durations."""

    may_block = False

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def after(self, context: RequestContext, response: Response) -> None:
        """Count the request if it names a version. Count a stream at its end, when its rows are known."""
        if not context.model:
            return
        if isinstance(response.body, bytes):
            self._count(context)
        else:
            context.at_end(lambda: self._count(context))

    def _count(self, context: RequestContext) -> None:
        duration_s = context.timings.total_s
        self._metrics.predicted(context.model, context.version, context.outcome, context.rows, duration_s)


def limits(settings: Settings, metrics: SharedMetrics) -> list[Interceptor]:
    """Return the interceptor of the limits of clients, if the settings name any."""
    if not settings.has_limits:
        return []
    from app.gateway.limits import client_limits  # the library takes a tenth of a second to import

    return [client_limits(settings, metrics)]


class AccessLog(Interceptor):
    """Interceptor that logs a line for each request when its response is complete."""

    may_block = False

    def after(self, context: RequestContext, response: Response) -> None:
        """Log the line. For a stream, log it at its end, when its rows are known."""
        if not access_log.isEnabledFor(logging.INFO):
            return
        if isinstance(response.body, bytes):
            access_log.handle(AccessRecord(context))
        else:
            context.at_end(lambda: access_log.handle(AccessRecord(context)))

    def flush(self) -> None:
        """Write the lines of a group of requests at once."""
        flush_lines()


class AccessEvent(msgspec.Struct, omit_defaults=True):
    """The facts of one request in the JSON access log. `time` is set when the line is written."""

    time: str
    level: str
    logger: str
    message: str
    request_id: str
    client: str
    method: str
    path: str
    status: int
    duration_ms: float
    model: str | None = None
    version: int | None = None
    rows: int | None = None


class AccessRecord(EventRecord):
    """The log record of one request. It omits thread and process: looking them up takes as long as all the rest."""

    def __init__(self, context: RequestContext) -> None:
        environ, took_ms = context.environ, (time.monotonic() - context.began_s) * 1e3
        method, path = environ.get("REQUEST_METHOD", "-"), environ.get("PATH_INFO", "-")
        message = f"{method} {path} {context.status}"
        created_s = time.time()
        self.__dict__ = {
            **_TEMPLATE,
            "msg": message,
            "created": created_s,
            "msecs": created_s % 1.0 * 1e3,
            "event": AccessEvent(
                "",
                "INFO",
                access_log.name,
                message,
                context.id,
                context.address,
                method,
                path,
                context.status,
                int(took_ms * 1e3) / 1e3,
                context.model or None,
                context.version or None,
                context.rows if context.model else None,
            ),
        }

    def getMessage(self) -> str:
        """Return the facts as a sentence, for formats other than JSON."""
        event: AccessEvent = self.event
        words = f"{event.message} {event.duration_ms:.1f} ms"
        return words if event.model is None else f"{words} {event.model}/{event.version} {event.rows} rows"


_TEMPLATE = vars(logging.LogRecord(access_log.name, logging.INFO, __file__, 0, "", None, None))
_TEMPLATE |= {"thread": None, "threadName": None, "taskName": None, "process": None}
