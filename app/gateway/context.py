"""The context of one HTTP request, and the routes that answer requests without Flask."""

from __future__ import annotations

import itertools
import logging
import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.service import ProtocolAdapter
from app.gateway.credentials import Principal
from app.server.contract import Environ, Headers, Response
from app.storage.keys import PREDICT
from app.telemetry import RequestScope, Timings, request_id_from

KEY = "retort.context"
"""Key of the environ for a weak reference to the context. A strong one would keep both alive after the request."""
log = logging.getLogger(__name__)

NO_ARGUMENTS: Mapping[str, str] = {}
MOST_LENGTH_DIGITS = 15


class RequestContext(RequestScope):
    """One request, from its admission to the end of its response. Belongs to one thread at a time.

    `model`, `version` and `rows` are set when the request is validated, `status` when it is answered. `outcome` is `ok`
    or the name of the problem. `arguments` are the parts of the path that the route names.
    """

    queued_s = 0.0
    runs_inline = False
    inline_us = 20.0
    batch_key: Hashable = None
    may_block = False
    awaited: AwaitedRoute | None = None
    """The route that answers the request on the event loop, as a coroutine."""
    is_stream = False
    through_wsgi = True
    """Whether the request goes through Flask. If not, its route answers it alone."""
    may_change_models = False
    """Whether the view is one of Retort's own and does not predict."""
    needed_scope: str | None = PREDICT
    """The scope that an API key must have for the view; None if the view needs no key."""
    asked_model: str | None = None
    """The model that the path names; empty for the default model; None if the view belongs to no model."""
    is_running = False
    """Whether a gateway runs the request and its response has not ended."""
    gateway: object = None
    matched = ("", "")
    """The method and the path by which the view was found."""
    route: Route | None = None
    arguments: Mapping[str, Any] = NO_ARGUMENTS
    is_limited = True
    """Whether the request counts towards the limits of its client. Probes and stylesheets do not."""
    limit_names: Sequence[str] = ()
    """The storage's name of each limit for this client; empty until the limits have let the request pass."""
    limits_left: list[int] | None = None
    """For each limit, the amount left and the seconds until it grows; None if the request is not limited."""
    pattern = ""
    """The route as a pattern, such as `/models/{model}/predict`; empty if the path matches none."""
    trace_id = ""
    """The id of its trace as 32 hexadecimal digits, while traces are on."""
    span: object = None
    """Its span, while traces are on. Belongs to `RequestSpans`."""
    principal: Principal | None = None
    """The caller, if it has sent a valid key or token."""
    adapter: HttpAdapter
    timings: Timings
    """Set before the request is parsed; missing if an interceptor has refused it."""
    model = ""
    version = 0
    rows = 0
    content = b""
    error: Exception | None = None
    status = 0
    outcome = "ok"
    sent_bytes = 0
    """Bytes of the response's body that were made so far."""
    blocked_origin = ""
    """Origin of the page that sent the request, if its browser keeps it from reading the response."""
    added_headers: Headers = []  # noqa: RUF012 - replaced, and never changed in place
    _at_end: deque[Callable[[], None]] | None = None

    def __init__(self, environ: Environ) -> None:
        self.id = request_id_from(environ.get("HTTP_X_REQUEST_ID"))
        self.client = self.address = environ.get("REMOTE_ADDR") or ""
        self.deadline_s = math.inf
        self.environ = environ
        self.began_s = time.monotonic()
        self._answers = itertools.count()

    @property
    def is_awaited(self) -> bool:
        """Whether the request runs as a coroutine, which needs no thread."""
        return self.awaited is not None and not self.through_wsgi

    @property
    def path(self) -> str:
        """The path of the request below the prefix of the application."""
        return str(self.environ.get("PATH_INFO", ""))

    @property
    def body_bytes(self) -> int:
        """The length of the body as it was received, before it is decompressed; 0 if no server has counted it."""
        length = self.environ.get("CONTENT_LENGTH") or ""
        return int(length) if length.isdecimal() and len(length) <= MOST_LENGTH_DIGITS else 0

    def claim(self) -> bool:
        """Return True for the first response only. The request's thread and the server's loop may both make one."""
        return next(self._answers) == 0

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the response was sent or abandoned."""
        if self._at_end is None:
            self._at_end = deque()
        self._at_end.append(callback)

    def end(self) -> None:
        """Call the callbacks of `at_end`, each of them once."""
        while self._at_end:
            callback = self._at_end.popleft()
            try:
                callback()
            except Exception:
                log.exception("the callback %s failed at the end of a request", callback)

    def mark(self) -> None:
        """Put a reference to this context into the environ."""
        self.environ[KEY] = weakref.ref(self)

    def release(self) -> None:
        """Remove the references to the error and from the environ. Called by the thread that ran the request."""
        self.is_running, self.error = False, None
        if context_in(self.environ) is self:
            del self.environ[KEY]


def context_in(environ: Environ) -> RequestContext | None:
    """Return the context of a request's environ; None if the request was not admitted or has ended."""
    reference = environ.get(KEY)
    context: RequestContext | None = reference and reference()
    return context


class HttpAdapter(ProtocolAdapter, Protocol):
    """A protocol adapter for HTTP. Belongs to one request."""

    def headers(self) -> Headers:
        """Return the header fields of the response. Called after `encode`."""


class Route(Protocol):
    """A URL that Retort answers without Flask. Lives as long as the process; safe to call from many threads."""

    def plan(self, context: RequestContext) -> None:
        """Set how the request runs: `runs_inline`, `batch_key`, `may_block`, `awaited`. Runs nothing."""

    def respond(self, contexts: Sequence[RequestContext]) -> list[Response]:
        """Answer one request, or several with the same batch key."""


class AwaitedRoute(Route, Protocol):
    """A route that answers some requests on the event loop; it sets their `awaited`."""

    async def respond_async(self, context: RequestContext) -> Response:
        """Answer one request on the event loop."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rights that a request needs, if the server requires API keys: see `RequestContext`."""

    needed_scope: str | None = PREDICT
    asked_model: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The view for a path and a method.

    `pattern` is the view's rule, with the arguments in braces. `route` is set if the view predicts. `is_direct` is
    whether the route may answer without the view. A path may have no view: a middleware may answer it.
    """

    route: Route | None = None
    arguments: Mapping[str, Any] | None = None
    may_change_models: bool = False
    may_block: bool = False
    is_direct: bool = True
    is_limited: bool = True
    pattern: str = ""
    access: Access = Access()


class Router(Protocol):
    """Matcher of requests and views, with the same results as the framework."""

    def match(self, environ: Environ) -> Match:
        """Return the view for a request."""

    def access(self, endpoint: str, method: str, arguments: Mapping[str, Any]) -> Access:
        """Return the rights that a request needs for a view that the framework itself has matched."""

    def is_direct(self) -> bool:
        """Return whether routes may answer without the framework: no user code is registered around them."""

    def check_at_once(self) -> None:
        """Make the next `is_direct` check everything again, because user code may have run."""

    def explain(self) -> str:
        """Return a sentence for the log that names the code registered around the routes; empty if there is none."""
