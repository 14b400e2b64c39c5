"""The listening sockets of a worker that stops: who else has them, and how no new client is lost when they close."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

SO_ATTACH_FILTER = getattr(socket, "SO_ATTACH_FILTER", 26)
DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the TCP header that has the flags
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFF_FFFF),  # keep all others
)
"""A packet filter of the kernel: code, jump if true, jump if false, operand. See `man 7 socket`, SO_ATTACH_FILTER."""


def drop_new_connections(listeners: Iterable[socket.socket]) -> None:
    """Make the kernel begin no new connection; those that have begun can still be accepted.

    A client that connects between the last `accept` and `close` would be reset. A client whose first packet is dropped
    sends it again a second later, and is refused. The filter belongs to the socket, not to this process, and stays.
    Without Linux, or without the right to do so, nothing changes. A Unix socket has no packets.
    """
    for listener in listeners:
        if listener.family in (socket.AF_INET, socket.AF_INET6):
            instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in DROP_SYN))
            program = struct.pack("HP", len(DROP_SYN), ctypes.addressof(instructions))
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def holds_any(process_id: int, listeners: Iterable[socket.socket]) -> bool:
    """Return whether a process has one of these sockets open; False if that is unknown (other than on Linux)."""
    wanted = {f"socket:[{os.fstat(listener.fileno()).st_ino}]" for listener in listeners}
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in wanted:
                    return True
    return False
