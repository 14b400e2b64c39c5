"""One client's connection, which reads requests and writes their answers without blocking.

The socket is registered with epoll once, edge-triggered, for all events. `readable` records that the kernel may have
more bytes.
"""

from __future__ import annotations

import enum
import io
import logging
import random
import select
import socket
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize, ParseException

from app.server import refusals
from app.server.answers import SendQueue
from app.server.bodies import WHOLE_BODY, BodyRefused, ChunkedBody, LengthBody, RequestBody, Store
from app.server.contract import Refusal, Stats
from app.server.limits import Limits
from app.server.parsing import Head, HeadReader, Peer

log = logging.getLogger(__name__)

READ_BYTES = 65536
READS_PER_TURN = 4
PIPELINED_PER_TURN = 32
LINGER_AT_MOST = 10
"""Limit for a client that goes on sending, as a multiple of `linger_s`."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MALFORMED = (ParseException, ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize)
BROKEN = select.EPOLLERR | select.EPOLLHUP
INPUT = select.EPOLLIN | select.EPOLLRDHUP
OUTPUT = select.EPOLLOUT
ENDED = select.EPOLLRDHUP


class PendingAnswer(Protocol):
    """The request that a connection answers."""

    is_queued: bool
    """Whether the request has not begun, or is a stream that waits for its turn."""

    def on_sent(self, sent_bytes: int) -> None:
        """Count bytes of the answer that were sent."""


class RequestListener(Protocol):
    """Receiver of the events of all connections of a worker, on the loop's thread."""

    def on_request(self, connection: Connection, head: Head, now_s: float) -> None:
        """Answer a request that was read whole, now or later. The connection is WAITING."""

    def on_refused(self, connection: Connection, head: Head | None, refusal: Refusal, now_s: float) -> None:
        """Answer with a refusal and close, because the further bytes cannot be parsed. `head` is None if it could not
        be parsed either."""

    def on_body(self, connection: Connection, head: Head, now_s: float) -> bool:
        """Set the client of a request whose body is about to be read. Return False after refusing the request."""

    def on_gone(self, connection: Connection) -> None:
        """Handle a client that left before its answer was sent whole."""


@dataclass(slots=True)
class Shared:
    """Everything that the connections of one worker share."""

    listener: RequestListener
    heads: HeadReader
    limits: Limits
    store: Store
    stats: Stats
    keep_alive_s: float
    on_unfinished: Callable[[Connection], None]
    """Function to call with a connection that has more work than fits into one turn. It is resumed in the next turn."""
    on_closed: Callable[[Connection], None]


