"""Crowds of silent, idle or slow clients, and the effect on a new client."""

from __future__ import annotations

import contextlib
import http.client
import math
import re
import resource
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence

from tests.end_to_end.process import Server
from tests.server.served import connect, took_s

HALF_HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nX-"
HALF_BODY = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"
WHOLE = b"POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
OTHER_DESCRIPTORS = 200
PROBE_EVERY_S = 0.1


def allow_descriptors() -> int:
    """Raise the limit of open files for this process and its children, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.contextmanager
def crowd(server: Server, count: int, says: bytes) -> Iterator[list[socket.socket]]:
    """Hold connections that send these bytes and then nothing; fewer if the limit of open files is lower."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(count, soft - OTHER_DESCRIPTORS)
    with contextlib.ExitStack() as stack:
        members = []
        for _ in range(count):
            members.append(stack.enter_context(connect(server)))
            members[-1].sendall(says)
        yield members


def share_of(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def median_s(server: Server, times: int = 15) -> float:
    """Return how long a new client waits."""
    return share_of([took_s(server) for _ in range(times)], 0.5)


@contextlib.contextmanager
def probing(server: Server) -> Iterator[list[float]]:
    """Record repeatedly how long a new client waits for /livez while the block runs; infinity without a response."""
    took: list[float] = []
    stop = threading.Event()

    def probe() -> None:
        while not stop.wait(PROBE_EVERY_S):
            try:
                took.append(took_s(server))
            except (OSError, http.client.HTTPException, AssertionError):
                took.append(math.inf)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()


def slowhttptest(server: Server, kind: str, connections: int, every_s: int, for_s: int) -> list[str]:
    """Run one attack of slowhttptest, `-H` or `-B`. It ends early when the server has closed all connections.

    Returns:
        YES or NO (in colour) for each check of whether the service was available.
    """
    command = ["slowhttptest", kind, "-c", str(connections), "-r", "200", "-i", str(every_s), "-l", str(for_s)]
    command += ["-p", "1", "-u", f"{server.root}/livez"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=for_s + 30, check=False).stdout
    return re.findall(r"service available:[^A-Z]*([A-Z]+)", said)
