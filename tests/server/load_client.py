"""Many connections from one thread, on epoll, with a few microseconds for each request: asyncio is too slow for this.

Every request has a number. A 200 must be the response to this number, and a refusal must repeat the number, which is
sent as X-Request-ID; otherwise it counts as `mixed`.
"""

from __future__ import annotations

import itertools
import random
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.server.served import Outcomes

RECEIVE_BYTES = 262_144
CONNECT_WITHIN_S = 30.0
RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER without time: closing sends a reset."""

_numbers = itertools.count(random.getrandbits(40) << 20)


def new_number() -> bytes:
    """Return a number that no other request of this process has, of constant length."""
    return b"%020d" % next(_numbers)


@dataclass(slots=True)
class LoadRequest:
    """A request and its correct response: `body` for 200, or only a `status`."""

    content: bytes
    number: bytes
    body: bytes
    status: int = 0
    abandons: bool = False  # the client leaves right after it has sent the request
    tries_left: int = 0
    began_s: float = 0.0

    def judged(self, status: int, body: bytes) -> str:
        if self.status and status != self.status:
            return f"{status} for {self.status}"
        right = body == self.body if status == 200 else self.number in body
        return str(status) if right else "mixed"


def echo(path: str = "/echo", headers: str = "", tries: int = 1) -> LoadRequest:
    """Return a request whose body is its number, to be echoed."""
    number = new_number()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\n{headers}X-Request-ID: {number.decode()}\r\nContent-Length: 20\r\n\r\n"
    return LoadRequest(head.encode() + number, number, number, tries_left=tries - 1)


class LoadConnection:
    """One connection, and its open requests in order."""

    __slots__ = ("buffer", "closed", "fd", "sock", "unanswered")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), CONNECT_WITHIN_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(None)  # read only when the poller reports data
        self.fd = self.sock.fileno()
        self.unanswered: deque[LoadRequest] = deque()
        self.buffer = b""
        self.closed = False

    def answers(self) -> Iterator[tuple[int, bytes, bool]]:
        """Yield status, body and whether the connection closes, of each complete response."""
        while (end := self.buffer.find(b"\r\n\r\n") + 4) > 3:
            head = self.buffer[:end]
            at = head.find(b"\r\nContent-Length: ")
            length = int(head[at + 18 : head.find(b"\r\n", at + 18)]) if at >= 0 else 0
            if len(self.buffer) < end + length:
                return
            body, self.buffer = self.buffer[end : end + length], self.buffer[end + length :]
            yield int(head[9:12]), body, b"\r\nConnection: close\r\n" in head


class LoadClient:
    """All connections to one port. `answered` is called with each connection that has no open request, for reuse.

    The outcome of each request goes to `outcomes`, with its duration.
    """

    def __init__(self, port: int, outcomes: Outcomes, answered: Callable[[LoadConnection], None]) -> None:
        self.outcomes = outcomes
        self.connections: dict[int, LoadConnection] = {}
        self.retry: Callable[[LoadRequest], None] = lambda request: None
        self._port = port
        self._answered = answered
        self._poller = select.epoll()

    def open(self) -> LoadConnection | None:
        """Return a new connection; None if it failed, which is counted."""
        try:
            connection = LoadConnection(self._port)
        except ConnectionRefusedError:
            self.outcomes.note("refused")
        except OSError:
            self.outcomes.note("not connected")
        else:
            self.connections[connection.fd] = connection
            self._poller.register(connection.fd, select.EPOLLIN | select.EPOLLRDHUP)
            return connection
        return None

    def ask(self, connection: LoadConnection, *requests: LoadRequest) -> None:
        """Send requests together, one after the other."""
        now_s = time.monotonic()
        for request in requests:
            request.began_s = now_s
            connection.unanswered.append(request)
        try:
            connection.sock.sendall(b"".join([request.content for request in requests]))
        except OSError:
            self._ended(connection)
            return
        if any(request.abandons for request in requests):
            if random.random() < 0.5:
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._lose(connection, "abandoned")
            self._answered(connection)

    def turn(self, wait_s: float) -> None:
        """Read the arrived responses, and call `answered` for every free connection."""
        for fd, _ in self._poller.poll(wait_s, 1024):
            connection = self.connections.get(fd)
            if connection is not None:
                self._read(connection)

    def _read(self, connection: LoadConnection) -> None:
        try:
            received = connection.sock.recv(RECEIVE_BYTES)
        except OSError:
            received = b""
        if not received:
            self._ended(connection)
            return
        connection.buffer = connection.buffer + received if connection.buffer else received
        now_s = time.monotonic()
        for status, body, closes in connection.answers():
            if not connection.unanswered:
                self.outcomes.note("unasked")
                self.drop(connection)
                break
            request = connection.unanswered.popleft()
            self.outcomes.note(request.judged(status, body), now_s - request.began_s)
            if status == 503 and request.tries_left:
                request.tries_left -= 1
                self.retry(request)
            if closes:
                self._lose(connection, "after the last")  # the server has announced its last answer
        if not connection.unanswered:
            self._answered(connection)

    def _ended(self, connection: LoadConnection) -> None:
        """Handle an unannounced end of a connection: a fault if a response is missing."""
        if not connection.closed:
            owed = bool(connection.unanswered)
            self._lose(connection, "reset")
            if owed:
                self._answered(connection)

    def expire(self, before_s: float, outcome: str) -> None:
        """Give up requests that were sent before this time."""
        for connection in [
            one for one in self.connections.values() if one.unanswered and one.unanswered[0].began_s < before_s
        ]:
            self._lose(connection, outcome)
            self._answered(connection)

    def gather(self, within_s: float, outcome: str) -> None:
        """Wait for outstanding responses. No new request is sent."""
        until_s = time.monotonic() + within_s
        while any(connection.unanswered for connection in self.connections.values()) and time.monotonic() < until_s:
            self.turn(0.05)
        self.expire(float("inf"), outcome)

    def _lose(self, connection: LoadConnection, outcome: str) -> None:
        now_s = time.monotonic()
        for request in connection.unanswered:
            self.outcomes.note(outcome, now_s - request.began_s)
        connection.unanswered.clear()
        self.drop(connection)

    def drop(self, connection: LoadConnection) -> None:
        if not connection.closed:
            connection.closed = True
            del self.connections[connection.fd]
            connection.sock.close()

    def close(self) -> None:
        for connection in list(self.connections.values()):
            self.drop(connection)
        self._poller.close()
