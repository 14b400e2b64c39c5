"""All limits and deadlines of the worker; Gunicorn's configuration file sets them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one worker process. Gunicorn's own limits (lines, fields) apply as well.

    Rates are minimums: a body or an answer that is slower uses up its grace.
    """

    head_bytes: int = 64 * 1024
    body_bytes: int = 32 * 2**20
    body_chunks: int = 100_000
    spool_bytes: int = 2**20
    """A body longer than this goes to a temporary file as it comes."""
    bodies_in_memory_bytes: int = 128 * 2**20
    """Of all bodies that are being received; beyond it, they go to files."""
    bodies_in_files_bytes: int = 2**30
    """Of all bodies in files, until they are closed; a client may have half of it."""

    silent_s: float = 15.0
    """From the connect to the first byte; then the connection is closed without an answer."""
    head_s: float = 10.0
    """From the first byte of a head to its end."""
    body_grace_s: float = 10.0
    body_floor_bytes_per_s: float = 1024.0
    answer_grace_s: float = 15.0
    answer_floor_bytes_per_s: float = 1024.0
    client_buffer_bytes: int = 64 * 1024
    """Of what a client acknowledges at once, as much may be in its kernel's buffer, and not read yet."""
    linger_s: float = 3.0
    """How long the client's bytes are thrown away after the last answer, so that it can read the answer."""

    inline_turn_us: float = 10_000.0
    """Of inline requests in one turn of the loop, as estimated; the others wait for a thread."""
    inline_client_us: float = 5_000.0
    """Of those of one client."""
    inline_request_us: float = 1_000.0
    """Of one of them."""
    queue_requests: int = 256
    queue_max_wait_s: float = 0.3
    streams_computing: int = field(default_factory=lambda: max(2, os.cpu_count() or 2))
    """At most so many streams compute at once, one for each core: more would not be quicker, and the loop would wait
    longer for the interpreter's lock."""
    waiting_threads: int = 512
    """At most so many requests that may block run at once."""
    waiting_requests: int = 10_000
    """At most so many requests run at once that wait by `await`, without a thread; half of them of one client."""
    waiting_idle_s: float = 10.0
    """A thread beyond those of Gunicorn's `threads` ends after so long without a request."""
    request_timeout_s: float = 30.0
    stuck_grace_s: float = 10.0
    """After its deadline, how long a thread may make no progress before the worker is replaced."""

    answer_buffer_bytes: int = 256 * 1024
    """A streamed answer is made no further ahead of the client than this."""

    connection_requests: int = 100_000
    connection_age_s: float = 900.0
    """A connection ends, with an answer, after so many requests or so long; both are up to a fifth less, at random."""
    evict_idle_s: float = 0.25
    """Without room for a new connection, one that has been idle for longer is closed."""

    drain_delay_s: float = 0.0
    """From SIGTERM to the end of accepting, for load balancers that are slow to look."""
    drain_timeout_s: float = 20.0
    """From SIGTERM to the end of the process; what is not answered by then is told 503."""
    idle_at_stop_s: float = 2.0
    """How long a stopping worker keeps idle connections for a request that may be on its way."""

    @property
    def waiting_requests_of_client(self) -> int:
        """At most so many requests of one client that wait by `await` run at once."""
        return max(1, self.waiting_requests // 2)

    def __post_init__(self) -> None:
        for name in ("head_bytes", "body_bytes", "body_chunks", "queue_requests", "answer_buffer_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
