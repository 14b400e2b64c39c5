"""Threads and coroutines that run requests. Some threads stay; more start when no thread is free, and end when idle.

A thread never touches a socket, and the loop never waits for a thread: a thread puts the parts of an answer into a
queue for `Pool.take`, and wakes the loop by an eventfd.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue

from app.server import answers
from app.server.answers import LAST_CHUNK, allowed_part, chunk, complete_body
from app.server.bodies import close_body
from app.server.contract import Response, ServingApp
from app.server.fairness import take_waiting
from app.server.pending import PendingRequest

log = logging.getLogger(__name__)

SLICE_S = 0.02
"""Time for which a stream makes parts before other requests have their turn."""


class ElasticPool:
    """Threads, one for each group of requests that runs. The caller limits their number; `kept` idle threads stay.

    All methods belong to the loop's thread. The threads are daemons, so that a hanging thread cannot keep the process
    running.
    """

    def __init__(self, work: Callable[[list[PendingRequest]], None], kept: int, idle_s: float) -> None:
        self._work = work
        self._kept = kept
        self._idle_s = idle_s
        self._inbox: SimpleQueue[list[PendingRequest] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._busy = 0
        """Number of groups that were submitted and have not ended."""
        self._threads: set[threading.Thread] = set()
        self._numbers = itertools.count(1)
        for _ in range(kept):
            self._start()

    def submit(self, group: list[PendingRequest]) -> None:
        """Give a group to a free thread, or to a new one; if the system gives no more threads, to the next free one."""
        with self._lock:
            self._busy += 1
            needs_thread = self._busy > len(self._threads)
        self._inbox.put(group)
        if needs_thread:
            try:
                self._start()
            except RuntimeError as error:
                log.warning("a request waits for a thread: %s", error)

    def ended(self) -> None:
        """Count a group as ended: its thread is free, or will be soon."""
        with self._lock:
            self._busy -= 1

    def _start(self) -> None:
        thread = threading.Thread(target=self._live, name=f"retort-request-{next(self._numbers)}", daemon=True)
        thread.start()
        self._threads.add(thread)

    def close(self, deadline_s: float) -> None:
        """End each thread when it is free, and wait for the threads until the deadline."""
        threads = list(self._threads)
        for _ in threads:
            self._inbox.put(None)
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _live(self) -> None:
        try:
            while (group := self._next()) is not None:
                self._work(group)
                del group  # otherwise this thread would keep it in memory while it waits for the next group
        finally:
            self._threads.discard(threading.current_thread())

    def _next(self) -> list[PendingRequest] | None:
        while True:
            try:
                return self._inbox.get(timeout=self._idle_s)
            except Empty:
                with self._lock:
                    if len(self._threads) > max(self._kept, self._busy):
                        self._threads.discard(threading.current_thread())
                        return None


class Pool:
    """Pool of threads, one for each group of requests. The admission queues limit how many run at once.

    The threads start after the fork. `submit`, `take` and `close` belong to the loop's thread.
    """

    def __init__(self, app: ServingApp, threads: int, buffer_bytes: int, idle_s: float) -> None:
        self._app = app
        self._buffer_bytes = buffer_bytes
        self._made: deque[tuple[PendingRequest, bytes | None, bool]] = deque()
        self._awake = False
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._threads = ElasticPool(self._run_group, threads, idle_s)
        self.submit = self._threads.submit

    def take(self) -> Iterator[tuple[PendingRequest, bytes | None, bool]]:
        """Yield the results of the threads: request, part, whether it is the last.

        If the part is None, the request failed; if it is also not the last part, its thread is paused.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)
        self._awake = False
        for pending, part, last in take_waiting(self._made):
            if last and pending.ends_group and not pending.is_awaited:
                self._threads.ended()
            yield pending, part, last
        if self._made:
            self._wake()

    def close(self, timeout_s: float) -> None:
        """End the threads that are free before the timeout, and close the eventfd."""
        self._threads.close(time.monotonic() + timeout_s)
        self._awake = True  # so that no thread writes to the eventfd
        os.close(self.wake_fd)

    # --- in the threads

    def put(self, pending: PendingRequest, part: bytes | None, last: bool) -> None:
        """Pass a part of an answer to the loop. Any thread may call this."""
        self._made.append((pending, part, last))
        if not self._awake:
            self._wake()

    def _wake(self) -> None:
        self._awake = True
        with contextlib.suppress(OSError):
            os.eventfd_write(self.wake_fd, 1)

    def _run_group(self, group: list[PendingRequest]) -> None:
        for pending in group:
            pending.thread_id = threading.get_ident()
            if pending.request.is_stream:
                self._pause(pending)
        through_wsgi = group[0].request.through_wsgi
        responses: dict[PendingRequest, Response] = {}
        if not through_wsgi:
            result = self._respond([pending for pending in group if not pending.cancelled])
            through_wsgi, responses = result is None, result or {}
        # Send whole answers first: they must not wait for the reader of a stream.
        in_order = sorted(group, key=lambda pending: _is_streamed(responses.get(pending)))
        in_order[-1].ends_group = True
        for pending in in_order:
            part: bytes | None = None
            try:
                part = self._make(pending, responses.get(pending), through_wsgi)
            except BaseException:
                log.exception("error in %s %r", pending.environ["REQUEST_METHOD"], pending.environ["RAW_URI"])
            self.put(pending, part, last=True)

    def _respond(self, group: list[PendingRequest]) -> dict[PendingRequest, Response] | None:
        """Call `respond` for a group; return an empty dict if it failed, None if the group goes through WSGI."""
        if not group:
            return {}
        try:
            responses = self._app.respond([pending.request for pending in group])
            return None if responses is None else dict(zip(group, responses, strict=True))
        except BaseException:
            environ = group[0].environ
            log.exception("error in %s %r", environ["REQUEST_METHOD"], environ["RAW_URI"])
            return {}

    def _make(self, pending: PendingRequest, response: Response | None, through_wsgi: bool) -> bytes | None:
        """Make an answer, from its response or through WSGI; return its last part, or None if `respond` failed."""
        answer = pending.answer
        body: Iterable[bytes] | bytes = response.body if response is not None else ()
        try:
            if pending.cancelled:  # the client has left or has got a 504
                return b""
            if through_wsgi:
                body = self._app(pending.environ, answer.start_response)
                if isinstance(body, list | tuple):
                    return complete_body(answer, [*(answer.written or ()), *body])
                return self._stream(pending, answers.in_order(answer, body))
            if response is None:
                return None
            if isinstance(body, bytes):
                return answers.whole_body(answer, response)
            answers.set_head(answer, response)
            return self._stream(pending, body)
        finally:
            try:
                answers.close(body)
            finally:
                close_body(pending.environ)

    def _stream(self, pending: PendingRequest, parts: Iterable[bytes]) -> bytes:
        """Send each part when it is made; return the last one."""
        answer = pending.answer
        slice_ends_s = time.monotonic() + SLICE_S
        for part in parts:
            piece = allowed_part(answer, part)
            if not answer.started:
                if not answer.status:
                    raise AssertionError("the application did not call start_response")
                speaks_1_1 = pending.environ["SERVER_PROTOCOL"] != "HTTP/1.0"
                answer.chunked = answer.length_bytes is None and not answer.omits_body and speaks_1_1
            if pending.cancelled:
                return b""
            if answer.omits_body or (answer.length_bytes is not None and answer.sent >= answer.length_bytes):
                return piece
            if piece:
                answer.started = True
                framed = chunk(piece) if answer.chunked else piece
                pending.made_bytes += len(framed)
                self.put(pending, framed, last=False)
                if pending.unread_bytes > self._buffer_bytes or time.monotonic() >= slice_ends_s:
                    if not self._pause(pending):
                        return b""
                    slice_ends_s = time.monotonic() + SLICE_S
        if not answer.started:
            answer.chunked = False
            return complete_body(answer, [])
        if answer.length_bytes is not None:
            raise AssertionError(f"the application declared {answer.length_bytes} bytes and gave {answer.sent}")
        return LAST_CHUNK if answer.chunked else b""

    def _pause(self, pending: PendingRequest) -> bool:
        """Wait until this stream may continue, because its client has read enough and it has a place.

        Returns:
            False if the stream was cancelled meanwhile.
        """
        pending.may_continue = may_continue = threading.Event()
        self.put(pending, None, last=False)
        if not pending.cancelled:
            may_continue.wait()
        return not pending.cancelled


