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

from tests.server_worker.served import Outcomes

RECEIVE_BYTES = 262_144
CONNECT_WITHIN_S = 5.0
RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER with no time: the close is a reset."""

_numbers = itertools.count(random.getrandbits(40) << 20)


def new_number() -> bytes:
    """Return a number that no other request of this process has, of constant length."""
    return b"%020d" % next(_numbers)


@dataclass(slots=True)
class Question:
    """A request and its correct response: `body` for 200, or only a `status`."""

    content: bytes
    number: bytes
    body: bytes
    status: int = 0
    abandons: bool = False  # the client is gone as soon as it has asked
    tries_left: int = 0
    began_s: float = 0.0

    def judged(self, status: int, body: bytes) -> str:
        if self.status and status != self.status:
            return f"{status} for {self.status}"
        right = body == self.body if status == 200 else self.number in body
        return str(status) if right else "mixed"


def echo(path: str = "/echo", headers: str = "", tries: int = 1) -> Question:
    """Return a request whose body is its number, to be echoed."""
    number = new_number()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\n{headers}X-Request-ID: {number.decode()}\r\nContent-Length: 20\r\n\r\n"
    return Question(head.encode() + number, number, number, tries_left=tries - 1)


class Line:
    """One connection, and its open requests in order."""

    __slots__ = ("asked", "buffer", "closed", "fd", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), CONNECT_WITHIN_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(None)  # it is read only where the poller says that there is something
        self.fd = self.sock.fileno()
        self.asked: deque[Question] = deque()
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


class Fleet:
    """All connections to one port. `answered` is called with each connection that has no open request, for reuse.

    The outcome of each request goes to `outcomes`, with its duration.
    """

    def __init__(self, port: int, outcomes: Outcomes, answered: Callable[[Line], None]) -> None:
        self.outcomes = outcomes
        self.lines: dict[int, Line] = {}
        self.retry: Callable[[Question], None] = lambda question: None
        self._port = port
        self._answered = answered
        self._poller = select.epoll()

    def open(self) -> Line | None:
        """Return a new connection; None if it failed, which is counted."""
        try:
            line = Line(self._port)
        except ConnectionRefusedError:
            self.outcomes.note("refused")
        except OSError:
            self.outcomes.note("not connected")
        else:
            self.lines[line.fd] = line
            self._poller.register(line.fd, select.EPOLLIN | select.EPOLLRDHUP)
            return line
        return None

    def ask(self, line: Line, *questions: Question) -> None:
        """Send requests together, one after the other."""
        now_s = time.monotonic()
        for question in questions:
            question.began_s = now_s
            line.asked.append(question)
        try:
            line.sock.sendall(b"".join([question.content for question in questions]))
        except OSError:
            self._ended(line)
            return
        if any(question.abandons for question in questions):
            if random.random() < 0.5:
                line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._lose(line, "abandoned")
            self._answered(line)

    def turn(self, wait_s: float) -> None:
        """Read the arrived responses, and call `answered` for every free connection."""
        for fd, _ in self._poller.poll(wait_s, 1024):
            line = self.lines.get(fd)
            if line is not None:
                self._read(line)

    def _read(self, line: Line) -> None:
        try:
            received = line.sock.recv(RECEIVE_BYTES)
        except OSError:
            received = b""
        if not received:
            self._ended(line)
            return
        line.buffer = line.buffer + received if line.buffer else received
        now_s = time.monotonic()
        for status, body, closes in line.answers():
            if not line.asked:
                self.outcomes.note("unasked")
                self.drop(line)
                break
            question = line.asked.popleft()
            self.outcomes.note(question.judged(status, body), now_s - question.began_s)
            if status == 503 and question.tries_left:
                question.tries_left -= 1
                self.retry(question)
            if closes:
                self._lose(line, "after the last")  # the server has said which answer is its last
        if not line.asked:
            self._answered(line)

    def _ended(self, line: Line) -> None:
        """Handle an unannounced end of a connection: a fault if a response is missing."""
        if not line.closed:
            owed = bool(line.asked)
            self._lose(line, "reset")
            if owed:
                self._answered(line)

    def expire(self, before_s: float, outcome: str) -> None:
        """Give up the requests that were sent before this time."""
        for line in [one for one in self.lines.values() if one.asked and one.asked[0].began_s < before_s]:
            self._lose(line, outcome)
            self._answered(line)

    def gather(self, within_s: float, outcome: str) -> None:
        """Wait for outstanding responses. No new request is sent."""
        until_s = time.monotonic() + within_s
        while any(line.asked for line in self.lines.values()) and time.monotonic() < until_s:
            self.turn(0.05)
        self.expire(float("inf"), outcome)

    def _lose(self, line: Line, outcome: str) -> None:
        now_s = time.monotonic()
        for question in line.asked:
            self.outcomes.note(outcome, now_s - question.began_s)
        line.asked.clear()
        self.drop(line)

    def drop(self, line: Line) -> None:
        if not line.closed:
            line.closed = True
            del self.lines[line.fd]
            line.sock.close()

    def close(self) -> None:
        for line in list(self.lines.values()):
            self.drop(line)
        self._poller.close()
