"""Gunicorn's access log and its hooks around a request, called only where someone listens."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from gunicorn.config import PostRequest, PreRequest
from gunicorn.glogging import Logger

from app.server.answers import Answer, Logged
from app.server.parsing import Head

log = logging.getLogger(__name__)


class Journal:
    """What is told of each request. `wanted` is false where nobody would read it; belongs to the loop's thread."""

    def __init__(self, worker: Any) -> None:
        cfg, logger = worker.cfg, worker.log
        self._worker = worker
        self._log = logger
        settings = cfg.settings
        self._has_access = logger.access_log_enabled or type(logger).access is not Logger.access
        self._before = None if cfg.pre_request is settings[PreRequest.name].default else cfg.pre_request
        self._after = None if cfg.post_request is settings[PostRequest.name].default else cfg.post_request
        self.wanted = bool(self._has_access or self._before or self._after)

    def began(self, head: Head) -> float:
        """Before the application; when that was."""
        if self._before is not None:
            head.request = head.request or Logged(head.environ)
            with logged("pre_request"):
                self._before(self._worker, head.request)
        return time.monotonic()

    def ended(self, head: Head, answer: Answer, began_s: float) -> None:
        """After the answer was made."""
        request = head.request = head.request or Logged(head.environ)
        if self._has_access:
            took = timedelta(seconds=time.monotonic() - began_s)
            with logged("access"):
                self._log.access(answer, request, head.environ, took)
        if self._after is not None:
            with logged("post_request"):
                self._after(self._worker, request, head.environ, answer)


@contextmanager
def logged(hook: str) -> Iterator[None]:
    """A hook that fails is a line in the log, and nothing else."""
    try:
        yield
    except Exception:
        log.exception("the hook %s failed", hook)
