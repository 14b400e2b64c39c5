"""One client's connection: reads requests off it, writes answers to it, and never waits.

The socket is registered with epoll once, edge-triggered, for everything; so whoever stops reading before the kernel has
no more must remember that (`readable`).
"""

from __future__ import annotations

import enum
import io
import logging
import random
import select
import socket
from collections.abc import Callable
from typing import Any, Protocol

from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize, ParseException

from app.server import refusals
from app.server.bodies import ChunkedBody, LengthBody, Sink, Store, TooLong, TooManyChunks
from app.server.contract import Refusal
from app.server.limits import Limits
from app.server.outbox import Outbox
from app.server.parsing import Head, HeadReader, Peer, trailers

log = logging.getLogger(__name__)

READ_BYTES = 65536
READS_PER_TURN = 4
PIPELINED_PER_TURN = 32
LINGER_AT_MOST = 10
"""In `linger_s`: how long a client that goes on sending is listened to."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MALFORMED = (ParseException, ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize)
BROKEN = select.EPOLLERR | select.EPOLLHUP
INPUT = select.EPOLLIN | select.EPOLLRDHUP
OUTPUT = select.EPOLLOUT
ENDED = select.EPOLLRDHUP


class State(enum.IntEnum):
    """Where a connection is; in the order of a request's life."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    WAITING = 3
    ANSWERING = 4
    LINGERING = 5
    CLOSED = 6


# An attribute of an enum costs as much as the rest of a comparison.
IDLE, HEAD, BODY, WAITING, ANSWERING, LINGERING, CLOSED = State


class ConnectionEvents(Protocol):
    """What a connection tells, and what all connections of a worker have in common."""

    limits: Limits
    heads: HeadReader
    store: Store
    keep_alive_s: float

    def on_request(self, connection: Connection, head: Head, now_s: float) -> None:
        """A request was read whole; its body is in `wsgi.input`."""

    def on_refused(self, connection: Connection, head: Head | None, refusal: Refusal, now_s: float) -> None:
        """What was read is not a request that the worker takes; `head` is None where it has none."""

    def on_sent(self, connection: Connection, size_bytes: int) -> None:
        """So much of an answer has gone out."""

    def on_half_closed(self, connection: Connection) -> None:
        """The client has ended its side while its request waits."""

    def on_gone(self, connection: Connection) -> None:
        """The client has left before its answer was sent whole."""

    def on_answer_timeout(self, connection: Connection) -> None:
        """The client reads its answer too slowly; the connection is cut."""

    def on_more(self, connection: Connection) -> None:
        """There is more to read than fits into one turn: `resume` should be called in the next."""

    @property
    def on_closed(self) -> Callable[[Connection], None]:
        """Called when the connection was closed."""


