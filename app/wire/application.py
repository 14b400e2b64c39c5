"""Flask less what this service never uses, each part of which would cost every request microseconds."""

from __future__ import annotations

import functools
import importlib.metadata
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import svcs.flask
from flask import Flask, Response
from flask.sessions import NullSession, SessionInterface

from app.core.caller import Caller, caller
from app.core.services import Services
from app.telemetry import NO_REQUEST, Timings, request_id, request_id_from

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]
FAILED = "retort.failed"
"""In an environ, the error of a model that the straight way has run: the view raises it, and does not run it again."""


@functools.cache
def release() -> str:
    """The version of this server."""
    try:
        return importlib.metadata.version("retort-serving")
    except importlib.metadata.PackageNotFoundError:  # it runs from its folder, and is not installed
        return "unknown"


def timings_of(environ: Environ) -> Timings:
    """The timings of a request that is begun now; the server may tell how long it waited for a thread."""
    return Timings(environ.get("retort.queued_s", 0.0))


class Straight(Protocol):
    """Answers requests without Flask, or leaves them to it; see `app.wire.straight`."""

    def __call__(self, environ: Environ) -> tuple[bytes, Headers] | None:
        """The answer's body and headers; None where Flask has to look."""

    def quick(self, environ: Environ) -> bool:
        """Whether the request takes microseconds and waits for nothing."""

    def waits(self, environ: Environ) -> bool:
        """Whether the request may wait for others than this process."""

    def lane(self, environ: Environ) -> str | None:
        """The lane of a request that may be answered together with others of it."""

    def together(self, environs: Sequence[Environ]) -> list[tuple[bytes, Headers] | None]:
        """The answers to requests of one lane; None for those to be answered alone."""


class NoSessions(SessionInterface):
    """No cookie is read or written; whoever writes to the session is told so by Flask."""

    _session = NullSession()

    def open_session(self, app: Flask, request: Any) -> NullSession:
        """The one session of everybody, which holds nothing and takes nothing."""
        return self._session

    def is_null_session(self, session: object) -> bool:
        """Always: there is nothing to save."""
        return True

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        """Never called."""


class Application(Flask):
    """Flask without sessions and without views that are coroutines. Lives as long as the process.

    Every request has its id before anything else, and every answer carries it. What the straight way takes is answered
    there; Flask sees all else, and sees everything once any hook around requests is registered.
    """

    session_interface = NoSessions()
    straight: Straight | None = None
    words: Callable[[str, int, str, str], tuple[bytes, str] | None] | None = None
    """How the protocol of a path words an error, from its status, name and detail: a body and its media type."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The view itself: none of ours is a coroutine, and Flask would look anew at each request."""
        return func

    def offer(self, services: Services) -> None:
        """Offers the services of steps to views as well: `svcs.flask.get` finds them."""
        self.extensions["retort_services"] = services
        svcs.flask.init_app(self, registry=services.registry)

    def wsgi_app(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        request = request_id_from(environ.get("HTTP_X_REQUEST_ID"))
        request_id.set(request)
        try:
            if self.straight is not None and not self._hooked() and (answered := self.straight(environ)) is not None:
                content, headers = _whole(answered, request)
                start_response("200 OK", headers)
                return [content]

            def begin(status: str, headers: Headers, *exc_info: Any) -> Any:
                return start_response(status, [*headers, ("X-Request-ID", request)], *exc_info)

            deadline_s = environ.get("retort.deadline_s", math.inf)
            caller.set(Caller(environ.get("REMOTE_ADDR") or "", request, deadline_s))
            return super().wsgi_app(environ, begin)
        finally:
            request_id.set(NO_REQUEST)

    def quick(self, environ: Environ) -> bool:
        """Whether a server may answer the request on its loop; runs nothing."""
        return self.straight is not None and self.straight.quick(environ)

    def waits(self, environ: Environ) -> bool:
        """Whether the request may wait for others than this process, and is best given a thread of its own."""
        return self.straight is not None and self.straight.waits(environ)

    def lane(self, environ: Environ) -> str | None:
        """Requests of one lane are best answered `together`, where several wait; most are of none."""
        return self.straight.lane(environ) if self.straight is not None and not self._hooked() else None

    def together(self, environs: Sequence[Environ]) -> list[tuple[bytes, Headers] | None]:
        """The answers to requests of one lane, each a 200; None for those to be answered alone."""
        if self.straight is None:
            return [None] * len(environs)
        requests = [request_id_from(environ.get("HTTP_X_REQUEST_ID")) for environ in environs]
        request_id.set(",".join(requests))
        try:
            return [
                None if answered is None else _whole(answered, request)
                for answered, request in zip(self.straight.together(environs), requests, strict=True)
            ]
        finally:
            request_id.set(NO_REQUEST)

    def refusal(self, path: str, status: int, name: str, detail: str) -> tuple[bytes, str] | None:
        """The words of a server that refuses a request to a path; None where a problem document is right."""
        return self.words(path, status, name, detail) if self.words is not None else None

    def _hooked(self) -> bool:
        return bool(self.before_request_funcs or self.after_request_funcs or self.teardown_request_funcs)


def _whole(answered: tuple[bytes, Headers], request: str) -> tuple[bytes, Headers]:
    content, headers = answered
    return content, [*headers, ("Content-Length", str(len(content))), ("X-Request-ID", request)]


class WholeResponse(Response):
    """A response whose body is there, and whose headers are final: it goes out as it stands."""

    def __init__(self, content: bytes, headers: Headers, status: str = "200 OK") -> None:
        super().__init__(status=status, headers=[*headers, ("Content-Length", str(len(content)))])
        self.response = [content]

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request other than HEAD, for which there is no view that makes one of these."""
        start_response(self._status, self.headers.to_wsgi_list())
        return self.response  # type: ignore[return-value]
