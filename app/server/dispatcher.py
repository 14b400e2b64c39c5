"""The dispatcher between connections and application: it admits requests, runs inline ones, and sends all answers."""

from __future__ import annotations

import logging
import math
import re
import time
from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from app.server import answers, refusals
from app.server.answers import CommonHeaders, WsgiAnswer
from app.server.bodies import close_body
from app.server.connection import Connection
from app.server.contract import Environ, PlainApp, Refusal, Response, ServedRequest, ServingApp, Stats
from app.server.fairness import ClientTurns, take_waiting, work_until_s
from app.server.limits import Limits
from app.server.parsing import Head, partial_environ
from app.server.pending import PendingRequest
from app.server.request_hooks import RequestHooks
from app.server.threaded import ThreadedRequests

log = logging.getLogger(__name__)

SHORT_BODY_BYTES = 65536
"""A body of at most this length is read even if its request will be refused: the connection can then stay open."""
TIMEOUT_KEY = "HTTP_X_REQUEST_TIMEOUT"
TIMEOUT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s)?", re.ASCII)


class Dispatcher:
    """Dispatcher of the requests of all connections of one worker. Belongs to the loop's thread.

    Inline requests are collected during one turn of the loop and answered at its end. Requests of one batch key are
    answered in one call, which costs much less than a call for each.
    """

    def __init__(self, worker: Any, app: ServingApp, limits: Limits, stats: Stats) -> None:
        self.limits = limits
        self.stats = stats
        self.common_headers = CommonHeaders()
        self.draining = False
        self.inline: dict[Hashable, list[PendingRequest]] = {}
        """The inline requests of this turn of the loop, in groups by batch key. A request without a key is a group of
        its own."""
        self._inline_us = self._largest_us = 0.0
        self._over_budget: ClientTurns[tuple[PendingRequest, bool]] = ClientTurns()
        """Inline requests over the budgets of a turn, which go to the threads, and whether their client is over its
        own budget."""
        self.app = app
        self._worker = worker
        self._keep_alive_s = float(worker.cfg.keepalive)
        self._hooks = RequestHooks(worker)
        self.threads = ThreadedRequests(self, app, worker.cfg.threads, limits, stats, self._hooks)

    # --- events of connections

    def on_request(self, connection: Connection, head: Head, now_s: float) -> None:
        """Admit a request that was read whole."""
        self._worker.count_request()
        environ = head.environ
        try:
            request = self.app.admit(environ)
            hash((request.batch_key, request.client))  # both must be hashable: they become keys of dicts
        except BaseException:  # noqa: BLE001 - logged, or raised again
            self._log_failure(environ)
            close_body(environ)
            self.on_refused(connection, head, refusals.FAILED, now_s, may_keep=True)
            return
        timeout, limit_s = environ.get(TIMEOUT_KEY), self.limits.request_timeout_s
        allowed_s = limit_s if timeout is None else min(limit_s, timeout_s(timeout))
        answer = WsgiAnswer(environ["REQUEST_METHOD"] == "HEAD")
        pending = PendingRequest(connection, head, request, answer, now_s, now_s + allowed_s, limit_s - allowed_s)
        request.deadline_s = pending.deadline_s
        connection.pending = pending
        connection.client = request.client
        if request.runs_inline and not request.through_wsgi:
            self._collect(pending)
        else:
            self.threads.enter(pending, now_s)

    def on_body(self, connection: Connection, head: Head, now_s: float) -> bool:
        """Set the client of a request whose body is about to be read. Refuse it by its head, and return False then."""
        connection.client = head.environ.get("REMOTE_ADDR")
        answer = WsgiAnswer(head.environ["REQUEST_METHOD"] == "HEAD")
        try:
            client = self.app.client_of(head.environ)
            hash(client)
            connection.client = client
            if head.length_bytes is not None and head.length_bytes <= SHORT_BODY_BYTES:
                return True
            response = self.app.refuse_by_head(head.environ)
            if response is None:
                return True
            body = answers.whole_body(answer, response)
        except Exception:
            log.exception("the application's client_of() or refuse_by_head() failed")
            return True
        self.stats.refuse("by_head")
        self._send_refusal(connection, head, answer, body, now_s)
        return False

    def on_gone(self, connection: Connection) -> None:
        """Cancel the request of a client that is gone."""
        self.stats.left += 1
        pending = connection.pending
        if not isinstance(pending, PendingRequest):
            return
        group = self.inline.get(_group_key(pending), [])
        if pending in group:
            group.remove(pending)
            close_body(pending.environ)
        self.threads.cancel(pending)

    # --- inline requests

    def _collect(self, pending: PendingRequest) -> None:
        self.inline.setdefault(_group_key(pending), []).append(pending)
        self._inline_us += pending.request.inline_us
        self._largest_us = max(self._largest_us, pending.request.inline_us)

    @property
    def has_inline(self) -> bool:
        """Whether inline requests wait for `answer_inline`."""
        return bool(self.inline or self._over_budget)

    def answer_inline(self, now_s: float) -> None:
        """Answer the inline requests that were read, as far as the budgets and the time of one turn allow."""
        if self.inline:
            self._answer_within_budgets(now_s)
        for pending, client_is_over in take_waiting(self._over_budget):
            if pending.cancelled:
                close_body(pending.environ)
                continue
            self.threads.enter(pending, now_s, client_is_over)
            pending.connection.resume_later()

    def _answer_within_budgets(self, now_s: float) -> None:
        limits = self.limits
        if self._inline_us > limits.inline_client_us or self._largest_us > limits.inline_request_us:
            self._apply_budgets()
        groups, self.inline = self.inline, {}
        self._inline_us = self._largest_us = 0.0
        until_s, has_time = work_until_s(), True
        for group in groups.values():
            if not group:  # all its clients have left in this turn
                continue
            if has_time:
                self._answer_group(group, now_s)
                has_time = time.monotonic() < until_s
            else:
                for pending in group:
                    self._collect(pending)

    def _apply_budgets(self) -> None:
        """Keep the inline requests that fit into the budgets of a turn, fairly by client; move the others out."""
        limits, collected, self.inline = self.limits, self.inline, {}
        sums_us: defaultdict[Hashable, float] = defaultdict(float)
        ranked = []
        for pending in chain.from_iterable(collected.values()):
            sums_us[pending.request.client] += pending.request.inline_us
            ranked.append((sums_us[pending.request.client], pending))
        ranked.sort(key=itemgetter(0))
        turn_us = 0.0
        for client_us, pending in ranked:
            request_us, client_is_over = pending.request.inline_us, client_us > limits.inline_client_us
            if client_is_over or request_us > limits.inline_request_us or turn_us + request_us > limits.inline_turn_us:
                self._over_budget.append(pending.request.client, (pending, client_is_over))
            else:
                turn_us += request_us
                self._collect(pending)

    def _answer_group(self, group: list[PendingRequest], now_s: float) -> None:
        began_s = now_s
        if self._hooks.are_configured:
            for pending in group:
                self._hooks.before(pending.head)
            began_s = time.monotonic()
        responses: Sequence[Response | None] | None
        try:
            responses = self.app.respond([pending.request for pending in group])
            if responses is not None and len(responses) != len(group):
                raise ValueError(f"respond() returned {len(responses)} responses for {len(group)} requests")
        except BaseException:  # noqa: BLE001 - logged, or raised again
            self._log_failure(group[0].environ)
            responses = [None] * len(group)
        if responses is None:
            for pending in group:
                self.threads.enter(pending, now_s)
            return
        for pending, response in zip(group, responses, strict=True):
            try:
                self._answer(pending, response, began_s, now_s)
                pending.connection.resume(now_s)
            except Exception:  # noqa: BLE001 - the loop must continue after any error
                self.close_broken(pending.connection)

    def _answer(self, pending: PendingRequest, response: Response | None, began_s: float, now_s: float) -> None:
        self.stats.inline += 1
        environ = pending.environ
        close_body(environ)
        if response is not None:
            try:
                body = answers.whole_body(pending.answer, response)
            except Exception:  # noqa: BLE001 - logged, or raised again
                self._log_failure(environ)
            else:
                self.send(pending, body, now_s)
                self._hooks.after(pending.head, pending.answer, began_s)
                return
        self.refuse(pending, refusals.FAILED, now_s)

    # --- answers

    def send(self, pending: PendingRequest, part: bytes, now_s: float, last: bool = True) -> None:
        """Send the head of an answer with the first (or only) part of its body."""
        connection, head, answer = pending.connection, pending.head, pending.answer
        has_end = last or answer.chunked or answer.length_bytes is not None
        head.keep_alive = has_end and self._keeps(connection, head, now_s)
        if last:
            connection.pending = None  # if the client leaves now, there is no request to cancel
        self.stats.answered += 1
        common = self.common_headers.keep_alive if head.keep_alive else self.common_headers.close
        first = answers.head(answer, head.environ["SERVER_PROTOCOL"], common)
        connection.answer(first, part, head.keep_alive, now_s, last)

    def refuse(self, pending: PendingRequest, refusal: Refusal, now_s: float) -> None:
        """Answer an admitted request with a refusal; its connection stays open."""
        pending.connection.pending = None
        self.on_refused(pending.connection, pending.head, refusal, now_s, pending.request, may_keep=True)

    def close_broken(self, connection: Connection) -> None:
        """Close a connection after an error in the server itself, and log the exception that is being handled."""
        log.exception("a connection is closed because of an error in the server")
        connection.abort()

    def on_refused(
        self,
        connection: Connection,
        head: Head | None,
        refusal: Refusal,
        now_s: float,
        request: ServedRequest | None = None,
        may_keep: bool = False,
    ) -> None:
        """Refuse a request. Close the connection unless its further bytes can still be parsed (`may_keep`)."""
        self.stats.refuse(refusal.name.replace("-", "_"))
        environ = head.environ if head is not None else partial_environ(connection.received, connection.peer)
        try:
            answer = WsgiAnswer(environ["REQUEST_METHOD"] == "HEAD")
            body = answers.whole_body(answer, self.app.refuse(environ, request, refusal))
        except Exception:
            log.exception("the application's refuse() failed")
            answer = WsgiAnswer(environ["REQUEST_METHOD"] == "HEAD")
            body = answers.whole_body(answer, PlainApp(self.app).refuse(environ, request, refusal))
        self._send_refusal(connection, head, answer, body, now_s, may_keep)

    def _send_refusal(
        self,
        connection: Connection,
        head: Head | None,
        answer: WsgiAnswer,
        body: bytes,
        now_s: float,
        may_keep: bool = False,
    ) -> None:
        keeps = may_keep and head is not None and self._keeps(connection, head, now_s)
        common = self.common_headers.keep_alive if keeps else self.common_headers.close
        protocol = "HTTP/1.1" if head is None else head.environ["SERVER_PROTOCOL"]
        first = answers.head(answer, protocol, common)
        connection.answer(first, body, keeps, now_s)
        if head is not None:
            self._hooks.after(head, answer, now_s)

    def _keeps(self, connection: Connection, head: Head, now_s: float) -> bool:
        return (
            head.keep_alive
            and not self.draining
            and self._keep_alive_s > 0
            and connection.requests < connection.requests_at_most
            and now_s < connection.old_at_s
        )

    def _log_failure(self, environ: Environ) -> None:
        """Log the current exception; raise it again if it ends this process."""
        if self._worker.leaving:
            raise  # noqa: PLE0704 - all callers are handling an exception
        log.exception("error in %s %r", environ["REQUEST_METHOD"], environ["RAW_URI"])


def _group_key(pending: PendingRequest) -> Hashable:
    key = pending.request.batch_key
    return pending if key is None else key


def timeout_s(value: str) -> float:
    """Parse X-Request-Timeout: seconds (`1.5`, `1.5s`) or milliseconds (`50ms`); infinity if it is invalid."""
    match = TIMEOUT.fullmatch(value.strip())
    return math.inf if match is None else float(match[1]) / (1000.0 if match[2] == "ms" else 1.0)
