"""The access log: one line for each request, with its facts and none of its inputs."""

from __future__ import annotations

import logging
import threading
import time

import msgspec

from app.gateway.context import RequestContext
from app.gateway.interceptors import Interceptor
from app.server.contract import Response
from app.telemetry import Timings, draw
from app.telemetry.log_lines import CYAN, GREEN, RED, YELLOW, EventRecord, sole_handler

access_log = logging.getLogger("retort.access")

SLOW_S = 1.0
"""Requests that took longer are logged even if the sample omits them."""
MOST_PATH_CHARS = 256
MOST_WORD_CHARS = 64
"""Limit for the client and the method, whose texts proxies and clients choose."""
COLOURS = {2: GREEN, 3: CYAN, 4: YELLOW, 5: RED}
"""The colour of a status, by its first digit."""


class AccessLog(Interceptor):
    """Interceptor that logs a line for each request when its response is complete.

    `sample` is the share of successful requests that are logged, from 0 to 1. Errors and slow requests always are.
    """

    may_block = False

    def __init__(self, sample: float = 1.0) -> None:
        self._sample = sample
        self._events: list[AccessEvent] = []
        self._lock = threading.Lock()

    def after(self, context: RequestContext, response: Response) -> None:
        """Keep the facts for `flush`. For a stream, keep them at its end, when its rows are known."""
        if not access_log.isEnabledFor(logging.INFO):
            return
        if not isinstance(response.body, bytes):
            context.at_end(lambda: self._note(context))
            return
        context.sent_bytes = len(response.body)
        self._note(context)

    def flush(self) -> None:
        """Log the lines of a group of requests at once."""
        if not self._events:
            return
        with self._lock:
            events = self._events[:]
            del self._events[: len(events)]  # other threads may have appended events meanwhile
        created_s, handler = time.time(), sole_handler(access_log)
        if handler is not None:
            handler.write(events, created_s)
            return
        for event in events:
            access_log.handle(event.record(created_s))

    def _note(self, context: RequestContext) -> None:
        sample, began_s = self._sample, context.began_s
        if sample == 1.0 or context.status >= 400 or time.monotonic() - began_s > SLOW_S or draw(sample):
            self._events.append(event_of(context))


class AccessEvent(msgspec.Struct, omit_defaults=True, gc=False):
    """The facts of one request in the JSON access log. `time` is set when the line is written.

    `key` is the id of the caller's key, `outcome` the problem type of an error. `blocked_origin` is the origin of a
    page whose browser keeps it from reading the response. `trace_id` is set while traces are on.
    """

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
    bytes_out: int
    bytes_in: int | None = None
    key: str | None = None
    model: str | None = None
    version: int | None = None
    rows: int | None = None
    stages_ms: msgspec.Raw | None = None
    outcome: str | None = None
    blocked_origin: str | None = None
    trace_id: str | None = None

    def record(self, created_s: float) -> AccessRecord:
        """Return the log record, for log handlers other than Retort's."""
        return AccessRecord(self, created_s)


def event_of(context: RequestContext) -> AccessEvent:
    """Return the facts of a request that has ended."""
    environ, took_ms = context.environ, (time.monotonic() - context.began_s) * 1e3
    method, path = environ.get("REQUEST_METHOD", "-"), environ.get("PATH_INFO", "-")
    client = context.address
    if len(path) > MOST_PATH_CHARS or not path.isascii():
        path = shown_path(path)
    if len(method) + len(client) > MOST_WORD_CHARS or not (method.isascii() and client.isascii()):
        method, client = shown_word(method), shown_word(client)
    timings: Timings | None = getattr(context, "timings", None)
    principal = context.principal
    return AccessEvent(
        "",
        "INFO",
        access_log.name,
        f"{method} {path} {context.status}",
        context.id,
        client,
        method,
        path,
        context.status,
        took_ms * 1e3 // 1 / 1e3,
        0 if method == "HEAD" else context.sent_bytes,
        context.body_bytes or None,
        None if principal is None else principal.id,
        context.model or None,
        context.version or None,
        context.rows if context.model else None,
        None if timings is None else msgspec.Raw(timings.json()),
        None if context.outcome == "ok" else context.outcome,
        context.blocked_origin or None,
        context.trace_id or None,
    )


class AccessRecord(EventRecord):
    """The log record of one request, without thread and process: to look them up takes as long as all the rest."""

    def __init__(self, event: AccessEvent, created_s: float) -> None:
        facts = _TEMPLATE.copy()  # several times as fast as the constructor of the base class
        facts["msg"], facts["created"], facts["msecs"] = event.message, created_s, created_s % 1.0 * 1e3
        facts["event"] = event
        self.__dict__ = facts

    @property
    def highlight(self) -> tuple[str, str]:
        """The status and its colour."""
        status: int = self.event.status
        return str(status), COLOURS.get(status // 100, "")

    def getMessage(self) -> str:
        """Return the facts as an aligned line, for formats other than JSON."""
        event: AccessEvent = self.event
        words = [f"{event.status} {event.method:<6} {event.path:<32} {event.duration_ms:>8.1f} ms"]
        if event.model is not None:
            words.append(f"{event.model}/{event.version}")
            words.append("1 row" if event.rows == 1 else f"{event.rows} rows")
        for name, value in (("", event.outcome), ("key ", event.key), ("blocked origin ", event.blocked_origin)):
            if value is not None:
                words.append(f"{name}{value}")
        return "  ".join(words)


def shown_path(path: str) -> str:
    """Return a path of an environ as text of bounded length. WSGI passes its UTF-8 as Latin-1 (PEP 3333)."""
    path = path[: 4 * MOST_PATH_CHARS]
    if not path.isascii():
        try:
            path = path.encode("latin-1").decode("utf-8", "replace")
        except UnicodeEncodeError:  # a server or middleware has decoded it
            path = _whole(path)
    return path if len(path) <= MOST_PATH_CHARS else f"{path[:MOST_PATH_CHARS]}…"


def shown_word(text: str) -> str:
    """Return a word that a client or proxy has sent, with bounded length."""
    return _whole(text[:MOST_WORD_CHARS])


def _whole(text: str) -> str:
    """Return a text without surrogates, which no encoding can write."""
    return text.encode("utf-8", "replace").decode("utf-8")


_TEMPLATE = vars(logging.LogRecord(access_log.name, logging.INFO, __file__, 0, "", None, None))
_TEMPLATE |= {"thread": None, "threadName": None, "taskName": None, "process": None, "event": None}
