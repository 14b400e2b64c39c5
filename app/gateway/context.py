"""Everything known about one HTTP request, and the routes that it may take."""

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
from app.server.contract import Environ, Headers, Response
from app.telemetry import RequestScope, Timings, request_id_from

KEY = "retort.context"
"""The environ's key for a weak reference to the context, so that both are freed at the end of the request."""
log = logging.getLogger(__name__)

NO_ARGUMENTS: Mapping[str, str] = {}


class RequestContext(RequestScope):
    """One request, from its admission to the end of its answer. Belongs to one thread at a time.

    `model`, `version` and `rows` are set when the request is validated, `status` when it is answered. `outcome` is `ok`
    or the name of the problem. `arguments` are the parts of the path that the route names.
    """

    queued_s = 0.0
    runs_inline = False
    inline_us = 20.0
    batch_key: Hashable = None
    may_block = False
    awaited: AwaitedRoute | None = None
    """Answers it on the event loop, as a coroutine."""
    is_stream = False
    through_wsgi = True
    """Flask answers it, and not its route alone."""
    may_change_models = False
    """Its view is one of Retort's own and no prediction."""
    is_running = False
    """A gateway runs it, and its answer has not ended."""
    gateway: object = None
    """The gateway that admitted it."""
    matched_path = ""
    route: Route | None = None
    arguments: Mapping[str, Any] = NO_ARGUMENTS
    adapter: HttpAdapter
    timings: Timings
    model = ""
    version = 0
    rows = 0
    content = b""
    error: Exception | None = None
    status = 0
    outcome = "ok"
    added_headers: Headers = []  # noqa: RUF012 - replaced, and never changed in place
    _at_end: deque[Callable[[], None]] | None = None

    def __init__(self, environ: Environ) -> None:
        self.id = request_id_from(environ.get("HTTP_X_REQUEST_ID"))
        self.client: str = environ.get("REMOTE_ADDR") or ""
        self.deadline_s = math.inf
        self.environ = environ
        self.began_s = time.monotonic()
        self._answers = itertools.count()

    @property
    def is_awaited(self) -> bool:
        """Whether it is a coroutine, which needs no thread."""
        return self.awaited is not None and not self.through_wsgi

    @property
    def path(self) -> str:
        """The path of the request, below the prefix of the application."""
        path: str = self.environ.get("PATH_INFO", "")
        return path

    def claim(self) -> bool:
        """Return whether this is the first answer: the request's thread and the server's loop may both have one."""
        return next(self._answers) == 0

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call this when the answer was sent or given up."""
        if self._at_end is None:
            self._at_end = deque()
        self._at_end.append(callback)

    def end(self) -> None:
        """Call each callback of `at_end` that was not called yet."""
        while self._at_end:
            callback = self._at_end.popleft()
            try:
                callback()
            except Exception:
                log.exception("the callback %s failed at the end of a request", callback)

    def mark(self) -> None:
        """Put a reference to this context into the environ."""
        self.environ[KEY] = weakref.ref(self)

    def let_go(self) -> None:
        """Remove the references to and from the environ and the error. Called by the thread that ran the request."""
        self.is_running, self.error = False, None
        if context_in(self.environ) is self:
            del self.environ[KEY]


def context_in(environ: Environ) -> RequestContext | None:
    """Return the context of an environ's request; None if it was not admitted, or has ended."""
    reference = environ.get(KEY)
    context: RequestContext | None = reference and reference()
    return context


class HttpAdapter(ProtocolAdapter, Protocol):
    """A protocol adapter over HTTP. Belongs to one request."""

    def headers(self) -> Headers:
        """Return the header fields of the answer; asked after `encode`."""


class Route(Protocol):
    """A URL that is answered without Flask. Lives as long as the process; safe to call from many threads."""

    def plan(self, context: RequestContext) -> None:
        """Decide how a request is run: `runs_inline`, `batch_key`, `may_block`, `awaited`. Runs nothing."""

    def respond(self, contexts: Sequence[RequestContext]) -> list[Response]:
        """Answer one request, or several of one batch key."""


class AwaitedRoute(Route, Protocol):
    """A route some of whose requests only wait by `await`; they name it as `awaited`."""

    async def respond_soon(self, context: RequestContext) -> Response:
        """Answer one request, on the event loop."""


@dataclass(frozen=True, slots=True)
class Match:
    """The view of a path and a method: its `route` if it predicts; `is_direct` if that may answer without the view."""

    route: Route | None = None
    arguments: Mapping[str, Any] | None = None
    may_change_models: bool = False
    may_block: bool = False
    is_direct: bool = True


class Router(Protocol):
    """Matches requests as the framework would."""

    def match(self, environ: Environ) -> Match:
        """Return what the request leads to."""

    def is_direct(self) -> bool:
        """Return whether routes may be answered without the framework, because nothing was registered around it."""

    def explain(self) -> str:
        """Return a sentence on what was registered around the routes, for the log; empty for nothing."""
