"""The end of a worker: its phases, their deadlines, and the closing of its listeners without losing a client.

SERVING --stop()--> ACCEPTING ------> FINISHING ------> OVER
                    still accepts,    listeners closed, nothing is open, or
                    every answer      accepted requests the time is up
                    closes            are answered
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

MASTER_CLOSES_WITHIN_S = 0.5
"""If all processes get the signal at once, a worker may stop before the master closes the listeners. The connections
that the kernel accepts meanwhile would be reset. At a reload the master keeps the listeners open.
"""

HANDSHAKE_S = 0.1
"""Once no new connection can begin, the unfinished ones have this long to be completed and accepted."""
SO_ATTACH_FILTER = getattr(socket, "SO_ATTACH_FILTER", 26)
DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the TCP header that has the flags
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFF_FFFF),  # keep all others
)
"""A packet filter of the kernel: code, jump if true, jump if false, operand. See `man 7 socket`, SO_ATTACH_FILTER."""


class Phase(enum.Enum):
    """The phases of a worker."""

    SERVING = enum.auto()
    ACCEPTING = enum.auto()
    FINISHING = enum.auto()
    OVER = enum.auto()


class Reason(enum.Enum):
    """The reasons why a worker ends."""

    TERMINATED = "SIGTERM"
    RECYCLED = "max_requests"
    STUCK = "a stuck thread"
    ORPHANED = "the master is gone"
    LEAKED = "its file descriptors are used up, and not by connections"


@dataclass(slots=True)
class Lifecycle:
    """The end of one worker. Belongs to the loop's thread; times are monotonic, and the caller passes them."""

    drain_delay_s: float
    drain_timeout_s: float
    idle_at_stop_s: float
    server_ends: Callable[[], bool] = lambda: False
    """Function that returns whether the whole server ends and no other process serves its listeners afterwards."""
    phase: Phase = Phase.SERVING
    reason: Reason | None = None
    accept_until_s: float = float("inf")
    master_until_s: float = float("-inf")
    idle_until_s: float = float("inf")
    over_at_s: float = float("inf")
    new_dropped: bool = False

    def stop(self, reason: Reason, now_s: float) -> bool:
        """Begin to stop. Return False if the worker stops already: it then keeps its deadlines."""
        if self.phase is not Phase.SERVING:
            return False
        self.phase, self.reason = Phase.ACCEPTING, reason
        # A recycled worker may be the only one until the master replaces it, so it accepts while it waits for its
        # idle connections. A stuck worker stops at once.
        delay_s = {Reason.TERMINATED: self.drain_delay_s, Reason.RECYCLED: self.idle_at_stop_s}.get(reason, 0.0)
        self.accept_until_s = now_s + min(delay_s, self.drain_timeout_s)
        if reason is Reason.TERMINATED:
            self.master_until_s = self.accept_until_s + MASTER_CLOSES_WITHIN_S
        self.idle_until_s = max(self.accept_until_s, now_s + self.idle_at_stop_s)
        self.over_at_s = now_s + self.drain_timeout_s
        return True

    def wait_for_master(self, now_s: float) -> bool:
        """Return whether the worker would close its listeners now, but must check first whether the master has."""
        return self.phase is Phase.ACCEPTING and self.accept_until_s <= now_s < self.master_until_s

    def drops_new(self, now_s: float) -> bool:
        """Return True once, if the kernel must now refuse new connections, because the server closes its listeners.

        The worker accepts for `HANDSHAKE_S` longer, and then closes them.
        """
        would_close = self.phase is Phase.ACCEPTING and now_s >= self.accept_until_s
        if not would_close or self.new_dropped or not self.server_ends():
            return False
        self.new_dropped, self.accept_until_s = True, now_s + HANDSHAKE_S
        return True

    def step(self, now_s: float, connections: int, idle: int) -> Phase:
        """Advance to the phase of this time and return it. Of the open connections, `idle` ones wait for a request."""
        if self.phase is Phase.ACCEPTING:
            recycled_early = self.reason is Reason.RECYCLED and not idle
            if now_s >= self.accept_until_s or recycled_early:
                self.phase = Phase.FINISHING
        elif self.phase is Phase.FINISHING and (not connections or now_s >= self.over_at_s):
            self.phase = Phase.OVER
        return self.phase

    @property
    def accepts_backlog(self) -> bool:
        """Whether the worker accepts all connections in the listener's queue before it closes the listener."""
        return self.reason in (Reason.TERMINATED, Reason.ORPHANED)


def drop_new_connections(listeners: Iterable[socket.socket]) -> None:
    """Make the kernel drop the first packet of each new connection. Connections that have begun can still be accepted.

    Otherwise a client that connects between the last `accept` and `close` would be reset. A client whose first packet
    is dropped sends it again a second later, and is refused. The filter belongs to the socket, not to this process, and
    stays. Without Linux or the necessary right, nothing changes. Unix sockets have no packets.
    """
    for listener in listeners:
        if listener.family in (socket.AF_INET, socket.AF_INET6):
            instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in DROP_SYN))
            program = struct.pack("HP", len(DROP_SYN), ctypes.addressof(instructions))
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def holds_any(process_id: int, listeners: Iterable[socket.socket]) -> bool:
    """Return whether a process has one of these sockets open; False if that is unknown, as on systems without /proc."""
    links = {f"socket:[{os.fstat(listener.fileno()).st_ino}]" for listener in listeners}
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in links:
                    return True
    return False
