"""A router, a route and requests, without Flask and without models."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from app import errors
from app.core.steps.event_loop import EventLoop
from app.gateway.context import Match, RequestContext
from app.gateway.errors import ErrorFormat, ErrorRenderer, problem_json
from app.gateway.forwarded import Forwarding
from app.gateway.gateway import Gateway
from app.gateway.interceptors import Interceptor
from app.server.contract import Environ, Response
from app.telemetry import Timings
from app.telemetry.metrics import SharedMetrics

EVERYWHERE = re.compile("")
ERRORS = ErrorRenderer([], ErrorFormat(EVERYWHERE, problem_json, dict))


def codes() -> set[str]:
    """Return the codes of all errors of Retort."""
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.RetortError)
    ]
    return {each.code for each in classes} - {""}


def environ(path: str = "/predict", method: str = "POST", **more: Any) -> Environ:
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        **more,
    }


class FakeRoute:
    """Answer `ok`, or the given responses."""

    def __init__(self, answer: Callable[[RequestContext], Response] = lambda context: Response(200, [], b"ok")) -> None:
        self.answer = answer

    def plan(self, context: RequestContext) -> None:
        context.runs_inline, context.batch_key = True, self

    def respond(self, contexts: Sequence[RequestContext]) -> list[Response]:
        return [self.answer(context) for context in contexts]


class FakeRouter:
    """Match `/predict`, which has a route, and `/models/m/unload`, which changes models."""

    def __init__(self, route: FakeRoute | None = None) -> None:
        self.route = route or FakeRoute()
        self.direct = True

    def match(self, environ: Environ) -> Match:
        path = environ["PATH_INFO"]
        if path == "/predict" and environ["REQUEST_METHOD"] == "POST":
            return Match(self.route)
        return Match(may_change_models=path == "/models/m/unload")

    def is_direct(self) -> bool:
        return self.direct

    def check_at_once(self) -> None: ...

    def explain(self) -> str:
        return "" if self.direct else "a hook"


class Recorder(Interceptor):
    """Record each call: the id of the request, and the status of its response."""

    def __init__(self, may_block: bool = False) -> None:
        self.may_block = may_block
        self.before_calls: list[str] = []
        self.after_calls: list[int] = []

    def before(self, context: RequestContext) -> Response | None:
        self.before_calls.append(context.id)
        return None

    def after(self, context: RequestContext, response: Response) -> None:
        self.after_calls.append(response.status)
        response.headers.append(("X-Seen", str(len(self.after_calls))))


def gateway(*interceptors: Interceptor, router: FakeRouter | None = None) -> Gateway:
    return Gateway(
        router or FakeRouter(), interceptors, ERRORS, Forwarding(0, ""), SharedMetrics(), lambda: None, EventLoop()
    )


class Client:
    """The WSGI server's side of one request: the arguments of `start_response`, and the parts of the body."""

    def __init__(self, application: Any, environ: Environ) -> None:
        self.statuses: list[str] = []
        self.headers: dict[str, str] = {}
        self.written: list[bytes] = []
        self.parts = application(environ, self.start_response)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.statuses.append(status)
        self.headers = dict(headers)
        return self.written.append

    def body(self) -> bytes:
        try:
            return b"".join(self.written) + b"".join(self.parts)
        finally:
            if hasattr(self.parts, "close"):
                self.parts.close()


def streaming(context: RequestContext) -> Response:
    """Answer with a stream of three rows."""

    def parts() -> Iterator[bytes]:
        for _ in range(3):
            context.rows += 1
            yield b"row"

    context.model, context.version, context.timings = "penguins", 3, Timings()
    return Response(200, [], parts())
