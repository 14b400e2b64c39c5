"""Requests in threads or coroutines: queue them, start them, send their parts, and refuse them at their deadlines."""

from __future__ import annotations

import logging
import math
import sys
import time
import traceback
from collections import Counter
from collections.abc import Hashable
from typing import Protocol

from app.server import refusals
from app.server.bodies import close_body
from app.server.connection import ANSWERING, WAITING, Connection
from app.server.contract import Refusal, ServingApp, Stats
from app.server.fairness import AdmissionQueue, work_until_s
from app.server.limits import Limits
from app.server.pending import PendingRequest
from app.server.pool import Coroutines, Pool
from app.server.request_hooks import RequestHooks

log = logging.getLogger(__name__)

MANY_AWAITED = 64
"""If at least this many requests wait by `await`, the loop pauses briefly to collect answers and next requests."""


class Responder(Protocol):
    """Sender of answers and refusals, which the dispatcher implements."""

    def send(self, pending: PendingRequest, part: bytes, now_s: float, last: bool = True) -> None:
        """Send the head of an answer with the first (or only) part of its body."""

    def refuse(self, pending: PendingRequest, refusal: Refusal, now_s: float) -> None:
        """Answer with a refusal."""

    def close_broken(self, connection: Connection) -> None:
        """Close a connection after an error in the server itself."""


