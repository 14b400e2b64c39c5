"""Flask less what this service never uses, each part of which would cost every request microseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response
from flask.sessions import NullSession, SessionInterface


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
    """Flask without sessions and without views that are coroutines. Lives as long as the process."""

    session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The view itself: none of ours is a coroutine, and Flask would look anew at each request."""
        return func


class WholeResponse(Response):
    """A response whose body is there, and whose headers are final: it goes out as it stands."""

    def __init__(self, content: bytes, headers: list[tuple[str, str]], status: str = "200 OK") -> None:
        super().__init__(status=status, headers=[*headers, ("Content-Length", str(len(content)))])
        self.response = [content]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answers a request other than HEAD, for which there is no view that makes one of these."""
        start_response(self._status, self.headers.to_wsgi_list())
        return self.response  # type: ignore[return-value]
