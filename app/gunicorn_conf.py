"""Gunicorn's settings and hooks, with the reason for each line that is not obvious."""

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
"""A worker is ended if it sends no heartbeat for this much longer than a request may take. Gunicorn also ends a worker
after its own `timeout`, 30 s."""
COLLECT_AFTER_OBJECTS = 50_000
"""New objects that start a garbage collection. A waiting request keeps about a hundred objects. With Python's default
of 700, the collector would look at them far too often."""

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
# Retort's own class waits for bytes outside of its threads, so that slow clients delay no other client. It needs epoll.
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
# With gthread, open connections beyond its threads are a hidden queue. In Retort's class, idle connections cost little.
worker_connections = 10_000 if worker_class != "gthread" else 1000
if not os.environ.get("FORWARDED_ALLOW_IPS"):
    # By default Gunicorn trusts X-Forwarded-Proto and similar fields from all clients on this machine or a Unix socket.
    # RETORT_TRUSTED_PROXIES decides instead, unless the operator sets Gunicorn's own variable.
    forwarded_allow_ips = forwarder_headers = ""
    secure_scheme_headers: dict[str, str] = {}
# Load models once, in the master. The workers share that memory.
preload_app = True
# No control socket for the master: it would need a thread and a socket before the fork.
control_socket_disable = True
# Platforms kill a server 30 s after SIGTERM: end before that.
graceful_timeout = 20
# Longer than the idle time of the proxies in front. Otherwise a proxy could reuse a connection that was just closed.
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
    """Verify and load all models before the fork, but run none: a model that ran before `fork()` can hang in the child.

    Before that, prepare the master and check the addresses.
    """
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
    # A worker's garbage collector writes into the head of every object that it looks at. So the kernel would copy the
    # memory pages that the worker shares with the master. All present objects live as long as the process: skip them.
    gc.collect()
    gc.freeze()


def on_reload(server: Any) -> None:
    """Read the repository again in the master after SIGHUP, for the workers that it forks next.

    Running workers answer until they are replaced. An error is only logged: it would end the master.
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
    """Return the addresses that other machines can reach; none if the settings allow public addresses without a key."""
    if _settings.public or _settings.development:
        return []
    return [str(address[0]) for address in addresses if isinstance(address, tuple) and not is_local(str(address[0]))]


def when_ready(server: Any) -> None:
    """Log the URL of the documentation, and check the addresses again: inherited sockets are known only now."""
    for app in _applications():
        try:
            app.extensions["retort_keys"].check(
                _public_addresses([listener.sock.getsockname() for listener in server.LISTENERS])
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
    for app, number in _applications_with_numbers(worker):
        app.extensions["retort_metrics"].begin(number)


def _applications_with_numbers(worker: Any) -> list[tuple[Any, int | None]]:
    """Return each application with the number of the worker; None if a user's configuration replaced `pre_fork`."""
    apps = _applications()
    return list(zip(apps, getattr(worker, "retort_numbers", [None] * len(apps)), strict=True))


def post_worker_init(worker: Any) -> None:
    """Run the recorded examples of each model in the worker; serve the models that give the recorded predictions."""
    # The application has read SCRIPT_NAME. Gunicorn would read it at each request, and answer 500 to paths without this
    # prefix. It stays in the environment of the master, which may load the application again.
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
            # Otherwise a child that a model forks would keep the port open after the server has stopped.
            os.register_at_fork(after_in_child=listener.close)
    if hasattr(worker, "retort_booted"):
        worker.retort_booted.set()


def _has_booted(worker: Any) -> bool:
    """Return whether a worker has booted; False if a user's configuration replaced `pre_fork`."""
    return hasattr(worker, "retort_booted") and bool(worker.retort_booted.is_set())


def child_exit(server: Any, worker: Any) -> None:
    """Count the end of a worker in the master, end its processes, and pass its running versions to the registry."""
    end_process_group(worker.pid)
    for app, number in _applications_with_numbers(worker):
        app.extensions["retort"].worker_crashed(app.extensions["retort_metrics"].ended(number))


def worker_exit(server: Any, worker: Any) -> None:
    """End a worker at once, because ONNX Runtime, loaded before the fork, aborts at the normal end of a child.

    Gunicorn calls this while an exception ends the worker; the exit status is in the exception. Gunicorn also calls it
    in the master, if a worker has ended before the master could signal it. The master must not end.
    """
    if worker.pid != os.getpid():
        child_exit(server, worker)
        return
    cause = sys.exc_info()[1]
    for app in _applications():
        with contextlib.suppress(Exception):
            app.extensions["retort_metrics"].leave()
            app.extensions["retort_services"].close()
            app.gateway.close()
    status = cause.code if isinstance(cause, SystemExit) and isinstance(cause.code, int) else 0
    logging.shutdown()
    os._exit(status & 0xFF)
