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
"""Where a request's environ has a weak reference to its context: both are freed as soon as the request ended."""
log = logging.getLogger(__name__)

NO_ARGUMENTS: Mapping[str, str] = {}


class RequestContext(RequestScope):
    """One request, from its admission to the end of its answer. Belongs to one thread at a time.

    `model`, `version` and `rows` are known once the request was validated, `status` once it was answered; `outcome` is
    `ok` or the name of the problem. `arguments` are the parts of the path that its route names.
    """

    queued_s = 0.0
    """How long it waited for its thread."""
    runs_inline = False
    batch_key: Hashable = None
    may_block = False
    through_wsgi = True
    """It is answered by Flask, and not by its route alone."""
    may_change_models = False
    """It leads to a view of Retort's own that is no prediction."""
    is_running = False
    """The gateway has let it in, and its answer has not ended."""
    gateway: object = None
    """The gateway that admitted it."""
    matched_path = ""
    """The path by which its view was found."""
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
    def path(self) -> str:
        """The path of the request, below the prefix of the application."""
        path: str = self.environ.get("PATH_INFO", "")
        return path

    def claim(self) -> bool:
        """Tell whether this is the first answer to the request: its thread and the server's loop may both have one."""
        return next(self._answers) == 0

    def at_end(self, callback: Callable[[], None]) -> None:
        """Have this called when the answer was sent, or given up."""
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
        """Have the environ lead to this context."""
        self.environ[KEY] = weakref.ref(self)

    def let_go(self) -> None:
        """Let go of the environ, of which another request may be made, and of the error, whose traceback holds this.

        Called by the thread that has run the request, and not by the one that refuses it meanwhile.
        """
        self.is_running, self.error = False, None
        if context_in(self.environ) is self:
            del self.environ[KEY]


def context_in(environ: Environ) -> RequestContext | None:
    """Return the context of the request that an environ belongs to; None where it was not admitted, or has ended."""
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
        """Decide how a request is run: `runs_inline`, `batch_key`, `may_block`. Runs nothing."""

    def respond(self, contexts: Sequence[RequestContext]) -> list[Response]:
        """Answer one request, or several of one batch key."""


@dataclass(frozen=True, slots=True)
class Match:
    """The view that a path and a method lead to, with its `route` if it predicts.

    `may_change_models` is true of Retort's own views that are no predictions; `is_direct` where the route may answer
    without the view.
    """

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
        """Tell whether routes may be answered without the framework: nothing was registered around it."""

    def explain(self) -> str:
        """Return a sentence on what was registered around the routes, for the log; empty for nothing."""
