"""Runs requests in threads, through the application's own way or through WSGI.

A thread never touches a socket and the loop never waits for a thread: the thread puts what it made where `Pool.made`
finds it, and wakes the loop by an eventfd.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from queue import SimpleQueue

from app.server.answers import LAST_CHUNK, Answer, chunk, content_of, settle, status_line
from app.server.contract import Response, ServingApp
from app.server.elastic_pool import ElasticPool
from app.server.pending import PendingRequest

log = logging.getLogger(__name__)

ROOM_LOOK_S = 1.0
Made = tuple[PendingRequest, bytes | None, bool]
"""A request, a part of its answer (None: it failed), and whether that is the last."""


class Pool:
    """The threads of one worker; started after the fork, daemons, so that one that hangs does not keep the process.

    `submit`, `made`, `stop_idle` and `close` are the loop's.
    """

    def __init__(self, app: ServingApp, threads: int, buffer_bytes: int, elastic_idle_s: float) -> None:
        self._app = app
        self._buffer_bytes = buffer_bytes
        self._inbox: SimpleQueue[list[PendingRequest] | None] = SimpleQueue()
        self._made: deque[Made] = deque()
        self._awake = False
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._elastic: ElasticPool[list[PendingRequest]] = ElasticPool(self._run_group, elastic_idle_s)
        self._threads = [
            threading.Thread(target=self._work, name=f"retort-request-{number}", daemon=True)
            for number in range(1, threads + 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, group: list[PendingRequest]) -> None:
        """Hand a group to a thread that is free; one that may block, to a thread of its own."""
        if group[0].request.may_block:
            try:
                self._elastic.submit(group)
                return
            except RuntimeError as error:
                log.warning("a request that may block runs beside those that compute: %s", error)
        self._inbox.put(group)

    def made(self) -> Iterator[Made]:
        """Yield what the threads have made since the last time."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)
        self._awake = False
        while self._made:
            yield self._made.popleft()

    def stop_idle(self) -> None:
        """Let the threads that are free end."""
        for _ in self._threads:
            self._inbox.put(None)
        self._elastic.stop_idle()

    def close(self, timeout_s: float) -> None:
        """Wait a moment for the threads and free the eventfd."""
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._elastic.close(deadline_s, time.monotonic)
        self._awake = True  # from now on nobody writes to it
        os.close(self.wake_fd)

    def _deliver(self, pending: PendingRequest, part: bytes | None, last: bool) -> None:
        self._made.append((pending, part, last))
        if not self._awake:
            self._awake = True
            with contextlib.suppress(OSError):
                os.eventfd_write(self.wake_fd, 1)

    def _work(self) -> None:
        while (group := self._inbox.get()) is not None:
            self._run_group(group)
            del group  # else this thread keeps the requests alive while it waits for the next

    def _run_group(self, group: list[PendingRequest]) -> None:
        started_s = time.monotonic()
        for pending in group:
            pending.started_s, pending.thread_id = started_s, threading.get_ident()
        responses = self._respond([pending for pending in group if pending.has_reader])
        for pending in group:
            try:
                part = self._answer(pending, responses.get(pending)) if pending in responses else b""
                self._deliver(pending, part, last=True)
            except BaseException:
                environ = pending.head.environ
                log.exception("error in %s %r", environ["REQUEST_METHOD"], environ["RAW_URI"])
                self._deliver(pending, None, last=True)

    def _respond(self, group: Sequence[PendingRequest]) -> dict[PendingRequest, Response | BaseException | None]:
        """Return the responses of a group; None for a request that goes through WSGI."""
        if not group or group[0].request.through_wsgi:
            return dict.fromkeys(group)
        try:
            responses = self._app.respond([pending.request for pending in group])
        except BaseException as error:  # noqa: BLE001 - each of its requests fails, and is logged
            return dict.fromkeys(group, error)
        return dict.fromkeys(group) if responses is None else dict(zip(group, responses, strict=True))

    def _answer(self, pending: PendingRequest, response: Response | BaseException | None) -> bytes:
        """Deliver the parts of an answer; return the last."""
        answer = pending.answer
        parts: Iterable[bytes] | None = None
        try:
            if isinstance(response, BaseException):
                raise response
            if response is not None:
                answer.start_response(status_line(response.status), response.headers)
                if isinstance(response.body, bytes):
                    return settle(answer, [response.body])
                parts = response.body
                return self._stream(pending, iter(parts))
            parts = self._app(pending.head.environ, answer.start_response)
            if isinstance(parts, list | tuple):
                return settle(answer, [*(answer.written or ()), *parts])
            return self._stream(pending, in_order(answer, parts))
        finally:
            pending.close(parts)

    def _stream(self, pending: PendingRequest, parts: Iterator[bytes]) -> bytes:
        answer = pending.answer
        pending.room = threading.Event()
        for part in parts:
            piece = content_of(answer, part)
            if not answer.started:
                if not answer.status:
                    raise AssertionError("the application did not call start_response")
                speaks_1_1 = pending.head.environ["SERVER_PROTOCOL"] != "HTTP/1.0"
                answer.chunked = answer.length_bytes is None and not answer.omits_body and speaks_1_1
            if not pending.has_reader:
                return b""
            if answer.omits_body or (answer.length_bytes is not None and answer.sent >= answer.length_bytes):
                return piece
            if piece:
                answer.started = True
                framed = chunk(piece) if answer.chunked else piece
                self._deliver(pending, framed, last=False)
                self._wait_for_room(pending, pending.room, len(framed))
        if not answer.started:
            answer.chunked = False
            return settle(answer, [])
        if answer.length_bytes is not None:
            raise AssertionError(f"the application declared {answer.length_bytes} bytes and gave {answer.sent}")
        return LAST_CHUNK if answer.chunked else b""

    def _wait_for_room(self, pending: PendingRequest, room: threading.Event, piece_bytes: int) -> None:
        pending.made_bytes += piece_bytes
        while pending.has_reader and pending.made_bytes - pending.sent_bytes > self._buffer_bytes:
            room.clear()
            if pending.made_bytes - pending.sent_bytes > self._buffer_bytes and pending.has_reader:
                room.wait(ROOM_LOOK_S)


def in_order(answer: Answer, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of a body as they are due: what was given to `write` before what is returned after it."""
    for part in parts:
        if answer.written:
            written, answer.written = answer.written, None
            yield from written
        yield part
    if answer.written:
        yield from answer.written
