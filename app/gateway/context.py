"""Everything known about one HTTP request, and the routes that it may take."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.service import ProtocolAdapter
from app.server.contract import Environ, Headers, Response
from app.telemetry import RequestScope, Timings, request_id_from

KEY = "retort.context"
"""Where the context of a request is in its environ."""
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
    is_own_view = False
    """It leads to a view of Retort's own."""
    is_running = False
    """The gateway has let it in."""
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
    _at_end: list[Callable[[], None]] | None = None

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
            self._at_end = []
        self._at_end.append(callback)

    def end(self) -> None:
        """Call what was left with `at_end`."""
        callbacks, self._at_end = self._at_end, None
        for callback in callbacks or ():
            callback()


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
    """What a path and a method lead to: a route, or None where Flask alone knows what.

    `is_own` says that the view is Retort's; `is_direct` that the route may answer without it.
    """

    route: Route | None = None
    arguments: Mapping[str, Any] | None = None
    is_own: bool = False
    may_block: bool = False
    is_direct: bool = False


class Router(Protocol):
    """Matches requests as the framework would."""

    def match(self, environ: Environ) -> Match:
        """Return what the request leads to."""

    def is_direct(self) -> bool:
        """Tell whether routes may be answered without the framework: nothing was registered around it."""

    def explain(self) -> str:
        """Return a sentence on what was registered around the routes, for the log; empty for nothing."""
