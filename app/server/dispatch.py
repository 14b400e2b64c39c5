"""Runs the application: on the loop's thread what is quick, in a pool of threads all else.

A thread never touches a socket and the loop never waits for a thread: what a thread makes is put where `Pool.take`
finds it, and the loop is woken by an eventfd.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from app.server.answers import LAST_CHUNK, Answer, chunk
from app.server.parsing import Head
from app.server.spare import SpareThreads

if TYPE_CHECKING:
    from app.server.connection import Connection

log = logging.getLogger(__name__)

Whole = tuple[bytes, list[tuple[str, str]]]
"""The body and the headers of a 200."""
Together = Callable[[list[dict[str, Any]]], "list[Whole | None]"]
"""Answers several requests of one lane at once; None for those to be answered alone."""
WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]
INLINE_PARTS = 64
"""An answer that was begun on the loop's thread and has more parts than this goes on in a thread."""
ROOM_LOOK_S = 1.0


class Job:
    """One request that a thread runs, from the gate to the last byte of its answer.

    `made_bytes` is written by the thread and `sent_bytes` by the loop, so that neither needs a lock.
    """

    __slots__ = (
        "answer",
        "app_iter",
        "client",
        "connection",
        "deadline_s",
        "dropped",
        "ends_group",
        "environ",
        "head",
        "lane",
        "made_bytes",
        "parts",
        "patience_s",
        "queued_s",
        "room",
        "sent_bytes",
        "started_s",
        "stuck",
        "thread_id",
        "waits",
        "wanted",
    )

    def __init__(self, connection: Connection, head: Head, answer: Answer, queued_s: float, deadline_s: float) -> None:
        self.connection = connection
        self.head = head
        self.environ = head.environ
        self.answer = answer
        self.queued_s = queued_s
        self.deadline_s = deadline_s
        self.patience_s = 0.0  # how much longer than its client the server waits for its thread
        self.lane: Hashable = None
        self.client: Hashable = None
        self.waits = False  # for others than this process, in a thread of its own
        self.ends_group = True  # with its answer its thread is free
        self.dropped = False  # it will never run
        self.wanted = True  # False: nobody reads what it makes
        self.started_s = 0.0
        self.thread_id = 0
        self.stuck = False
        self.app_iter: Iterable[bytes] | None = None  # both are set where it was begun on the loop's thread
        self.parts: Iterator[bytes] | None = None
        self.made_bytes = 0
        self.sent_bytes = 0
        self.room = threading.Event()


def content_of(answer: Answer, part: bytes) -> bytes:
    """What of a part goes on the wire: nothing where no body is allowed, never more than was declared."""
    if not isinstance(part, bytes):
        raise TypeError(f"a part of the body is a {type(part).__name__}, not bytes")
    if answer.omits_body:
        return b""
    if answer.length_bytes is not None and answer.sent + len(part) > answer.length_bytes:
        part = part[: answer.length_bytes - answer.sent]
    answer.sent += len(part)
    return part


def in_order(answer: Answer, app_iter: Iterable[bytes]) -> Iterator[bytes]:
    """The parts of a body as they are due: what was given to `write` before what is returned after it."""
    for part in app_iter:
        if answer.written:
            written, answer.written = answer.written, None
            yield from written
        yield part
    if answer.written:
        yield from answer.written


def settle(answer: Answer, parts: list[bytes]) -> bytes:
    """The body of an answer that is known as a whole; the head gets its length where the application gave none.

    Raises:
        AssertionError: the application broke the protocol.
    """
    if not answer.status:
        raise AssertionError("the application did not call start_response")
    body = content_of(answer, parts[0] if len(parts) == 1 else b"".join(parts))
    if answer.length_bytes is None:
        if not answer.omits_body:
            answer.headers = [*answer.headers, ("Content-Length", str(len(body)))]
            answer.length_bytes = len(body)
    elif answer.sent < answer.length_bytes and not answer.omits_body:
        raise AssertionError(f"the application declared {answer.length_bytes} bytes and gave {answer.sent}")
    return body


def close_request(environ: dict[str, Any], app_iter: Any) -> None:
    """What PEP 3333 asks for at the end, whatever happened; and a body that is in a file is given back."""
    try:
        if hasattr(app_iter, "close"):
            app_iter.close()
    finally:
        body = environ.get("wsgi.input")
        if body is not None and not isinstance(body, io.BytesIO):
            body.close()


