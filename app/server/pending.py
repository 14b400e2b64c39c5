"""One request between its arrival and the last byte of its answer."""

from __future__ import annotations

import io
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Hashable
from typing import Any

from app.server.answers import Answer
from app.server.connection import Connection
from app.server.contract import ServedRequest
from app.server.parsing import Head

log = logging.getLogger(__name__)

TIMEOUT_KEY = "HTTP_X_REQUEST_TIMEOUT"
TIMEOUT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s)?", re.ASCII)


class PendingRequest:
    """The state of one request. Belongs to the loop's thread, except for what a thread writes while it runs.

    `made_bytes` is written by the thread and `sent_bytes` by the loop, so that neither needs a lock.
    """

    __slots__ = (
        "answer",
        "arrived_s",
        "connection",
        "deadline_s",
        "ends_group",
        "has_reader",
        "head",
        "hooks_began_s",
        "is_queued",
        "is_running",
        "is_stuck",
        "made_bytes",
        "request",
        "room",
        "sent_bytes",
        "started_s",
        "stuck_allowance_s",
        "thread_id",
    )

    def __init__(self, connection: Connection, head: Head, request: ServedRequest, now_s: float) -> None:
        self.connection = connection
        self.head = head
        self.request = request
        self.answer = Answer(is_head=head.environ["REQUEST_METHOD"] == "HEAD")
        self.arrived_s = now_s
        self.deadline_s = math.inf
        self.stuck_allowance_s = 0.0
        """How much longer than its client the server waits for its thread."""
        self.is_queued = False
        self.is_running = False
        """A thread runs it."""
        self.has_reader = True
        """False: nobody reads what it makes."""
        self.ends_group = True
        """With its answer its thread is free."""
        self.is_stuck = False
        self.hooks_began_s = 0.0
        self.started_s = 0.0
        self.thread_id = 0
        self.made_bytes = 0
        self.sent_bytes = 0
        self.room: threading.Event | None = None

    @property
    def batch_key(self) -> Hashable:
        """Requests of one key, other than None, are answered together."""
        return self.request.batch_key

    @property
    def client(self) -> Hashable:
        """Whose request it is."""
        return self.request.client

    def limit_time(self, limit_s: float) -> None:
        """Set its deadline: the server's limit, or less where `X-Request-Timeout` asks for less."""
        asked = self.head.environ.get(TIMEOUT_KEY)
        within_s = limit_s if asked is None else min(limit_s, timeout_s(asked))
        self.deadline_s = self.request.deadline_s = self.arrived_s + within_s
        self.stuck_allowance_s = limit_s - within_s

    def abandon(self) -> None:
        """Note that nobody reads its answer any more; its thread may stop waiting for the client."""
        self.has_reader = False
        if self.room is not None:
            self.room.set()

    def sent(self, size_bytes: int) -> None:
        """Note that so much of its answer has gone out; its thread may go on."""
        self.sent_bytes += size_bytes
        if self.room is not None:
            self.room.set()

    def close(self, body: Any = None) -> None:
        """Close what PEP 3333 asks to be closed at the end, and give back a request's body that is in a file."""
        try:
            if hasattr(body, "close"):
                body.close()
        finally:
            received = self.head.environ.get("wsgi.input")
            if received is not None and not isinstance(received, io.BytesIO):
                received.close()

    def log_stack(self, now_s: float) -> None:
        """Log where its thread hangs."""
        frame = sys._current_frames().get(self.thread_id)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(it has just ended)"
        log.error(
            "a request thread is stuck since %.1f s in %s %r; this worker will be replaced. Its stack:\n%s",
            now_s - self.started_s,
            self.head.environ["REQUEST_METHOD"],
            self.head.environ["RAW_URI"],
            stack,
        )


def timeout_s(asked: str) -> float:
    """Parse `X-Request-Timeout`: seconds (`1.5`, `1.5s`) or milliseconds (`50ms`); infinity where it is neither."""
    match = TIMEOUT.fullmatch(asked.strip())
    return math.inf if match is None else float(match[1]) / (1000.0 if match[2] == "ms" else 1.0)