class ThreadedRequests:
    """The requests of one worker that wait for a place, or run in a thread or as a coroutine.

    Belongs to the loop's thread.
    """

    def __init__(
        self, responder: Responder, app: ServingApp, threads: int, limits: Limits, stats: Stats, hooks: RequestHooks
    ) -> None:
        self.pool = Pool(app, threads, limits.answer_buffer_bytes, limits.waiting_idle_s)

        def queue(places: int) -> AdmissionQueue:
            return AdmissionQueue(places, limits.queue_requests, limits.queue_max_wait_s)

        self.queue = queue(threads)
        self.inline_queue = queue(min(threads, limits.computing_cores))
        """Queue for inline requests over their budgets, which only compute."""
        self.blocking_queue = queue(limits.waiting_threads)
        """Queue for requests that may block. They take no place from requests that compute."""
        self.awaited_queue = queue(limits.waiting_requests)
        """Queue for requests that wait by `await`. They need no thread."""
        self.stream_queue = queue(min(threads, limits.computing_cores))
        """Queue for streams between their slices. Each stream also has a place among the requests that may block."""
        self._queues = (self.queue, self.inline_queue, self.blocking_queue, self.awaited_queue)
        self._awaited_of: Counter[Hashable] = Counter()
        """Number of running awaited requests, by client."""
        self._coroutines = Coroutines(app, self.pool.put)
        self.start_coroutines = self._coroutines.start
        self.has_stuck_thread = False
        self._has_awaited_answer = False
        self._responder = responder
        self._limits = limits
        self._stats = stats
        self._hooks = hooks
        self._running: set[PendingRequest] = set()
        self._next_check_s = math.inf
        stats.running = lambda: len(self._running)
        stats.queued = lambda: sum(queue.waiting for queue in self._queues)
        stats.queue_age = lambda now_s: max(queue.age_s(now_s) for queue in self._queues)

    # --- to a thread

    def enter(self, pending: PendingRequest, now_s: float, over_budget: bool = False) -> None:
        """Start a request, queue it, or refuse it. With `over_budget`, its client has more than its share."""
        request = pending.request
        pending.client = request.client
        pending.is_awaited = request.is_awaited and not pending.needs_thread
        pending.is_inline = request.runs_inline and not request.through_wsgi
        # Requests that may block or go through WSGI run alone.
        pending.batch_key = None if request.may_block or request.through_wsgi else request.batch_key
        queue = self._queue_of(pending)
        if pending.is_awaited and self._awaited_of[pending.client] >= self._limits.waiting_requests_of_client:
            self._refuse(pending, refusals.over_client_share(self._limits.waiting_requests_of_client), now_s)
            return
        runs, displaced = queue.enter(pending), None
        if runs is None and (displaced := queue.make_room(pending.client)) is not None:
            runs = queue.enter(pending)
        if runs is None:
            is_over = over_budget or queue.over_fair_share(pending.client)
            share = queue.fair_share(pending.client)
            self._refuse(pending, refusals.over_fair_share(share) if is_over else refusals.QUEUE_FULL, now_s)
            return
        if pending.is_awaited:
            self._stats.awaited += 1
        else:
            self._stats.threaded += 1
        pending.connection.deadline_s = math.inf
        pending.is_queued = not runs
        if runs:
            self._start([pending], now_s)
        if displaced is not None:
            self._refuse(displaced, refusals.over_fair_share(queue.fair_share(displaced.client)), now_s)
            displaced.connection.resume_later()

    def _queue_of(self, pending: PendingRequest) -> AdmissionQueue:
        if pending.is_awaited:
            return self.awaited_queue
        if pending.request.may_block:
            return self.blocking_queue
        return self.inline_queue if pending.is_inline else self.queue

    def _start(self, group: list[PendingRequest], now_s: float) -> None:
        for pending in group:
            pending.is_queued = False
            pending.began_s = now_s
            pending.request.queued_s = now_s - pending.arrived_s
            self._hooks.before(pending.head)
            pending.has_place = not pending.request.may_block
            self._running.add(pending)
            self._next_check_s = min(self._next_check_s, pending.deadline_s)
        if group[0].is_awaited:
            self._awaited_of[group[0].client] += 1
            group[0].ends_group = True
            self._coroutines.submit(group[0])
        else:
            self.pool.submit(group)

    # --- streams, which leave their place while other requests have their turn

    def _pause(self, pending: PendingRequest, now_s: float) -> None:
        """Release the place of a stream until its client has read enough and it is its turn again."""
        if pending.has_place and pending.request.is_stream:
            self._leave_place(pending, now_s)
        pending.on_read = self._retry_place
        self._retry_place(pending)

    def _leave_place(self, pending: PendingRequest, now_s: float) -> None:
        pending.has_place = False
        self._run_next(self.stream_queue, pending, now_s)

    def _run_next(self, queue: AdmissionQueue, leaving: PendingRequest, now_s: float) -> None:
        following = queue.leave(leaving.batch_key)
        if following and following[0].began_s:
            self._continue_stream(following[0])
        elif following:
            self._start(following, now_s)

    def _retry_place(self, pending: PendingRequest) -> None:
        """Let a stream continue if its client has read enough and it has or gets a place."""
        if pending.cancelled:
            pending.continue_streaming()
        elif pending.unread_bytes <= self._limits.answer_buffer_bytes:
            pending.on_read = None
            pending.is_queued = pending.request.is_stream and not self.stream_queue.rejoin(pending)
            if not pending.is_queued:
                self._continue_stream(pending)

    def _continue_stream(self, pending: PendingRequest) -> None:
        pending.is_queued = False
        if pending.request.is_stream:
            self._extend(pending, time.monotonic())  # waiting for the client or a place does not use up its time
        pending.has_place = not pending.request.may_block or pending.request.is_stream
        pending.continue_streaming()

    # --- from a thread

    def take(self, now_s: float) -> None:
        """Send the results of the threads, and start queued requests in free places."""
        for pending, part, last in self.pool.take():
            if part is None and not last:
                self._pause(pending, now_s)
                continue
            if last:
                self._running.discard(pending)
                if pending.request.is_stream and pending.has_place:
                    self._leave_place(pending, now_s)
                if pending.is_awaited:
                    self._forget_awaited(pending)
                if pending.ends_group:
                    self._run_next(self._queue_of(pending), pending, now_s)
                if pending.is_awaited and pending.needs_thread and not pending.cancelled:
                    self.enter(pending, now_s)
                    continue
                if not pending.cancelled and part is not None:  # otherwise the hooks see its refusal
                    self._hooks.after(pending.head, pending.answer, pending.began_s)
            if not pending.cancelled:
                try:
                    self._forward(pending, part, last, now_s)
                except Exception:  # noqa: BLE001 - the loop must continue after any error
                    self._responder.close_broken(pending.connection)
            elif last:
                self._stats.late += 1

    def awaits_many(self) -> bool:
        """Return whether many requests wait by `await`, and one was answered since the last call."""
        has_answer, self._has_awaited_answer = self._has_awaited_answer, False
        return has_answer and self.awaited_queue.running >= MANY_AWAITED

    def _forget_awaited(self, pending: PendingRequest) -> None:
        self._has_awaited_answer = True
        self._awaited_of[pending.client] -= 1
        if not self._awaited_of[pending.client]:
            del self._awaited_of[pending.client]  # otherwise the counter would keep every client

    def _forward(self, pending: PendingRequest, part: bytes | None, last: bool, now_s: float) -> None:
        connection = pending.connection
        if part is None and connection.state is ANSWERING:
            connection.abort()  # the head is sent, so only a cut connection shows that the answer is incomplete
            return
        if part is None:
            self._responder.refuse(pending, refusals.FAILED, now_s)
        else:
            if not last:
                self._extend(pending, now_s)  # the time limit of a stream holds for each part
            if connection.state is WAITING:
                self._responder.send(pending, part, now_s, last)
            else:
                connection.answer(b"", part, pending.head.keep_alive, now_s, last)
        if last:
            connection.resume(now_s)

    # --- the end of a request

    def cancel(self, pending: PendingRequest) -> None:
        """Forget a request whose client is gone."""
        pending.cancel()
        if not pending.is_queued:
            return
        self._dequeue(pending)
        if not pending.began_s:
            self._stats.dropped += 1
            close_body(pending.environ)

    def _dequeue(self, pending: PendingRequest) -> None:
        (self.stream_queue if pending.began_s else self._queue_of(pending)).remove(pending)
        pending.is_queued = False

    def next_check_s(self) -> float:
        """Return when `expire` should be called again."""
        return min(self._next_check_s, *[queue.next_expiry_s for queue in self._queues])

    def expire(self, now_s: float) -> None:
        """Refuse requests that have waited too long or run too long, and find stuck threads."""
        for queue in self._queues:
            if queue.next_expiry_s <= now_s:
                self._expire_queue(queue, now_s)
        if self._next_check_s > now_s:
            return
        until_s = work_until_s()
        for pending in list(self._running):
            if pending.deadline_s <= now_s and not pending.cancelled:
                if pending.connection.unsent:
                    self._extend(pending, now_s)  # the request waits for its client, which has a deadline of its own
                    continue
                self._refuse_late(pending, now_s)
                if time.monotonic() >= until_s:
                    return  # check the rest in the next turn of the loop
            if not pending.is_stuck and self._stuck_at_s(pending) <= now_s:
                pending.is_stuck = self.has_stuck_thread = True
                log_stack(pending, now_s)
        running = [pending for pending in self._running if not pending.is_stuck]
        checks_s = [self._stuck_at_s(one) if one.cancelled else one.deadline_s for one in running]
        self._next_check_s = min(checks_s, default=math.inf)

    def _stuck_at_s(self, pending: PendingRequest) -> float:
        """Return when the thread of a request counts as stuck unless it makes progress.

        Between the deadline and this time it is only late.
        """
        since_s = max(pending.deadline_s + pending.stuck_allowance_s, pending.request.progressed_s)
        return since_s + self._limits.stuck_grace_s

    def _extend(self, pending: PendingRequest, now_s: float) -> None:
        """Restart the time limit of a request."""
        pending.deadline_s = pending.request.deadline_s = now_s + self._limits.request_timeout_s
        pending.stuck_allowance_s = 0.0

    def _expire_queue(self, queue: AdmissionQueue, now_s: float) -> None:
        until_s = work_until_s()
        for pending in queue.take_expired(now_s):
            if pending.deadline_s <= now_s:
                close_body(pending.environ)
                self._refuse_late(pending, now_s)
            else:
                self._refuse(pending, refusals.QUEUE_WAIT, now_s)
                pending.connection.resume_later()
            if time.monotonic() >= until_s:
                return

    def _refuse_late(self, pending: PendingRequest, now_s: float) -> None:
        connection = pending.connection
        if pending.began_s and pending.is_queued:
            self._dequeue(pending)
        pending.is_queued = False
        if connection.state is not WAITING:
            pending.cancel()
            self._stats.refuse("deadline")
            connection.abort()
            return
        # Interceptors see only the first answer to a request. So send the refusal before the thread is stopped.
        self._responder.refuse(pending, refusals.deadline(pending.deadline_s - pending.arrived_s), now_s)
        pending.cancel()
        connection.resume(now_s)

    def _refuse(self, pending: PendingRequest, refusal: Refusal, now_s: float) -> None:
        """Refuse a request that has not run and is no longer queued."""
        pending.is_queued = False
        close_body(pending.environ)
        self._responder.refuse(pending, refusal, now_s)

    def shut_down(self, now_s: float) -> None:
        """Refuse all unanswered requests at the end of the worker's time."""
        for pending in [*self._running, *(waiting for queue in self._queues for waiting in queue.clear())]:
            pending.is_queued = False
            if not pending.cancelled and pending.connection.state is WAITING:
                self._responder.refuse(pending, refusals.SHUTTING_DOWN, now_s)
                pending.cancel()


def log_stack(pending: PendingRequest, now_s: float) -> None:
    """Log the stack of a stuck thread."""
    frame = sys._current_frames().get(pending.thread_id)
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "(it has just ended)"
    log.error(
        "a request thread is stuck: no progress for %.1f s in %s %r; this worker will be replaced. Its stack:\n%s",
        now_s - max(pending.began_s, pending.request.progressed_s),
        pending.environ["REQUEST_METHOD"],
        pending.environ["RAW_URI"],
        stack,
    )
