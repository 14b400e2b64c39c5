"""Between connections and the application: admits requests, runs them, sends their answers, keeps their deadlines."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from app.server import answers, refusals
from app.server.admission_queue import AdmissionQueue
from app.server.answers import Answer, CommonHeaders
from app.server.bodies import Store
from app.server.connection import ANSWERING, WAITING, Connection
from app.server.contract import Refusal, Response, ServedRequest, ServingApp
from app.server.limits import Limits
from app.server.parsing import Head, HeadReader, partial_environ
from app.server.pending import PendingRequest
from app.server.pool import Pool
from app.server.request_hooks import RequestHooks
from app.server.stats import Stats

log = logging.getLogger(__name__)


class Dispatcher:
    """Serves the requests of all connections of one worker: their `ConnectionEvents`. Belongs to the loop's thread."""

    def __init__(self, worker: Any, app: ServingApp, limits: Limits, heads: HeadReader, stats: Stats) -> None:
        self.limits = limits
        self.heads = heads
        self.stats = stats
        self.common = CommonHeaders()
        self.store = Store(limits.spool_bytes, limits.bodies_in_memory_bytes)
        self.keep_alive_s = float(worker.cfg.keepalive)
        self.is_draining = False
        self.has_stuck_thread = False
        self.ready: deque[Connection] = deque()
        """Connections with more to do than fits into one turn of the loop."""
        self.inline: list[PendingRequest] = []
        """Requests that were read in this turn, and run at its end."""
        self.pool = Pool(app, worker.cfg.threads, limits.answer_buffer_bytes, limits.waiting_idle_s)
        self.queue: AdmissionQueue[PendingRequest] = AdmissionQueue(
            worker.cfg.threads, limits.queue_requests, limits.queue_max_wait_s
        )
        self.blocking_queue: AdmissionQueue[PendingRequest] = AdmissionQueue(
            limits.waiting_threads, limits.queue_requests, limits.queue_max_wait_s
        )
        """Of requests that may block: they take no place from requests that compute."""
        self._queues = (self.queue, self.blocking_queue)
        self.on_closed: Callable[[Connection], None] = lambda connection: None
        self._app = app
        self._worker = worker
        self._hooks = RequestHooks(worker)
        self._running: set[PendingRequest] = set()
        self._look_s = math.inf
        stats.running = lambda: len(self._running)
        stats.queued = lambda: sum(queue.waiting for queue in self._queues)
        stats.queue_age = lambda now_s: max(queue.age_s(now_s) for queue in self._queues)

    # --- a request comes

    def on_request(self, connection: Connection, head: Head, now_s: float) -> None:
        """Admit a request that was read whole."""
        self.stats.requests += 1
        self._worker.count_request()
        try:
            request = self._app.admit(head.environ)
        except Exception:
            log.exception("a request could not be admitted")
            self.on_refused(connection, head, refusals.FAILED, now_s)
            return
        pending = connection.pending = PendingRequest(connection, head, request, now_s)
        if request.runs_inline:
            self.inline.append(pending)
        else:
            self._enter(pending, now_s)

    def run_inline(self, now_s: float) -> None:
        """Run the requests of this turn that run inline; those of one batch key together.

        Each part of the work is done for all of them before the next, which keeps the processor's caches warm: that
        costs a fraction of one after another.
        """
        requests, self.inline = self.inline, []
        # One whose client has left in this turn is no longer its connection's.
        requests = [pending for pending in requests if pending.connection.pending is pending]
        for group in _by_key(requests):
            if self._hooks.wanted:
                for pending in group:
                    pending.hooks_began_s = time.monotonic()
                    self._hooks.before(pending.head)
            try:
                responses = self._app.respond([pending.request for pending in group])
            except BaseException as error:
                if self._worker.leaving:
                    raise
                self._log_error(group[0], error)
                for pending in group:
                    self._finish(pending, None, now_s)
                continue
            if responses is None:
                for pending in group:
                    self._enter(pending, now_s)
                continue
            self.stats.inline += len(group)
            for pending, response in zip(group, responses, strict=True):
                self._finish(pending, response, now_s)

    def _finish(self, pending: PendingRequest, response: Response | None, now_s: float) -> None:
        """Send the answer to a request that ran inline; None: it failed."""
        connection, answer = pending.connection, pending.answer
        try:
            pending.close()
            connection.pending = None
            if response is None:
                self.on_refused(connection, pending.head, refusals.FAILED, now_s, pending.request)
            else:
                self._send_response(pending, response, answer, now_s)
            connection.resume(now_s)
        except Exception:  # noqa: BLE001 - the top of a loop that must go on
            self.give_up_connection(connection)

    def _send_response(self, pending: PendingRequest, response: Response, answer: Answer, now_s: float) -> None:
        try:
            if not isinstance(response.body, bytes):
                raise TypeError("the body of a request that runs inline is not whole")
            answer.start_response(answers.status_line(response.status), response.headers)
            body = answers.settle(answer, (response.body,))
        except Exception as error:  # noqa: BLE001 - it is logged
            self._log_error(pending, error)
            self.on_refused(pending.connection, pending.head, refusals.FAILED, now_s, pending.request)
            return
        self._send(pending.connection, pending.head, answer, body, now_s)
        self._hooks.after(pending.head, answer, pending.hooks_began_s)

    def _keeps_alive(self, connection: Connection, head: Head, now_s: float) -> bool:
        return (
            head.keep_alive
            and not self.is_draining
            and self.keep_alive_s > 0
            and connection.requests < connection.requests_at_most
            and now_s < connection.old_at_s
        )

    def _send(self, connection: Connection, head: Head, answer: Answer, body: bytes, now_s: float) -> None:
        """Send an answer that is known whole."""
        keeps = self._keeps_alive(connection, head, now_s)
        self.stats.answered += 1
        common = self.common.keep_alive if keeps else self.common.close
        connection.answer(answers.head(answer, head.environ["SERVER_PROTOCOL"], common), body, keeps, now_s)

    # --- threads

    def _queue_of(self, pending: PendingRequest) -> AdmissionQueue[PendingRequest]:
        return self.blocking_queue if pending.request.may_block else self.queue

    def _enter(self, pending: PendingRequest, now_s: float) -> None:
        connection, queue = pending.connection, self._queue_of(pending)
        pending.limit_time(self.limits.request_timeout_s)
        runs, removed = queue.enter(pending), None
        if runs is None and (removed := queue.make_room(pending.client)) is not None:
            runs = queue.enter(pending)
        if runs is None:
            self._drop(pending)
            refusal = refusals.queue_full(self.limits)
            if queue.over_fair_share(pending.client):
                refusal = refusals.over_fair_share(self.limits, queue.fair_share(pending.client))
            self.on_refused(connection, pending.head, refusal, now_s, pending.request)
            return
        self.stats.threaded += 1
        connection.deadline_s = math.inf
        if runs:
            self._start([pending], now_s)
        else:
            pending.is_queued = True
        if removed is not None:
            self._drop(removed)
            refusal = refusals.over_fair_share(self.limits, queue.fair_share(removed.client))
            self.on_refused(removed.connection, removed.head, refusal, now_s, removed.request)
            self.on_more(removed.connection)

    def _drop(self, pending: PendingRequest) -> None:
        """Forget a request that will not run."""
        pending.is_queued = False
        pending.close()
        pending.connection.pending = None

    def _start(self, group: list[PendingRequest], now_s: float) -> None:
        for pending in group:
            pending.is_queued, pending.is_running = False, True
            pending.request.queued_s = now_s - pending.arrived_s
            pending.ends_group = pending is group[-1]
            pending.hooks_began_s = time.monotonic()
            self._hooks.before(pending.head)
            self._running.add(pending)
            self._look_s = min(self._look_s, pending.deadline_s)
        self.pool.submit(group)

    def take_made(self, now_s: float) -> None:
        """Send on what the threads have made, and give their places to requests that wait."""
        for pending, part, last in self.pool.made():
            if last:
                self._running.discard(pending)
                pending.is_running = False
                if pending.ends_group and (following := self._queue_of(pending).leave(pending.batch_key)):
                    self._start(following, now_s)
                if pending.has_reader and part is not None:  # else the hooks see its refusal
                    self._hooks.after(pending.head, pending.answer, pending.hooks_began_s)
            if pending.has_reader:
                try:
                    self._forward(pending, part, last, now_s)
                except Exception:  # noqa: BLE001 - the top of a loop that must go on
                    self.give_up_connection(pending.connection)
            elif last:
                self.stats.late += 1

    def _forward(self, pending: PendingRequest, part: bytes | None, last: bool, now_s: float) -> None:
        connection, answer, head = pending.connection, pending.answer, pending.head
        if part is None:
            if connection.state is ANSWERING:  # its head has gone out: only a cut can say that this is not the whole
                connection.abort()
            else:
                connection.pending = None
                self.on_refused(connection, head, refusals.FAILED, now_s, pending.request)
                connection.resume(now_s)
            return
        if connection.state is WAITING:
            if last:
                connection.pending = None  # a client that leaves now leaves nothing that waits or runs
                self._send(connection, head, answer, part, now_s)
                connection.resume(now_s)
                return
            self.stats.answered += 1
            framed = answer.chunked or answer.length_bytes is not None
            head.keep_alive = framed and self._keeps_alive(connection, head, now_s)
            common = self.common.keep_alive if head.keep_alive else self.common.close
            first = answers.head(answer, head.environ["SERVER_PROTOCOL"], common)
        else:
            first = b""
        # A stream has its time for each part, not for all of them.
        self._extend(pending, now_s)
        connection.answer(first, part, head.keep_alive, now_s, last)
        if last:
            connection.resume(now_s)

    def give_up_connection(self, connection: Connection) -> None:
        """Close a connection after an error of the server's own; the others go on."""
        log.exception("a connection is closed because of an error in the server")
        connection.abort()

    # --- what connections tell

    def on_refused(
        self,
        connection: Connection,
        head: Head | None,
        refusal: Refusal,
        now_s: float,
        request: ServedRequest | None = None,
    ) -> None:
        """Answer a request that the worker itself refuses; the connection stays open if it was read whole."""
        self.stats.refuse(refusal.name.replace("-", "_"))
        connection.pending = None
        environ = head.environ if head is not None else partial_environ(connection.received)
        protocol = environ.get("SERVER_PROTOCOL", "HTTP/1.1")
        answer = Answer(is_head=environ["REQUEST_METHOD"] == "HEAD")
        try:
            response = self._app.refuse(environ, request, refusal)
            body = response.body if isinstance(response.body, bytes) else b""
            fields = [*response.headers, ("Content-Length", str(len(body)))]
            answer.start_response(answers.status_line(response.status), fields)
        except Exception:
            log.exception("a refusal could not be worded")
            answer = Answer(is_head=True)
            answer.start_response(answers.status_line(refusal.status), [("Content-Length", "0")])
            body = b""
        keeps = head is not None and connection.state is WAITING and self._keeps_alive(connection, head, now_s)
        common = self.common.keep_alive if keeps else self.common.close
        content = b"" if answer.is_head else body
        connection.answer(answers.head(answer, protocol, common), content, keeps, now_s)
        if head is not None:
            answer.sent = len(content)
            self._hooks.after(head, answer, time.monotonic())

    def on_sent(self, connection: Connection, size_bytes: int) -> None:
        """Note how much of an answer has gone out."""
        if connection.pending is not None:
            connection.pending.sent(size_bytes)

    def on_gone(self, connection: Connection) -> None:
        """Note that a client has left before its answer was sent whole."""
        self.stats.left += 1
        pending: PendingRequest | None = connection.pending
        if pending is None:
            return
        connection.pending = None
        pending.abandon()
        if pending.is_queued:
            self._queue_of(pending).remove(pending)
            self.stats.dropped += 1
        if not pending.is_running:
            pending.is_queued = False
            pending.close()

    def on_half_closed(self, connection: Connection) -> None:
        """Drop the request of a client that has ended its side while its request was still queued."""
        if connection.pending is not None and connection.pending.is_queued:
            connection.abort()

    def on_answer_timeout(self, connection: Connection) -> None:
        """Count a client that reads its answer too slowly."""
        self.stats.refuse("answer_timeout")

    def on_more(self, connection: Connection) -> None:
        """Go on with a connection in the next turn."""
        self.ready.append(connection)

    # --- time passes

    def next_look_s(self) -> float:
        """Return when `expire` should be called again."""
        return min(self._look_s, self.queue.next_expiry_s(), self.blocking_queue.next_expiry_s())

    def expire(self, now_s: float) -> None:
        """Refuse what waited too long, answer 504 for what runs too long, and find threads that are stuck."""
        for queue in self._queues:
            if queue.next_expiry_s() <= now_s:
                self._expire_queue(queue, now_s)
        if self._look_s > now_s:
            return
        grace_s = self.limits.stuck_grace_s
        for pending in list(self._running):
            if pending.deadline_s <= now_s and pending.has_reader:
                if pending.connection.is_sending:
                    # It waits for the client, who has a deadline of his own.
                    self._extend(pending, now_s)
                    continue
                self._too_late(pending, now_s)
            if pending.deadline_s + pending.stuck_allowance_s + grace_s <= now_s and not pending.is_stuck:
                pending.is_stuck = self.has_stuck_thread = True
                pending.log_stack(now_s)
        self._look_s = min(
            (
                pending.deadline_s + (0.0 if pending.has_reader else pending.stuck_allowance_s + grace_s)
                for pending in self._running
                if not pending.is_stuck
            ),
            default=math.inf,
        )

    def _extend(self, pending: PendingRequest, now_s: float) -> None:
        pending.deadline_s = now_s + self.limits.request_timeout_s
        pending.stuck_allowance_s = 0.0

    def _expire_queue(self, queue: AdmissionQueue[PendingRequest], now_s: float) -> None:
        overdue, late = queue.expired(now_s)
        for pending in overdue:
            self._drop(pending)
            self.on_refused(pending.connection, pending.head, refusals.queue_wait(self.limits), now_s, pending.request)
            pending.connection.resume(now_s)
        for pending in late:
            pending.is_queued = False
            pending.close()
            self._too_late(pending, now_s)

    def _too_late(self, pending: PendingRequest, now_s: float) -> None:
        connection = pending.connection
        pending.abandon()
        if connection.state is not WAITING:
            self.stats.refuse("deadline")
            connection.abort()
            return
        refusal = refusals.deadline(pending.deadline_s - pending.arrived_s)
        self.on_refused(connection, pending.head, refusal, now_s, pending.request)
        connection.resume(now_s)

    def refuse_all(self, now_s: float) -> None:
        """Refuse whatever still waits at the end of the worker's time."""
        for pending in [*self._running, *self.queue.clear(), *self.blocking_queue.clear()]:
            if pending.has_reader and pending.connection.state is WAITING:
                pending.abandon()
                refusal = refusals.shutting_down(self.limits)
                self.on_refused(pending.connection, pending.head, refusal, now_s, pending.request)

    def _log_error(self, pending: PendingRequest, error: BaseException) -> None:
        environ = pending.head.environ
        log.error("error in %s %r", environ["REQUEST_METHOD"], environ["RAW_URI"], exc_info=error)


def _by_key(requests: list[PendingRequest]) -> Iterator[list[PendingRequest]]:
    """Yield the groups of requests of one batch key, and each request without one alone."""
    groups: dict[Hashable, list[PendingRequest]] = {}
    for pending in requests:
        key = pending.request.batch_key
        if key is None:
            yield [pending]
        else:
            groups.setdefault(key, []).append(pending)
    yield from groups.values()