class ConnectionState(enum.IntEnum):
    """The states of a connection, in the order of a request's life."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    WAITING = 3
    ANSWERING = 4
    LINGERING = 5
    CLOSED = 6


# Names of the module, because reading an attribute of an enum would double the time of a comparison.
IDLE, HEAD, BODY, WAITING, ANSWERING, LINGERING, CLOSED = ConnectionState


@dataclass(slots=True, eq=False)
class Connection:
    """The life of one connection, from the accept to the close. Belongs to the loop's thread."""

    sock: socket.socket
    peer: Peer
    idle_since_s: float
    """Time when the connection became idle, or when its present request began to arrive."""
    _shared: Shared
    fd: int = -1
    deadline_s: float = 0.0
    old_at_s: float = 0.0
    requests_at_most: float = 0.0
    state: ConnectionState = IDLE
    requests: int = 0
    readable: bool = False
    events: int = 0  # reported by the poller, and not acted on yet
    client: Hashable = None
    """The application's name for the client at the last head; before the first head, the peer's address."""
    pending: PendingAnswer | None = None
    _head: Head | None = None  # of the request whose body is being read
    _body: RequestBody | None = None
    received: bytes = b""  # received and not parsed yet
    _seen_bytes: int = 0
    unsent: SendQueue = field(init=False)
    _more_to_come: bool = False
    _close_after: bool = False
    _fin: bool = False  # the client sends no more; some of its bytes may be unread
    _ended: bool = False  # the client sends no more, and all its bytes were read
    _linger_until_s: float = 0.0

    def __post_init__(self) -> None:
        limits = self._shared.limits
        self.fd = self.sock.fileno()
        self.unsent = SendQueue(self.sock)
        self.client = self.peer.environ.get("REMOTE_ADDR")
        self.old_at_s = self.idle_since_s + jittered(limits.connection_age_s)
        self.requests_at_most = jittered(limits.connection_requests)
        self.deadline_s = self.idle_since_s + limits.silent_s

    # --- reading

    def act(self, now_s: float) -> None:
        """Handle the events that the poller has reported."""
        mask, self.events = self.events, 0
        if self.state is CLOSED:
            return
        if mask & BROKEN:
            self.abort()
            return
        if mask & OUTPUT and self.unsent:
            self._flush(now_s)
        if mask & INPUT:
            self.readable = True
            if mask & ENDED and not self._fin:
                self._fin = True
                # A client that closes its side while its request is queued has left. One that has closed it together
                # with the request gets its answer.
                if self.state is WAITING and self.pending is not None and self.pending.is_queued:
                    self.abort()
                    return
            self.read(now_s)

    def read(self, now_s: float) -> None:
        """Read the available bytes as far as the state allows, and handle them."""
        for _ in range(READS_PER_TURN):
            if not self.readable or self.state in (WAITING, ANSWERING, CLOSED):
                return
            if self.received and self.state is IDLE:
                return  # the buffer has more requests than fit into one turn: continue in the next turn
            try:
                part = self.sock.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                self.readable = False
                return
            except OSError:
                self.abort()
                return
            if not part:
                self.readable = False
                self._end(now_s)
                return
            self.readable = self._fin or len(part) == READ_BYTES
            if self.state <= HEAD:
                self.received = self.received + part if self.received else part
                self.proceed(now_s)
            elif self.state is BODY:
                self._take_body(part, now_s)
            else:
                self.deadline_s = min(now_s + self._shared.limits.linger_s, self._linger_until_s)
        if self.readable:
            self._shared.on_unfinished(self)

    def proceed(self, now_s: float) -> None:
        """Serve the requests in the buffer, one after the other."""
        shared = self._shared
        for _ in range(PIPELINED_PER_TURN):
            received = self.received
            if not received or self.state > HEAD:
                return
            try:
                head = shared.heads.read(received, self._seen_bytes, self.peer, self.requests + 1)
            except MALFORMED as error:
                self._refuse_malformed(error, now_s)
                return
            if head is None:
                if self.state is IDLE:
                    self.state = HEAD
                    self.idle_since_s = now_s
                    self.deadline_s = now_s + shared.limits.head_s
                self._seen_bytes = len(received)
                return
            self._seen_bytes = 0
            self.requests += 1
            length_bytes, begin = head.length_bytes, head.consumed
            end = begin + (length_bytes or 0)
            if length_bytes is None or end > len(received) or end - begin > shared.limits.body_bytes:
                self._begin_body(head, received[begin:], now_s)
            else:
                self.received = received[end:]
                head.environ["wsgi.input"] = io.BytesIO(received[begin:end])
                self.state = WAITING
                shared.listener.on_request(self, head, now_s)
        shared.on_unfinished(self)

    def _begin_body(self, head: Head, part: bytes, now_s: float) -> None:
        shared, limits = self._shared, self._shared.limits
        self.received = b""
        self._head = head
        if not shared.listener.on_body(self, head, now_s):
            return
        limit_bytes = limits.body_bytes_at(head.environ["PATH_INFO"])
        if head.length_bytes is not None and head.length_bytes > limit_bytes:
            self._refuse(refusals.body_too_large(limits, limit_bytes), now_s)
            return
        if self.state is IDLE:
            self.idle_since_s = now_s
        self.state = BODY
        self.deadline_s = now_s + limits.body_grace_s
        if head.length_bytes is None:
            self._body = ChunkedBody(head.request, limits, shared.store, self.client, limit_bytes)
        else:
            self._body = LengthBody(head.length_bytes, shared.store, self.client)
        if part:
            self._take_body(part, now_s)
        elif head.expects_continue:
            try:
                self.unsent.send(CONTINUE, b"")
            except OSError:
                self.abort()

    def _take_body(self, part: bytes, now_s: float) -> None:
        limits, head, body = self._shared.limits, self._head, self._body
        if head is None or body is None:
            raise AssertionError("no body is being read")
        try:
            rest = body.feed(part)
            if rest is not None:
                head.environ["wsgi.input"] = head.environ[WHOLE_BODY] = body.finish()
        except BodyRefused as error:
            self._refuse(error.refusal, now_s)
        except MALFORMED as error:
            self._refuse_malformed(error, now_s)
        except OSError as error:
            log.error("a request's body could not be spooled: %s", error)
            self._refuse(refusals.NO_ROOM, now_s)
        else:
            if rest is None:
                earned_s = len(part) / limits.body_floor_bytes_per_s
                self.deadline_s = min(self.deadline_s + earned_s, now_s + limits.body_grace_s)
                return
            if head.length_bytes is None:  # the application gets the content of the chunks
                head.environ["CONTENT_LENGTH"] = str(body.size_bytes)
            self.received = rest
            self._body = self._head = None
            self.state = WAITING
            self._shared.listener.on_request(self, head, now_s)
            self.proceed(now_s)

    def _end(self, now_s: float) -> None:
        """Handle the end of the client's input."""
        self._ended = True
        if self.state is BODY:
            self._refuse(refusals.INCOMPLETE_BODY, now_s)
            return
        if self.state is HEAD:
            try:
                self._shared.heads.parse_by_gunicorn(self.received, self.peer, self.requests + 1)
            except MALFORMED as error:
                self._refuse_malformed(error, now_s)
                return
        self.close()

    def _refuse(self, refusal: Refusal, now_s: float) -> None:
        self._shared.listener.on_refused(self, self._head, refusal, now_s)

    def _refuse_malformed(self, error: Exception, now_s: float) -> None:
        log.warning("invalid request from %s: %s", self.peer.environ.get("REMOTE_ADDR"), ascii(str(error))[:300])
        self._refuse(refusals.malformed(error), now_s)

    # --- answering

    def answer(self, head: bytes, body: bytes, keep_alive: bool, now_s: float, last: bool = True) -> None:
        """Send the next (or only) part of an answer; `head` is empty except for the first part."""
        self._close_after = not keep_alive
        self._more_to_come = not last
        unsent = self.unsent
        if unsent:
            unsent.keep(head, body)
        else:
            try:
                sent_bytes = unsent.send(head, body)
            except OSError:
                self.abort()
                return
            if self.pending is not None:
                self.pending.on_sent(sent_bytes)
            if not unsent and last:
                self._end_answer(now_s)
                return
            # While nothing is left to send, only the application's deadline counts.
            self.deadline_s = now_s + self._shared.limits.answer_grace_s if unsent else float("inf")
        self.state = ANSWERING

    def _flush(self, now_s: float) -> None:
        """Continue to send the rest of the answer."""
        try:
            sent_bytes = self.unsent.flush()
        except OSError:
            self.abort()
            return
        self._extend_by_reading(now_s)
        if self.pending is not None:
            self.pending.on_sent(sent_bytes)
        if not self.unsent and self.state is ANSWERING:
            if self._more_to_come:
                self.deadline_s = float("inf")
            else:
                self._end_answer(now_s)
                self.resume(now_s)

    def _extend_by_reading(self, now_s: float) -> None:
        """Extend the deadline by the bytes that the client has read since the last time.

        A client's kernel may acknowledge nothing until the client has read a whole buffer. So the client gets the time
        to read as many bytes as were acknowledged at once.
        """
        limits, read_bytes = self._shared.limits, self.unsent.newly_read_bytes()
        if read_bytes:
            floor_bytes_per_s = limits.answer_floor_bytes_per_s
            most_s = max(limits.answer_grace_s, min(read_bytes, limits.client_buffer_bytes) / floor_bytes_per_s)
            self.deadline_s = min(self.deadline_s + read_bytes / floor_bytes_per_s, now_s + most_s)

    def _end_answer(self, now_s: float) -> None:
        self.pending = None
        if self._close_after:
            self._linger(now_s)
            return
        self.state = IDLE
        self.idle_since_s = now_s
        self.deadline_s = now_s + self._shared.keep_alive_s

    def resume(self, now_s: float) -> None:
        """Serve the next request after an answer, if it has arrived."""
        if self.received:
            self.proceed(now_s)
        if self.readable:
            self.read(now_s)

    def resume_later(self) -> None:
        """Resume in the next turn of the loop."""
        self._shared.on_unfinished(self)

    # --- the end

    def _linger(self, now_s: float) -> None:
        """Close the sending side, and discard the client's bytes for a while: to close with unread bytes would reset
        the connection before the client has read its answer."""
        self._discard_body()
        if self._ended:
            self.close()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        linger_s = self._shared.limits.linger_s
        self.state = LINGERING
        self.idle_since_s = now_s
        self.deadline_s = now_s + linger_s
        self._linger_until_s = now_s + LINGER_AT_MOST * linger_s
        self.received = b""

    def expire(self, now_s: float) -> None:
        """Handle the deadline, which has passed."""
        state = self.state
        if state in (HEAD, BODY):
            self._refuse(refusals.HEAD_TIMEOUT if state is HEAD else refusals.BODY_TIMEOUT, now_s)
        elif state in (IDLE, LINGERING):
            self.close()
        elif state is ANSWERING:
            self._extend_by_reading(now_s)
            if self.deadline_s > now_s:
                return
            self._shared.stats.refuse("answer_timeout")
            self.abort()

    def bytes_per_s(self, now_s: float) -> float:
        """Return the rate at which the present request arrives."""
        received_bytes = len(self.received) + (self._body.size_bytes if self._body is not None else 0)
        return received_bytes / max(now_s - self.idle_since_s, 0.001)

    def abort(self) -> None:
        """Close without an answer, or in the middle of it."""
        try:
            if self.state is WAITING or self.state is ANSWERING:
                self._shared.listener.on_gone(self)
        finally:
            self.close()

    def close(self) -> None:
        """Close the socket, which also removes it from the poller."""
        if self.state is CLOSED:
            return
        self.state = CLOSED
        self._discard_body()
        self.unsent.clear()
        self.pending = None
        self.sock.close()
        self._shared.on_closed(self)

    def _discard_body(self) -> None:
        """Free a body that will not be served."""
        if self._body is not None:
            self._body.discard()
        self._body = self._head = None


def jittered(most: float) -> float:
    """Return a value up to a fifth smaller, at random, so that connections that began together do not end together."""
    return most * (1.0 - 0.2 * random.random())  # noqa: S311 - no secret
