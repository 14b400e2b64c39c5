"""The bytes on their way to one client: given to the kernel as it takes them, and counted as the client reads them."""

from __future__ import annotations

import array
import fcntl
import socket
import termios
from collections import deque

JOIN_BYTES = 65536
"""Up to this size one copy is cheaper than a list of buffers."""
BUFFERS_PER_CALL = 64


class SendQueue(deque[memoryview]):
    """The bytes that the kernel has not taken yet. Belongs to the loop's thread."""

    __slots__ = ("_read_bytes", "_sent_bytes", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self._sent_bytes = 0  # given to the kernel
        self._read_bytes = 0  # of those, acknowledged by the client's end

    def keep(self, *parts: bytes | memoryview) -> None:
        """Append bytes, to be sent by `flush`."""
        self.extend(memoryview(part) for part in parts if part)

    def send(self, head: bytes, body: bytes) -> int:
        """Send as much as the kernel takes now, keep the rest, and return the number of bytes sent.

        Raises:
            OSError: the client is gone.
        """
        try:
            if len(body) <= JOIN_BYTES:
                head, body = head + body if body else head, b""
                sent_bytes = self._sock.send(head)
            else:
                sent_bytes = self._sock.sendmsg((head, body))
        except (BlockingIOError, InterruptedError):
            sent_bytes = 0
        if sent_bytes < len(head):
            self.keep(memoryview(head)[sent_bytes:], body)
        elif sent_bytes < len(head) + len(body):
            self.keep(memoryview(body)[sent_bytes - len(head) :])
        self._sent_bytes += sent_bytes
        return sent_bytes

    def flush(self) -> int:
        """Send as much of the kept bytes as the kernel takes now, and return the number of bytes sent.

        Raises:
            OSError: the client is gone.
        """
        sent_bytes = 0
        while self:
            try:
                sent = self._sock.sendmsg([self[at] for at in range(min(len(self), BUFFERS_PER_CALL))])
            except (BlockingIOError, InterruptedError):
                break
            sent_bytes += sent
            while self and sent >= len(self[0]):
                sent -= len(self.popleft())
            if sent:
                self[0] = self[0][sent:]
        self._sent_bytes += sent_bytes
        return sent_bytes

    def newly_read_bytes(self) -> int:
        """Return how many bytes the client has read since the last call.

        The kernel reports room only when a third of its buffer is free, which a slow client may take minutes to read,
        so this counts the bytes that the client's end has acknowledged.
        """
        read_bytes = max(self._read_bytes, self._sent_bytes - unacknowledged_bytes(self._sock))
        newly_bytes, self._read_bytes = read_bytes - self._read_bytes, read_bytes
        return newly_bytes


def unacknowledged_bytes(sock: socket.socket) -> int:
    """Return how many sent bytes the other end has not acknowledged (SIOCOUTQ; tcp(7), unix(7))."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    return count[0]