def _is_streamed(response: Response | None) -> bool:
    return response is not None and not isinstance(response.body, bytes)


class Coroutines:
    """Requests that run as coroutines. `submit` and `start` belong to the loop's thread, the rest to the event loop's.

    Requests are passed on once in each turn of the loop, and answers once in each turn of the event loop. If the two
    threads woke each other for each request, they would spend much of their time waiting for the interpreter's lock.
    `put` is `Pool.put`.
    """

    def __init__(self, app: ServingApp, put: Callable[[PendingRequest, bytes | None, bool], None]) -> None:
        self._app = app
        self._put = put
        self._submitted: list[PendingRequest] = []
        self._answered: list[tuple[PendingRequest, bytes | None]] = []

    def submit(self, pending: PendingRequest) -> None:
        """Keep a request for the next `start`, and set its `stop`, which cancels the coroutine."""
        pending.stop = partial(self._app.call_soon, partial(_cancel, pending))
        self._submitted.append(pending)

    def start(self) -> None:
        """Start the submitted requests."""
        if self._submitted:
            submitted, self._submitted = self._submitted, []
            self._app.call_soon(partial(self._begin, submitted))

    def _begin(self, submitted: list[PendingRequest]) -> None:
        for pending in submitted:
            pending.thread_id = threading.get_ident()
            pending.task = asyncio.create_task(self._answer(pending))

    async def _answer(self, pending: PendingRequest) -> None:
        part: bytes | None = None
        try:
            if pending.cancelled:
                part = b""
                return
            response = await self._app.respond_async(pending.request)
            if response is None:
                pending.needs_thread = True
            else:
                part = answers.whole_body(pending.answer, response)
        except BaseException:
            if not pending.cancelled:
                log.exception("error in %s %r", pending.environ["REQUEST_METHOD"], pending.environ["RAW_URI"])
        finally:
            if not pending.needs_thread:
                close_body(pending.environ)
            pending.stop = pending.task = None
            if not self._answered:
                asyncio.get_running_loop().call_soon(self._hand_back)
            self._answered.append((pending, part))

    def _hand_back(self) -> None:
        answered, self._answered = self._answered, []
        for pending, part in answered:
            self._put(pending, part, True)


def _cancel(pending: PendingRequest) -> None:
    if pending.task is not None:
        pending.task.cancel()
