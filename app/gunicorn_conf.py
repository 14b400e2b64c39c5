"""Gunicorn's settings and hooks; each line that is not obvious has its reason."""

from __future__ import annotations

import os
from typing import Any

from gunicorn.glogging import Logger

from app.errors import RetortError
from app.runtime.environment import ONE_THREAD
from app.settings import Settings
from app.telemetry import configure_logging

try:
    _settings = Settings.from_environ(os.environ)
except RetortError as error:
    raise SystemExit(f"retort: {error.detail}") from None
configure_logging(_settings.log_level, readable=_settings.development)

for _name, _value in ONE_THREAD.items():
    os.environ.setdefault(_name, _value)

bind = _settings.bind
workers = _settings.web_concurrency
threads = _settings.threads
worker_class = "gthread"
# Models are loaded once, in the master, and shared by the workers' memory.
preload_app = True
# No console for the master: it would be a thread and a socket before the fork.
control_socket_disable = True
# A platform kills 30 s after SIGTERM; be gone before.
graceful_timeout = 20
# Longer than the idle time of the proxies in front, which otherwise reuse a connection that was just closed.
keepalive = 75


class OneForm(Logger):  # type: ignore[misc]  # Gunicorn ships no types
    """Gunicorn's lines go the way of all others: one handler, one form; its own would print each line twice."""

    def setup(self, cfg: Any) -> None:
        """Takes Gunicorn's handlers away again and lets its loggers propagate to ours."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.error_log.setLevel(_settings.log_level)


logger_class = OneForm


def on_starting(server: Any) -> None:
    """Before the fork: verify and load, run nothing. A model that ran before `fork()` can hang in the child."""
    try:
        server.app.wsgi().extensions["retort"].load()
    except RetortError as error:
        raise SystemExit(f"retort: {error.detail}") from None


def post_worker_init(worker: Any) -> None:
    """After the fork: run each model's recorded examples, and publish those that give the recorded predictions."""
    worker.wsgi.extensions["retort"].prove()
