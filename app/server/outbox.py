"""What a connection has to send: goes out as far as the kernel takes it, and is kept beyond that."""

from __future__ import annotations

import socket
from collections import deque

JOIN_BYTES = 65536
"""Up to this, one copy is cheaper than a list of buffers."""
BUFFERS_PER_CALL = 64


class Outbox:
    """The bytes that wait for one client to read, in order. Belongs to the loop's thread; the socket never blocks."""

    __slots__ = ("_sock", "parts")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.parts: deque[memoryview] = deque()

    def send(self, head: bytes, body: bytes) -> int:
        """Sends at once, nothing being kept from before; how many bytes went.

        Raises:
            OSError: the client is gone.
        """
        try:
            if len(body) <= JOIN_BYTES:
                whole = head + body if body else head
                sent = self._sock.send(whole)
                if sent < len(whole):
                    self.parts.append(memoryview(whole)[sent:])
            else:
                sent = self._sock.sendmsg((head, body))
                if sent < len(head):
                    self.parts.append(memoryview(head)[sent:])
                if sent < len(head) + len(body):
                    self.parts.append(memoryview(body)[max(0, sent - len(head)) :])
        except (BlockingIOError, InterruptedError):
            self.keep(head, body)
            return 0
        return sent

    def keep(self, *parts: bytes) -> None:
        """Keeps these for later."""
        self.parts.extend(memoryview(part) for part in parts if part)

    def flush(self) -> int:
        """Sends on what was kept; how many bytes went.

        Raises:
            OSError: the client is gone.
        """
        parts, sent_bytes = self.parts, 0
        while parts:
            try:
                sent = self._sock.sendmsg([parts[at] for at in range(min(len(parts), BUFFERS_PER_CALL))])
            except (BlockingIOError, InterruptedError):
                break
            sent_bytes += sent
            while parts and sent >= len(parts[0]):
                sent -= len(parts.popleft())
            if sent:
                parts[0] = parts[0][sent:]
        return sent_bytes
