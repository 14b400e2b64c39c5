"""Gunicorn's access log and its hooks around a request, called only if they are configured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from gunicorn.config import PostRequest, PreRequest
from gunicorn.glogging import Logger

from app.server.answers import WsgiAnswer
from app.server.contract import Environ
from app.server.parsing import Head

log = logging.getLogger(__name__)


class LoggedRequest:
    """A request in the form that Gunicorn's hooks and access log expect."""

    def __init__(self, environ: Environ) -> None:
        self.method = environ["REQUEST_METHOD"]
        self.uri = environ["RAW_URI"]
        self.path = environ["PATH_INFO"]
        self.query = environ["QUERY_STRING"]
        self.version = (1, int(environ["SERVER_PROTOCOL"][-1]))
        self.scheme = environ["wsgi.url_scheme"]
        self.headers = [
            (key.removeprefix("HTTP_").replace("_", "-"), value)
            for key, value in environ.items()
            if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")
        ]


class RequestHooks:
    """Gunicorn's hooks and access log for one worker. Belongs to the loop's thread."""

    def __init__(self, worker: Any) -> None:
        cfg, self._log = worker.cfg, worker.log
        self._worker = worker
        self._has_access = self._log.access_log_enabled or type(self._log).access is not Logger.access
        self._before = None if cfg.pre_request is cfg.settings[PreRequest.name].default else cfg.pre_request
        self._after = None if cfg.post_request is cfg.settings[PostRequest.name].default else cfg.post_request
        self.are_configured = bool(self._has_access or self._before or self._after)

    def before(self, head: Head) -> None:
        """Call `pre_request`, before the application runs."""
        if self._before is not None:
            head.request = head.request or LoggedRequest(head.environ)
            call_logged("the hook pre_request", self._before, self._worker, head.request)

    def after(self, head: Head, answer: WsgiAnswer, began_s: float) -> None:
        """Write the access log and call `post_request`, after the answer was made."""
        if not self.are_configured:
            return
        request = head.request = head.request or LoggedRequest(head.environ)
        if self._has_access:
            took = timedelta(seconds=time.monotonic() - began_s)
            call_logged("the hook access", self._log.access, answer, request, head.environ, took)
        if self._after is not None:
            call_logged("the hook post_request", self._after, self._worker, request, head.environ, answer)


def call_logged(name: str, call: Callable[..., Any], *values: Any) -> None:
    """Call code of the application or of Gunicorn. Log its error: it must not stop the worker or change an answer."""
    try:
        call(*values)
    except Exception:
        log.exception("%s failed", name)
