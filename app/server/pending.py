"""The worker's record of one request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from app.server.answers import WsgiAnswer
from app.server.connection import Connection
from app.server.contract import Environ, ServedRequest
from app.server.parsing import Head


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One request and its whole state, from its admission to the last byte of its answer.

    A thread that streams writes `made_bytes` and the loop writes `sent_bytes`, so that neither needs a lock.
    """

    connection: Connection
    head: Head
    request: ServedRequest
    answer: WsgiAnswer
    arrived_s: float
    deadline_s: float
    stuck_allowance_s: float
    """Time between the client's deadline and the worker's own: a thread is not stuck before the later one."""
    client: Hashable = None
    batch_key: Hashable = None
    is_queued: bool = False
    cancelled: bool = False
    """Whether the answer is no longer wanted: the client is gone or has got a refusal."""
    began_s: float = 0.0
    """Time when the request began to run; 0.0 before that."""
    thread_id: int = 0
    is_stuck: bool = False
    ends_group: bool = False
    """Whether this is the last answer of its group, after which the thread is free."""
    made_bytes: int = 0
    sent_bytes: int = 0
    may_continue: threading.Event | None = None
    """Event that ends the last pause of the thread that streams."""
    has_place: bool = False
    """Whether the request has one of the places for requests that compute."""
    on_read: Callable[[PendingRequest], None] | None = None
    """Called after bytes of the answer were sent, while its thread is paused."""
    is_inline: bool = False
    """Whether this is an inline request over a budget, which runs in a thread."""
    is_awaited: bool = False
    """Whether the request runs as a coroutine, which `stop` cancels. Other requests run in threads."""
    task: asyncio.Task[None] | None = None
    stop: Callable[[], None] | None = None
    needs_thread: bool = False
    """Whether the coroutine has returned the request, because it must run in a thread."""

    @property
    def environ(self) -> Environ:
        """The environ of the request."""
        return self.head.environ

    def on_sent(self, sent_bytes: int) -> None:
        """Count bytes of the answer that were sent, and let its thread continue."""
        self.sent_bytes += sent_bytes
        if self.on_read is not None:
            self.on_read(self)

    @property
    def unread_bytes(self) -> int:
        """Number of bytes of the answer that were made but not sent."""
        return self.made_bytes - self.sent_bytes

    def cancel(self) -> None:
        """Stop the answer, because nobody will read it."""
        self.cancelled = True
        self.on_read = None
        self.continue_streaming()
        if (stop := self.stop) is not None:
            stop()

    def continue_streaming(self) -> None:
        """End the pause of the thread that streams."""
        if self.may_continue is not None:
            self.may_continue.set()
