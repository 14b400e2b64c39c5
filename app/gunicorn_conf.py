"""Gunicorn's settings and hooks; each line that is not obvious has its reason."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import sys
import threading
from importlib.util import find_spec
from typing import Any

from gunicorn.glogging import Logger

from app.errors import RetortError
from app.runtime.environment import ONE_THREAD
from app.server import Limits, RetortWorker
from app.server.addresses import require_free
from app.server.master import (
    SharedFlag,
    end_process_group,
    hold_signals_of_new_workers,
    keep_heartbeats_in_memory,
    keep_signals_inside,
    keep_steady_time,
    outlive_booted_workers,
    tell_workers_of_the_end,
    watch_frozen_workers,
)
from app.server.other_workers import OtherWorkers
from app.settings import Settings
from app.settings.readers import is_local
from app.telemetry.log_lines import configure_logging, log_standard_streams
from app.telemetry.process_state import give_large_blocks_back, watch

log = logging.getLogger("retort")

METRICS_REFRESH_S = 10.0
SILENT_BEYOND_REQUESTS_S = 3.0
"""Longest silence of a worker, beyond the time limit of a request. Gunicorn's own 30 s hold as well."""
COLLECT_AFTER_OBJECTS = 50_000
"""A request that waits keeps some hundred objects; Python would look at all of them after each 700 new ones."""

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
# Our own class waits for bytes outside of its threads, so that slow clients cost nobody else anything. It needs epoll.
worker_class = "app.server.RetortWorker" if _settings.worker == "retort" and hasattr(select, "epoll") else "gthread"
RetortWorker.limits = Limits(
    body_bytes=_settings.body_limit_bytes,
    upload_bytes=min(_settings.jobs_upload_bytes, _settings.jobs_bytes) if find_spec("huey") is not None else 0,
    upload_path="/jobs",
    request_timeout_s=_settings.request_timeout_s,
    drain_delay_s=_settings.drain_delay_s,
    queue_requests=_settings.queue_requests,
    queue_max_wait_s=_settings.queue_max_wait_ms / 1000,
    waiting_threads=_settings.waiting_threads,
    waiting_requests=_settings.waiting_requests,
)
# With gthread every open connection beyond its threads is a hidden queue; ours holds idle ones for next to nothing.
worker_connections = 10_000 if worker_class != "gthread" else 1000
if not os.environ.get("FORWARDED_ALLOW_IPS"):
    # By default Gunicorn trusts X-Forwarded-Proto and others from each client on this machine or on a Unix socket.
    # RETORT_TRUSTED_PROXIES decides instead, unless the operator sets Gunicorn's own variable.
    forwarded_allow_ips = forwarder_headers = ""
    secure_scheme_headers: dict[str, str] = {}
# Models are loaded once, in the master, and shared by the workers' memory.
preload_app = True
# No console for the master: it would be a thread and a socket before the fork.
control_socket_disable = True
# A platform kills 30 s after SIGTERM; be gone before.
graceful_timeout = 20
# Longer than the idle time of the proxies in front, which otherwise reuse a connection that was just closed.
keepalive = 75


