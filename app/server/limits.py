"""All limits and deadlines of the worker. Gunicorn's configuration file sets them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one worker process. Gunicorn's own limits (lines, fields) apply as well.

    Rates (`…_per_s`) are minimums: a slower body or answer uses up its grace.
    """

    head_bytes: int = 64 * 1024
    body_bytes: int = 32 * 2**20
    upload_bytes: int = 0
    """Limit of bodies at `upload_path`, if it is larger than `body_bytes`."""
    upload_path: str = ""
    body_chunks: int = 100_000
    spool_bytes: int = 2**20
    """A longer body is written to a temporary file while it arrives."""
    bodies_in_memory_bytes: int = 128 * 2**20
    """Limit of the memory for all bodies that are arriving. Beyond it, they are written to files."""
    bodies_in_files_bytes: int = 2**30
    """Limit of all bodies in files until the files are closed. One client may use half of it."""

    silent_s: float = 15.0
    """Time from the connect to the first byte. After it, the connection is closed without an answer."""
    head_s: float = 10.0
    """Time from the first byte of a head to its end."""
    body_grace_s: float = 10.0
    body_floor_bytes_per_s: float = 1024.0
    answer_grace_s: float = 15.0
    answer_floor_bytes_per_s: float = 1024.0
    client_buffer_bytes: int = 64 * 1024
    """Most bytes that the kernel of a client acknowledges at once, before the client itself has read them."""
    linger_s: float = 3.0
    """Time after the last answer in which the client's bytes are discarded, so that it can read the answer."""

    inline_turn_us: float = 10_000.0
    """Limit of all inline requests in one turn of the loop, by their estimates. The others wait for a thread."""
    inline_client_us: float = 5_000.0
    """The same limit for one client."""
    inline_request_us: float = 1_000.0
    """The same limit for one request."""
    queue_requests: int = 256
    queue_max_wait_s: float = 0.3
    computing_cores: int = field(default_factory=lambda: max(2, os.cpu_count() or 2))
    """Limit of the streams that compute at once, and of the groups of inline requests over their budgets. More would
    not be faster, and would make the loop wait longer for the interpreter's lock."""
    waiting_threads: int = 512
    """Limit of concurrent requests that may block."""
    waiting_requests: int = 10_000
    """Limit of concurrent requests that wait by `await`, without a thread. One client may have half of them."""
    waiting_idle_s: float = 10.0
    """An idle thread beyond Gunicorn's `threads` ends after this time."""
    request_timeout_s: float = 30.0
    stuck_grace_s: float = 10.0
    """Longest time for which a thread may make no progress after its deadline. Then the worker is replaced."""

    answer_buffer_bytes: int = 256 * 1024
    """Limit of the bytes of a streamed answer that wait to be sent. Beyond it, the stream pauses."""

    connection_requests: int = 100_000
    connection_age_s: float = 900.0
    """A connection is closed after an answer, once it has had this many requests or this age. Both are reduced by up to
    a fifth at random."""
    evict_idle_s: float = 0.25
    """If there is no room for a new connection, one that has been idle for longer than this is closed."""

    drain_delay_s: float = 0.0
    """Time from SIGTERM to the end of accepting, for load balancers that check rarely."""
    drain_timeout_s: float = 20.0
    """Time from SIGTERM to the end of the process. Requests that are unanswered then get 503."""
    idle_at_stop_s: float = 2.0
    """Time for which a stopping worker keeps idle connections: their next request may be on its way."""

    @property
    def waiting_requests_of_client(self) -> int:
        """Limit of one client's concurrent requests that wait by `await`."""
        return max(1, self.waiting_requests // 2)

    def body_bytes_at(self, path: str) -> int:
        """Return the limit of bodies that are sent to a path."""
        is_upload = self.upload_bytes > self.body_bytes and path.rstrip("/") == self.upload_path
        return self.upload_bytes if is_upload else self.body_bytes

    def __post_init__(self) -> None:
        for name in ("head_bytes", "body_bytes", "body_chunks", "queue_requests", "answer_buffer_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
