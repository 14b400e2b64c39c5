"""Between connections and the application: admits, runs, answers; keeps the deadlines of what runs."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from app.server import answers
from app.server.answers import Answer, Stamp
from app.server.bodies import Store
from app.server.clients import client_of
from app.server.connection import ANSWERING, WAITING, Connection
from app.server.deadlines import log_stack, timeout_s
from app.server.dispatch import Job, Pool, WSGIApplication, close_request
from app.server.gate import Gate
from app.server.journal import Journal
from app.server.limits import Limits
from app.server.parsing import Head, HeadReader
from app.server.quick import Quick
from app.server.refusals import Refusals
from app.server.stats import Stats

log = logging.getLogger(__name__)

TIMEOUT_KEY = "HTTP_X_REQUEST_TIMEOUT"


class Desk:
    """Serves the requests of all connections of one worker. Belongs to the loop's thread."""

    def __init__(self, worker: Any, app: WSGIApplication, limits: Limits, heads: HeadReader, stats: Stats) -> None:
        self.limits = limits
        self.heads = heads
        self.stats = stats
        self.stamp = Stamp()
        self.store = Store(limits.spool_bytes, limits.bodies_in_memory_bytes)
        self.keep_alive_s = float(worker.cfg.keepalive)
        self.draining = False
        self.unhealthy = False
        self.ready: deque[Connection] = deque()
        """Connections with more to do than fits into one turn of the loop."""
        self.pool = Pool(app, worker.cfg.threads, limits.answer_buffer_bytes, limits.waiting_idle_s)
        self.gate: Gate[Job] = Gate(worker.cfg.threads, limits.queue_requests, limits.queue_max_wait_s)
        self.waiting_gate: Gate[Job] = Gate(limits.waiting_threads, limits.queue_requests, limits.queue_max_wait_s)
        """Of requests that wait for others: they take no place from those that compute."""
        self._gates = (self.gate, self.waiting_gate)
        self.closed: Callable[[Connection], None] = lambda connection: None
        self._lane: Callable[[dict[str, Any]], Hashable] | None = getattr(app, "lane", None)
        self._waits: Callable[[dict[str, Any]], bool] | None = getattr(app, "waits", None)
        self._worker = worker
        self.journal = Journal(worker)
        words = getattr(app, "refusal", None)
        self.refusals = Refusals(limits, stats, self.stamp, self.journal, self._keeps, words)
        self.quick = Quick(self, app, lambda: worker.leaving)
        self._began: dict[Job, float] = {}
        """The jobs that threads run, and when each began."""
        self._look_s = math.inf
        stats.running = lambda: len(self._began)
        stats.queued = lambda: sum(gate.waiting for gate in self._gates)
        stats.queue_age = lambda now_s: max(gate.age_s(now_s) for gate in self._gates)

    # --- a request comes

    def serve(self, connection: Connection, head: Head, now_s: float) -> None:
        """Answers a request that has been read whole, here or later."""
        self.stats.requests += 1
        self._worker.count_request()
        environ = head.environ
        if self.draining:
            environ["retort.draining"] = True
        if not self.quick.takes(connection, head):
            self._admit(connection, head, now_s)

    def _keeps(self, connection: Connection, head: Head, now_s: float) -> bool:
        return (
            head.keep_alive
            and not self.draining
            and self.keep_alive_s > 0
            and connection.requests < connection.requests_at_most
            and now_s < connection.old_at_s
        )

    def send(self, connection: Connection, head: Head, answer: Answer, body: bytes, now_s: float) -> None:
        """Sends an answer that is known as a whole."""
        keeps = self._keeps(connection, head, now_s)
        self.stats.answered += 1
        stamp = self.stamp.keep_alive if keeps else self.stamp.close
        connection.answer(answers.head(answer, head.environ["SERVER_PROTOCOL"], stamp), body, keeps, now_s)

    def _job(self, connection: Connection, head: Head, now_s: float, answer: Answer) -> Job:
        limit_s, asked = self.limits.request_timeout_s, head.environ.get(TIMEOUT_KEY)
        within_s = limit_s if asked is None else min(limit_s, timeout_s(asked))
        job = Job(connection, head, answer, now_s, now_s + within_s)
        job.patience_s = limit_s - within_s
        head.environ["retort.deadline_s"] = job.deadline_s
        return job

    def _admit(self, connection: Connection, head: Head, now_s: float) -> None:
        job = self._job(connection, head, now_s, Answer(head.environ["REQUEST_METHOD"] == "HEAD"))
        try:
            job.waits = self._waits is not None and self._waits(head.environ)
            job.lane = self._lane(head.environ) if self._lane is not None and not job.waits else None
        except Exception:
            log.exception("the application's lane() or waits() failed")
        self._enter(job, now_s)

    def go_on_in_thread(
        self, connection: Connection, head: Head, answer: Answer, app_iter: Any, parts: Iterator[bytes], now_s: float
    ) -> None:
        """Takes over an answer that was begun on the loop's thread and is long."""
        job = self._job(connection, head, now_s, answer)
        job.app_iter, job.parts = app_iter, parts
        self._enter(job, now_s)

    def _gate_of(self, job: Job) -> Gate[Job]:
        return self.waiting_gate if job.waits else self.gate

    def _enter(self, job: Job, now_s: float) -> None:
        connection, gate = job.connection, self._gate_of(job)
        job.client = client_of(job.environ, connection.peer, self.heads.is_proxy)
        runs, crowding = gate.enter(job), None
        if runs is None and (crowding := gate.make_room(job.client)) is not None:
            runs = gate.enter(job)
        if runs is None:
            close_request(job.environ, job.app_iter)
            if gate.is_greedy(job.client):
                self.refusals.greedy(connection, job.head, gate.share(job.client), now_s)
            else:
                self.refusals.busy(connection, job.head, "queue_full", now_s)
            return
        self.stats.threaded += 1
        connection.job = job
        connection.deadline_s = math.inf
        if runs:
            self._start([job], now_s)
        if crowding is not None:
            close_request(crowding.environ, crowding.app_iter)
            crowding.connection.job = None
            self.refusals.greedy(crowding.connection, crowding.head, gate.share(crowding.client), now_s)
            self.again(crowding.connection)

    def _start(self, group: list[Job], now_s: float) -> None:
        for job in group:
            job.environ["retort.queued_s"] = now_s - job.queued_s
            job.ends_group = job is group[-1]
            self._began[job] = self.journal.began(job.head)
            self._look_s = min(self._look_s, job.deadline_s)
        self.pool.submit(group)

    # --- an answer comes from a thread

    def take(self, now_s: float) -> None:
        """Sends on what the threads have made, and gives their places to those that wait."""
        for job, part, last in self.pool.take():
            if last:
                began_s = self._began.pop(job)
                if job.ends_group and (following := self._gate_of(job).leave(job.lane)):
                    self._start(following, now_s)
                if self.journal.wanted and job.wanted and part is not None:  # else its refusal is what is told
                    self.journal.ended(job.head, job.answer, began_s)
            if job.wanted:
                try:
                    self._forward(job, part, last, now_s)
                except Exception:  # noqa: BLE001 - the top of a loop that must go on
                    self.broken(job.connection)
            elif last:
                self.stats.late += 1

    def _forward(self, job: Job, part: bytes | None, last: bool, now_s: float) -> None:
        connection, answer = job.connection, job.answer
        if part is None:
            if connection.state is ANSWERING:  # its head is gone out: only a cut can say that this is not the whole
                connection.abort()
            else:
                connection.job = None
                self.refusals.failed(connection, job.head, None, now_s)
                connection.resume(now_s)
            return
        if connection.state is WAITING:
            if last:
                connection.job = None  # a client that leaves now leaves nothing that waits or runs
                self.send(connection, job.head, answer, part, now_s)
                connection.resume(now_s)
                return
            self.stats.answered += 1
            framed = answer.chunked or answer.length_bytes is not None
            job.head.keep_alive = framed and self._keeps(connection, job.head, now_s)
            stamp = self.stamp.keep_alive if job.head.keep_alive else self.stamp.close
            first = answers.head(answer, job.environ["SERVER_PROTOCOL"], stamp)
        else:
            first = b""
        # A stream has its time for each part, not for all of them.
        self._extend(job, now_s)
        connection.answer(first, part, job.head.keep_alive, now_s, last)
        if last:
            connection.resume(now_s)

    def broken(self, connection: Connection) -> None:
        """After an error of the server's own: the connection is given up, and the others go on."""
        log.exception("a connection is closed because of an error in the server")
        connection.abort()

    def moved(self, job: Job, sent_bytes: int) -> None:
        """So much of an answer has gone out: its thread may go on."""
        job.sent_bytes += sent_bytes
        job.room.set()

    # --- clients that leave

    def left(self, connection: Connection) -> None:
        """The client is gone before its answer was sent whole."""
        self.stats.left += 1
        job = connection.job
        if job is None:
            return
        job.wanted = False
        job.room.set()
        # One that is being answered may have been run long ago: it is at the gate no more.
        if connection.state is WAITING and job not in self._began and not job.dropped:
            self._gate_of(job).drop(job)
            self.stats.dropped += 1
            close_request(job.environ, job.app_iter)

    def left_waiting(self, connection: Connection) -> None:
        """The client has ended its side while it waits: if its request is still queued, it is dropped."""
        if connection.job is not None and connection.job not in self._began:
            connection.abort()

    # --- time passes

    def next_look_s(self) -> float:
        """When `expire` should be called again."""
        return min(self._look_s, self.gate.next_expiry_s(), self.waiting_gate.next_expiry_s())

    def expire(self, now_s: float) -> None:
        """Refuses what waited too long, answers 504 for what runs too long, and finds threads that are stuck."""
        for gate in self._gates:
            if gate.next_expiry_s() <= now_s:
                self._expire_queue(gate, now_s)
        if self._look_s > now_s:
            return
        grace_s = self.limits.stuck_grace_s
        for job in list(self._began):
            if job.deadline_s <= now_s and job.wanted:
                if job.connection.is_sending:
                    # It waits for the client, who has a deadline of his own.
                    self._extend(job, now_s)
                    continue
                self._too_late(job, now_s)
            if job.deadline_s + job.patience_s + grace_s <= now_s and not job.stuck:
                job.stuck = self.unhealthy = True
                log_stack(job, now_s)
        self._look_s = min(
            (
                job.deadline_s + (0.0 if job.wanted else job.patience_s + grace_s)
                for job in self._began
                if not job.stuck
            ),
            default=math.inf,
        )

    def _extend(self, job: Job, now_s: float) -> None:
        job.deadline_s = now_s + self.limits.request_timeout_s
        job.patience_s = 0.0

    def _expire_queue(self, gate: Gate[Job], now_s: float) -> None:
        overdue, late = gate.expired(now_s)
        for job in overdue:
            close_request(job.environ, job.app_iter)
            job.connection.job = None
            self.refusals.busy(job.connection, job.head, "queue_wait", now_s)
            job.connection.resume(now_s)
        for job in late:
            close_request(job.environ, job.app_iter)
            self._too_late(job, now_s)

    def _too_late(self, job: Job, now_s: float) -> None:
        connection = job.connection
        job.wanted = False
        job.room.set()
        if connection.state is not WAITING:
            self.stats.refuse("deadline")
            connection.abort()
            return
        connection.job = None
        took_s = job.deadline_s - job.queued_s
        detail = f"the answer was not ready within {took_s:.3g} s"
        self.refusals.answer(connection, job.head, 504, "deadline", detail, now_s)
        connection.resume(now_s)

    def give_up(self, now_s: float) -> None:
        """At the end of a worker's time: whoever still waits is told so."""
        for job in [*self._began, *self.gate.everyone(), *self.waiting_gate.everyone()]:
            if job.wanted and job.connection.state is WAITING:
                job.wanted = False
                job.room.set()
                job.connection.job = None
                detail = "the server is shutting down and could not finish this request"
                self.refusals.answer(
                    job.connection, job.head, 503, "shutting-down", detail, now_s, self.limits.retry_after_s
                )

    def again(self, connection: Connection) -> None:
        """This connection is not done; it goes on in the next turn."""
        self.ready.append(connection)
