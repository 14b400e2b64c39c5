"""The worker class that Gunicorn runs."""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import select
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

from gunicorn.workers.base import Worker

from app.server.contract import PlainApp, ServingApp, Stats, WSGIApplication
from app.server.dispatcher import Dispatcher
from app.server.lifecycle import Lifecycle, Phase, Reason
from app.server.limits import Limits
from app.server.loop import Loop
from app.server.request_hooks import call_logged

log = logging.getLogger(__name__)

NOTIFY_S = 1.0
KILLED_BEFORE_S = 2.0
"""Time from the end of a stopping worker to the moment when Gunicorn would kill it."""
THREADS_END_S = 0.5
"""Longest wait for the threads at the end of a worker."""
EXIT_S = 5.0
"""Longest time for the interpreter to end while a thread still runs."""
OTHER_DESCRIPTORS = 256
"""Descriptors that a worker needs for anything but connections."""
SPARE_DESCRIPTORS = 8
"""Descriptors that a worker must always be able to open, for example to read a file."""
SWITCH_S = 0.0001
"""Python's switch interval: the loop asks a computing thread for the interpreter's lock after this time. Python's
default is 0.005."""


class RetortWorker(Worker):  # type: ignore[misc]  # Gunicorn ships no types
    """One worker process: a loop and a pool of `threads`."""

    limits: ClassVar[Limits] = Limits()
    """Set before the fork: `RetortWorker.limits = Limits(...)` in Gunicorn's configuration file."""
    serving_app: ClassVar[Callable[[WSGIApplication], ServingApp]] = PlainApp
    """Function that makes the served application from the WSGI application that Gunicorn loaded. Set like `limits`."""
    server_ends: ClassVar[Callable[[], bool]] = lambda: False
    """Function that returns whether the server stops and no other process serves its listeners afterwards. Set like
    `limits`; see `master`."""

    leaving = False
    _loop: Loop | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse settings that this worker does not support, before the fork."""
        wrong = []
        if cfg.is_ssl:
            wrong.append("certfile and keyfile: TLS is ended by the proxy in front")
        if "h2" in cfg.http_protocols or cfg.http2_cleartext not in (None, "", "off", False, [], ()):
            wrong.append("http_protocols and http2_cleartext: HTTP/2 is ended by the proxy in front")
        if cfg.protocol != "http":
            wrong.append(f"protocol {cfg.protocol!r}: only http is spoken")
        if not hasattr(select, "epoll") or not hasattr(os, "eventfd"):
            wrong.append("worker_class: epoll and eventfd are Linux's; elsewhere use gthread")
        if wrong:
            raise SystemExit("gunicorn: this worker class does not take these settings: " + "; ".join(wrong))

    def count_request(self) -> None:
        """Count one more request. At `max_requests` the worker begins to stop."""
        self.nr += 1
        if self.nr >= self.max_requests and self._loop is not None:
            self._stop(self._loop, Reason.RECYCLED, time.monotonic())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: stop in the next turn of the loop, which the signal wakes."""
        self.alive = False

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGQUIT and SIGINT: end at once."""
        self.leaving = True
        super().handle_quit(sig, frame)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """SIGABRT: the master has received no heartbeat from this worker for too long."""
        self.leaving = True
        faulthandler.dump_traceback()
        super().handle_abort(sig, frame)

    def init_process(self) -> None:
        """Prepare this process and serve. The base class runs models first, so set up the interpreter before that."""
        sys.setswitchinterval(SWITCH_S)
        super().init_process()

    def run(self) -> None:
        """Serve until the end of this process."""
        limits, stats = self.limits, Stats()
        # An awaited request has two connections: its client's, and one to a service.
        _allow_descriptors(self.cfg.worker_connections + limits.waiting_requests + OTHER_DESCRIPTORS)
        app = type(self).serving_app(self.wsgi)
        app.started(stats.snapshot)
        dispatcher = Dispatcher(self, app, limits, stats)
        longest_s = min(limits.drain_timeout_s, self.cfg.graceful_timeout - KILLED_BEFORE_S)
        life = Lifecycle(limits.drain_delay_s, max(0.0, longest_s), limits.idle_at_stop_s, type(self).server_ends)
        listeners = [listener.sock for listener in self.sockets]
        for listener in listeners:
            listener.setblocking(False)
        loop = self._loop = Loop(listeners, self.PIPE[0], dispatcher, life, self.cfg)
        os.register_at_fork(after_in_child=loop.close_in_child)
        loop.accept_from(listening=True)
        notified_s = float("-inf")
        now_s = time.monotonic()
        while loop.step(now_s) is not Phase.OVER:
            if now_s - notified_s >= NOTIFY_S:
                self.notify()
                notified_s = now_s
                call_logged("the application's observe()", app.observe)
                if self.ppid != os.getppid():
                    self._stop(loop, Reason.ORPHANED, now_s)
                elif lacks_descriptors(self.PIPE[0], len(loop.connections)):
                    self._stop(loop, Reason.LEAKED, now_s)
            now_s = loop.turn(now_s)
            if not self.alive:
                self._stop(loop, Reason.TERMINATED, now_s)
            elif dispatcher.threads.has_stuck_thread:
                self._stop(loop, Reason.STUCK, now_s)
        loop.close()
        call_logged("the application's observe()", app.observe)
        self.alive = False
        dispatcher.threads.pool.close(THREADS_END_S)
        if stats.running():
            # The interpreter does not wait for our threads, but may wait for threads that a model has started.
            faulthandler.dump_traceback_later(EXIT_S, exit=True)

    def _stop(self, loop: Loop, reason: Reason, now_s: float) -> None:
        if not loop.life.stop(reason, now_s):
            return
        log.info("worker %s stops: %s", self.pid, reason.value)
        loop.dispatcher.draining = True
        if reason is Reason.RECYCLED and self.cfg.max_requests:
            self.log.info("Autorestarting worker after current request.")
        call_logged("the application's draining()", loop.dispatcher.app.draining)


def lacks_descriptors(descriptor: int, connections: int) -> bool:
    """Return whether this process cannot open more files, although its connections take less than half of the limit.

    The cause is a model that leaves files or sockets open. `descriptor` is any open descriptor.
    """
    if 2 * connections >= resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        return False
    opened: list[int] = []
    try:
        for _ in range(SPARE_DESCRIPTORS):
            opened.append(os.dup(descriptor))
    except OSError:
        return True
    finally:
        for duplicate in opened:
            os.close(duplicate)
    return False


def _allow_descriptors(count: int) -> None:
    """Raise the soft limit of open files to `count`, or as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