class Connection:
    """The life of one connection; belongs to the loop's thread, from the accept to the close.

    `pending` is the request that waits or is answered; it is kept for whoever gets the events.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_close_after",
        "_events",
        "_fin",
        "_linger_until_s",
        "_more_to_come",
        "_out",
        "_seen_bytes",
        "_sink",
        "deadline_s",
        "ended",
        "fd",
        "head",
        "idle_since_s",
        "old_at_s",
        "peer",
        "pending",
        "readable",
        "requests",
        "requests_at_most",
        "sock",
        "state",
    )

    def __init__(self, sock: socket.socket, peer: Peer, events: ConnectionEvents, now_s: float) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.idle_since_s = now_s
        self.old_at_s = now_s + jittered(events.limits.connection_age_s)
        self.requests_at_most = jittered(events.limits.connection_requests)
        self.deadline_s = now_s + events.limits.silent_s
        self.state: State = IDLE
        self.requests = 0
        self.readable = False
        self.ended = False  # all that the client sent has been read
        self.head: Head | None = None
        self.pending: Any = None
        self._events = events
        self._buffer = b""
        self._seen_bytes = 0
        self._body: LengthBody | ChunkedBody | None = None
        self._sink: Sink | None = None
        self._out = Outbox(sock)
        self._more_to_come = False
        self._close_after = False
        self._fin = False  # the client sends no more, though not all may have been read
        self._linger_until_s = 0.0

    def on_event(self, mask: int, now_s: float) -> None:
        """Does what the poller says can be done."""
        if mask & BROKEN:
            self.abort()
            return
        if mask & OUTPUT and self._out.parts:
            self._flush(now_s)
        if mask & INPUT:
            self.readable = True
            if mask & ENDED and not self._fin:
                self._fin = True
                if self.state is WAITING:
                    # A client that ends while its request is queued has left. One that ended with its request (before
                    # this state) has only said that it sends no more, and gets its answer.
                    self._events.on_half_closed(self)
            self.read(now_s)

    def read(self, now_s: float) -> None:
        """Reads what there is, as far as the state wants it, and takes it on."""
        for _ in range(READS_PER_TURN):
            if not self.readable or self.state in (WAITING, ANSWERING, CLOSED):
                return
            if self._buffer and self.state is IDLE:
                return  # it has more requests than fit into one turn, and is in line for the next
            try:
                received = self.sock.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                self.readable = False
                return
            except OSError:
                self.abort()
                return
            if not received:
                self.readable = False
                self._end(now_s)
                return
            self.readable = self._fin or len(received) == READ_BYTES
            if self.state <= HEAD:
                self._buffer = self._buffer + received if self._buffer else received
                self.proceed(now_s)
            elif self.state is BODY:
                self._take_body(received, now_s)
            else:
                self.deadline_s = min(now_s + self._events.limits.linger_s, self._linger_until_s)
        if self.readable:
            self._events.on_more(self)

    def proceed(self, now_s: float) -> None:
        """Takes on the requests that are in the buffer, one after the other."""
        events = self._events
        for _ in range(PIPELINED_PER_TURN):
            buffer = self._buffer
            if not buffer or self.state > HEAD:
                return
            try:
                head = events.heads.read(buffer, self._seen_bytes, self.peer, self.requests + 1)
            except MALFORMED as error:
                self._malformed(error, now_s)
                return
            if head is None:
                if self.state is IDLE:
                    self.state = HEAD
                    self.deadline_s = now_s + events.limits.head_s
                self._seen_bytes = len(buffer)
                return
            self._seen_bytes = 0
            self.requests += 1
            length_bytes, begin = head.length_bytes, head.consumed
            end = begin + (length_bytes or 0)
            if length_bytes is None or end > len(buffer) or end - begin > events.limits.body_bytes:
                self._begin_body(head, buffer[begin:], now_s)
            else:
                self._buffer = buffer[end:]
                head.environ["wsgi.input"] = io.BytesIO(buffer[begin:end])
                self.state = WAITING
                events.on_request(self, head, now_s)
        events.on_more(self)

    def _begin_body(self, head: Head, received: bytes, now_s: float) -> None:
        events, limits = self._events, self._events.limits
        self._buffer = b""
        self.head = head
        if head.length_bytes is not None and head.length_bytes > limits.body_bytes:
            events.on_refused(self, head, refusals.body_too_large(events.limits), now_s)
            return
        self.state = BODY
        self.deadline_s = now_s + limits.body_grace_s
        self._sink = Sink(events.store)
        if head.length_bytes is not None:
            self._body = LengthBody(head.length_bytes)
        else:
            request = head.request
            self._body = ChunkedBody(
                limits.body_bytes,
                limits.body_chunks,
                request.limit_request_field_size,
                min(request.max_buffer_headers, limits.head_bytes),
                lambda section: trailers(request, section),
            )
        if head.expects_continue and not received:
            self._send(CONTINUE, b"")
        if received:
            self._take_body(received, now_s)

    def _take_body(self, received: bytes, now_s: float) -> None:
        events, head, sink = self._events, self.head, self._sink
        if head is None or sink is None or self._body is None:
            raise AssertionError("no body is being read")
        try:
            rest = self._body.feed(received, sink)
            whole = None if rest is None else sink.finish()
        except TooLong:
            events.on_refused(self, head, refusals.body_too_large(events.limits), now_s)
            return
        except TooManyChunks:
            events.on_refused(self, head, refusals.too_many_chunks(events.limits), now_s)
            return
        except MALFORMED as error:
            self._malformed(error, now_s)
            return
        except OSError as error:
            log.error("a request's body could not be spooled: %s", error)
            events.on_refused(self, head, refusals.no_room(events.limits), now_s)
            return
        if rest is None:
            limits = events.limits
            earned_s = len(received) / limits.body_floor_bytes_per_s
            self.deadline_s = min(self.deadline_s + earned_s, now_s + limits.body_grace_s)
            return
        head.environ["wsgi.input"] = whole
        if head.length_bytes is None:
            # The chunks are gone: the application is told the length of what they held.
            head.environ["CONTENT_LENGTH"] = str(sink.size_bytes)
        self._buffer = rest
        self._body = self._sink = self.head = None
        self.state = WAITING
        events.on_request(self, head, now_s)
        self.proceed(now_s)

    def _malformed(self, error: Exception, now_s: float) -> None:
        """Refuse what Gunicorn's parser does not accept."""
        log.warning("invalid request from %s: %s", self.peer.environ.get("REMOTE_ADDR"), ascii(str(error))[:300])
        self._events.on_refused(self, self.head, refusals.malformed(error), now_s)

    def _end(self, now_s: float) -> None:
        """The client sends no more."""
        self.ended = True
        if self.state is BODY and self.head is not None:
            self._events.on_refused(self, self.head, refusals.INCOMPLETE_BODY, now_s)
            return
        if self.state is HEAD:
            try:
                self._events.heads.judge(self._buffer, self.peer, self.requests + 1)
            except MALFORMED as error:
                self._malformed(error, now_s)
                return
        self.close()

    @property
    def received(self) -> bytes:
        """What has come of a head that is not read yet."""
        return self._buffer

    @property
    def is_sending(self) -> bool:
        """Whether some of an answer waits for the client to read."""
        return bool(self._out.parts)

    def answer(self, head: bytes, body: bytes, keep_alive: bool, now_s: float, last: bool = True) -> None:
        """Sends the next (or only) part of an answer; `head` is empty but for the first."""
        self._close_after = not keep_alive
        self._more_to_come = not last
        if not self._out.parts:
            if not self._send(head, body):
                return
            if not self._out.parts and last:
                self._answered(now_s)
                return
            # With nothing left to send it waits for the application, which has a deadline of its own.
            self.deadline_s = now_s + self._events.limits.answer_grace_s if self._out.parts else float("inf")
        else:
            self._out.keep(head, body)
        self.state = ANSWERING

    def _send(self, head: bytes, body: bytes) -> bool:
        """Sends as much as goes now, and keeps the rest; False where the client is gone."""
        try:
            sent_bytes = self._out.send(head, body)
        except OSError:
            self.abort()
            return False
        self._events.on_sent(self, sent_bytes)
        return True

    def _flush(self, now_s: float) -> None:
        """Goes on with what could not be sent at once."""
        try:
            sent_bytes = self._out.flush()
        except OSError:
            self.abort()
            return
        limits = self._events.limits
        earned_s = sent_bytes / limits.answer_floor_bytes_per_s
        self.deadline_s = min(self.deadline_s + earned_s, now_s + limits.answer_grace_s)
        self._events.on_sent(self, sent_bytes)
        if not self._out.parts and self.state is ANSWERING:
            if self._more_to_come:
                self.deadline_s = float("inf")
            else:
                self._answered(now_s)
                self.resume(now_s)

    def _answered(self, now_s: float) -> None:
        self.pending = None
        if self._close_after:
            self.linger(now_s)
            return
        self.state = IDLE
        self.idle_since_s = now_s
        self.deadline_s = now_s + self._events.keep_alive_s

    def resume(self, now_s: float) -> None:
        """After an answer: the next request, if it is there."""
        if self._buffer:
            self.proceed(now_s)
        if self.readable:
            self.read(now_s)

    def linger(self, now_s: float) -> None:
        """Ends this side, and reads on for a while: closing with bytes unread would take the last answer away."""
        self._forget()
        if self.ended:
            self.close()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.state = LINGERING
        self.idle_since_s = now_s
        self.deadline_s = now_s + self._events.limits.linger_s
        self._linger_until_s = now_s + LINGER_AT_MOST * self._events.limits.linger_s
        self._buffer = b""

    def expire(self, now_s: float) -> None:
        """The deadline has passed."""
        state = self.state
        if state in (HEAD, BODY):
            refusal = refusals.HEAD_TIMEOUT if self.head is None else refusals.BODY_TIMEOUT
            self._events.on_refused(self, self.head, refusal, now_s)
        elif state in (IDLE, LINGERING):
            self.close()
        elif state is ANSWERING:
            self._events.on_answer_timeout(self)
            self.abort()

    def abort(self) -> None:
        """The client is gone, or is given up."""
        try:
            if self.state is WAITING or self.state is ANSWERING:
                self._events.on_gone(self)
        finally:
            self.close()

    def close(self) -> None:
        """Closes the socket, which also takes it off the poller."""
        if self.state is CLOSED:
            return
        self.state = CLOSED
        self._forget()
        self._out.parts.clear()
        self.pending = None
        self.sock.close()
        self._events.on_closed(self)

    def _forget(self) -> None:
        """Lets go of a body that will not be served."""
        if self._sink is not None:
            self._sink.discard()
        self._body = self._sink = self.head = None


def jittered(most: float) -> float:
    """Up to a fifth less, so that what began together does not end together."""
    return most * (1.0 - 0.2 * random.random())  # noqa: S311 - no secret