class OneFormat(Logger):  # type: ignore[misc]  # Gunicorn ships no types
    """Gunicorn's logger, without handlers of its own: Retort's handler writes its lines in the common format."""

    def setup(self, cfg: Any) -> None:
        """Remove Gunicorn's handlers, which would print each line twice, and pass its records to the root logger."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.error_log.setLevel(_settings.log_level)


logger_class = OneFormat


def serving_app(application: Any) -> Any:
    """Return an application in the form that the worker serves. The factory is imported late, after the settings."""
    from app.factory import serving_app

    return serving_app(application)


def _applications() -> list[Any]:
    from app.factory import applications

    return applications()


RetortWorker.serving_app = staticmethod(serving_app)


def on_starting(server: Any) -> None:
    """Verify and load all models before the fork. Run none: a model that ran before `fork()` can hang in the child."""
    keep_steady_time()
    keep_heartbeats_in_memory()
    hold_signals_of_new_workers(server)
    RetortWorker.server_ends = staticmethod(tell_workers_of_the_end(server))
    outlive_booted_workers(server, _has_booted)
    watch_frozen_workers(server, _has_booted, _settings.request_timeout_s + SILENT_BEYOND_REQUESTS_S)
    give_large_blocks_back()
    require_free(server.cfg.address, server.cfg.reuse_port)
    server.app.wsgi()
    for app in _applications():
        try:
            app.extensions["retort_keys"].prepare(_public_addresses(server.cfg.address))
            app.extensions["retort"].load()
        except RetortError as error:
            raise SystemExit(f"retort: {error.detail}") from None
        app.extensions["retort_metrics"].share(server.cfg.workers)
        log.info("models: %s", app.extensions["retort"].summary())
    # A worker's garbage collector writes into the head of every object that it looks at, and so makes the pages that
    # it shares with the master its own. What is there now lives as long as the process: it need not look at it.
    gc.collect()
    gc.freeze()


def on_reload(server: Any) -> None:
    """Read the repository again in the master after SIGHUP, for the workers that it forks next.

    Running workers answer until they are replaced. Errors are logged, because they would end the master.
    """
    for app in _applications():
        try:
            app.extensions["retort"].reload()
        except RetortError as error:
            log.error("nothing is reloaded: %s", error.detail)
        except Exception:
            log.exception("nothing is reloaded")
        else:
            log.info("models: %s", app.extensions["retort"].summary())
    gc.collect()
    gc.freeze()


def _public_addresses(addresses: list[Any]) -> list[str]:
    """Return the addresses that other machines may reach; none if the settings allow that without a key."""
    if _settings.public or _settings.development:
        return []
    return [str(address[0]) for address in addresses if isinstance(address, tuple) and not is_local(str(address[0]))]


def when_ready(server: Any) -> None:
    """Log the URL of the documentation, and check the addresses again: inherited sockets are known only now."""
    for app in _applications():
        try:
            app.extensions["retort_keys"].check(
                _public_addresses([each.sock.getsockname() for each in server.LISTENERS])
            )
        except RetortError as error:
            raise SystemExit(f"retort: {error.detail}") from None
    log.info("documentation for people at %s/docs", _settings.url)


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the lowest free number. It continues the metrics of the last worker with this number."""
    worker.retort_booted = SharedFlag()
    worker.retort_numbers = [app.extensions["retort_metrics"].take() for app in _applications()]


def post_fork(server: Any, worker: Any) -> None:
    """Prepare the new worker process: garbage collection, signals, standard streams, and its own metrics."""
    keep_signals_inside()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    if not _settings.development:
        log_standard_streams()
    for app, number in _numbered(worker):
        app.extensions["retort_metrics"].begin(number)


def _numbered(worker: Any) -> list[tuple[Any, int | None]]:
    """Return each application with the number of the worker; None if a user's configuration replaced `pre_fork`."""
    made = _applications()
    return list(zip(made, getattr(worker, "retort_numbers", [None] * len(made)), strict=True))


def post_worker_init(worker: Any) -> None:
    """Run the recorded examples of each model in the worker; serve the models that give the recorded predictions."""
    # The application has read it. Gunicorn would look at it for each request, and answer 500 to paths without it. It
    # stays in the environment of the master, which may load the application again.
    os.environ.pop("SCRIPT_NAME", None)
    for app in _applications():
        app.extensions["retort_keys"].begin()
        app.extensions["retort"].prove()
        metrics = app.extensions["retort_metrics"]
        metrics.refresh()
        watch(metrics.refresh, METRICS_REFRESH_S, threading.Event())
        app.gateway.start()
    if not isinstance(worker, RetortWorker):  # RetortWorker calls `serving_app` itself
        worker.wsgi = OtherWorkers(serving_app(worker.wsgi))
        for listener in worker.sockets:
            # A child that a model forks would keep the port when the server has stopped.
            os.register_at_fork(after_in_child=listener.close)
    if hasattr(worker, "retort_booted"):
        worker.retort_booted.set()


def _has_booted(worker: Any) -> bool:
    """Return whether a worker has booted; False if a user's configuration replaced `pre_fork`."""
    return hasattr(worker, "retort_booted") and bool(worker.retort_booted.is_set())


def child_exit(server: Any, worker: Any) -> None:
    """Count the end of a worker in the master, end its processes, and tell the registry which versions were running."""
    end_process_group(worker.pid)
    for app, number in _numbered(worker):
        app.extensions["retort"].worker_crashed(app.extensions["retort_metrics"].ended(number))


def worker_exit(server: Any, worker: Any) -> None:
    """End a worker at once, because ONNX Runtime, loaded before the fork, aborts at the normal end of a child.

    Gunicorn calls this while an exception ends the worker, and the exception has the exit status. Gunicorn also calls
    it in the master if a worker that it wants to signal is gone already; the master must not end.
    """
    if worker.pid != os.getpid():
        child_exit(server, worker)
        return
    leaving = sys.exc_info()[1]
    for app in _applications():
        with contextlib.suppress(Exception):
            app.extensions["retort_metrics"].leave()
            app.extensions["retort_services"].close()
            app.gateway.close()
    status = leaving.code if isinstance(leaving, SystemExit) and isinstance(leaving.code, int) else 0
    logging.shutdown()
    os._exit(status & 0xFF)
