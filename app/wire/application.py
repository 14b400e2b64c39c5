"""Flask less what this service never uses, each part of which would cost every request microseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response
from flask.sessions import NullSession, SessionInterface

from app.telemetry import NO_REQUEST, request_id, request_id_from

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]
Straight = Callable[[Environ], "tuple[bytes, Headers] | None"]
"""Answers a request with a body and headers, or leaves it to Flask; see `app.wire.straight`."""


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

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The view itself: none of ours is a coroutine, and Flask would look anew at each request."""
        return func

    def wsgi_app(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        request = request_id_from(environ.get("HTTP_X_REQUEST_ID"))
        request_id.set(request)
        try:
            if (
                self.straight is not None
                and not (self.before_request_funcs or self.after_request_funcs or self.teardown_request_funcs)
                and (answered := self.straight(environ)) is not None
            ):
                content, headers = answered
                headers.append(("Content-Length", str(len(content))))
                headers.append(("X-Request-ID", request))
                start_response("200 OK", headers)
                return [content]

            def begin(status: str, headers: Headers, *exc_info: Any) -> Any:
                return start_response(status, [*headers, ("X-Request-ID", request)], *exc_info)

            return super().wsgi_app(environ, begin)
        finally:
            request_id.set(NO_REQUEST)


class WholeResponse(Response):
    """A response whose body is there, and whose headers are final: it goes out as it stands."""

    def __init__(self, content: bytes, headers: Headers, status: str = "200 OK") -> None:
        super().__init__(status=status, headers=[*headers, ("Content-Length", str(len(content)))])
        self.response = [content]

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request other than HEAD, for which there is no view that makes one of these."""
        start_response(self._status, self.headers.to_wsgi_list())
        return self.response  # type: ignore[return-value]