class Pool:
    """Threads that run jobs; started after the fork, daemons, so that one that hangs cannot keep the process.

    `submit`, `take`, `rest` and `close` are the loop's.
    """

    def __init__(self, app: WSGIApplication, threads: int, buffer_bytes: int, waiting_idle_s: float) -> None:
        self._app = app
        self._together: Together | None = getattr(app, "together", None)
        self._buffer_bytes = buffer_bytes
        self._inbox: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._made: deque[tuple[Job, bytes | None, bool]] = deque()
        self._awake = False
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._spare: SpareThreads[list[Job]] = SpareThreads(self._run_group, waiting_idle_s)
        self._threads = [
            threading.Thread(target=self._work, name=f"retort-request-{number}", daemon=True)
            for number in range(1, threads + 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, group: list[Job]) -> None:
        """Hands a group of jobs to a thread that is free; one that waits for others, to a thread for such."""
        if group[0].waits:
            try:
                self._spare.submit(group)
                return
            except RuntimeError as error:
                log.warning("a request that waits for others is run beside those that compute: %s", error)
        self._inbox.put(group)

    def take(self) -> Iterator[tuple[Job, bytes | None, bool]]:
        """What the threads have made since the last time: job, part, whether it is the last; no part: it failed."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)
        self._awake = False
        while self._made:
            yield self._made.popleft()

    def rest(self) -> None:
        """Lets the threads that are free end."""
        for _ in self._threads:
            self._inbox.put(None)
        self._spare.rest()

    def close(self, timeout_s: float) -> None:
        """Waits a moment for the threads and frees the eventfd."""
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._spare.close(deadline_s, time.monotonic)
        self._awake = True  # from now on nobody writes to it
        os.close(self.wake_fd)

    def _tell(self, job: Job, part: bytes | None, last: bool) -> None:
        self._made.append((job, part, last))
        if not self._awake:
            self._awake = True
            with contextlib.suppress(OSError):
                os.eventfd_write(self.wake_fd, 1)

    def _work(self) -> None:
        while (group := self._inbox.get()) is not None:
            self._run_group(group)
            del group  # else this thread keeps the requests alive while it waits for the next

    def _run_group(self, group: list[Job]) -> None:
        started_s = time.monotonic()
        for job in group:
            job.started_s = started_s
            job.thread_id = threading.get_ident()
        shared = self._shared(group)
        for job in group:
            try:
                self._tell(job, self._run(job, shared.get(job)), last=True)
            except BaseException:
                log.exception("error in %s %r", job.environ["REQUEST_METHOD"], job.environ["RAW_URI"])
                self._tell(job, None, last=True)

    def _shared(self, group: list[Job]) -> dict[Job, Whole | None]:
        """The answers of a group that are found at once."""
        several = [job for job in group if job.wanted]
        try:
            if self._together is not None and len(several) > 1:
                return dict(zip(several, self._together([job.environ for job in several]), strict=True))
        except BaseException:
            log.exception("the application's together() failed")
        return {}

    def _run(self, job: Job, whole: Whole | None) -> bytes:
        app_iter = job.app_iter
        try:
            if not job.wanted:  # while others of its group ran, its client was told that it is too late, or left
                return b""
            if whole is not None:
                return settled(job.answer, whole)
            if app_iter is None:
                app_iter = self._app(job.environ, job.answer.start_response)
                if isinstance(app_iter, list | tuple):
                    return settle(job.answer, [*(job.answer.written or ()), *app_iter])
            return self._stream(job, job.parts or in_order(job.answer, app_iter))
        finally:
            close_request(job.environ, app_iter)

    def _stream(self, job: Job, parts: Iterator[bytes]) -> bytes:
        """Sends the parts on as they come; returns the last."""
        answer = job.answer
        for part in parts:
            piece = content_of(answer, part)
            if not answer.started:
                if not answer.status:
                    raise AssertionError("the application did not call start_response")
                answer.chunked = answer.length_bytes is None and not answer.omits_body and _speaks_1_1(job.environ)
            if not job.wanted:
                return b""
            if answer.omits_body or (answer.length_bytes is not None and answer.sent >= answer.length_bytes):
                return piece
            if piece:
                answer.started = True
                framed = chunk(piece) if answer.chunked else piece
                self._tell(job, framed, last=False)
                self._wait_for_room(job, len(framed))
        if not answer.started:
            answer.chunked = False
            return settle(answer, [])
        if answer.length_bytes is not None:
            raise AssertionError(f"the application declared {answer.length_bytes} bytes and gave {answer.sent}")
        return LAST_CHUNK if answer.chunked else b""

    def _wait_for_room(self, job: Job, piece_bytes: int) -> None:
        job.made_bytes += piece_bytes
        while job.wanted and job.made_bytes - job.sent_bytes > self._buffer_bytes:
            job.room.clear()
            if job.made_bytes - job.sent_bytes > self._buffer_bytes and job.wanted:
                job.room.wait(ROOM_LOOK_S)


def settled(answer: Answer, whole: Whole) -> bytes:
    """The body of an answer that was found together with others."""
    content, headers = whole
    answer.start_response("200 OK", headers)
    return settle(answer, [content])


def _speaks_1_1(environ: dict[str, Any]) -> bool:
    return bool(environ["SERVER_PROTOCOL"] != "HTTP/1.0")


def begin_inline(app: WSGIApplication, environ: dict[str, Any], answer: Answer) -> tuple[Any, Iterator[bytes] | bytes]:
    """Runs a quick request: what the application returned, and its body or, where it is long, an iterator of it."""
    app_iter = app(environ, answer.start_response)
    if type(app_iter) is list and answer.written is None:
        return app_iter, settle(answer, app_iter)
    source = in_order(answer, app_iter)
    parts = list(itertools.islice(source, INLINE_PARTS + 1))
    if len(parts) > INLINE_PARTS:
        return app_iter, itertools.chain(parts, source)
    return app_iter, settle(answer, parts)
