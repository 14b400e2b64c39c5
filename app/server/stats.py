"""The counters of a worker. The application reads them through the snapshot function that `started` receives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stats:
    """Counters of one worker since its start.

    Only the loop's thread writes. Any thread may read, and sees each number at that moment.
    """

    accepted: int = 0
    evicted: int = 0
    inline: int = 0
    threaded: int = 0
    awaited: int = 0
    answered: int = 0
    left: int = 0
    """Clients that left before their answer (nginx logs these as 499)."""
    dropped: int = 0
    """Requests of these clients that were still queued and never ran."""
    late: int = 0
    """Requests whose answer came after their 504."""
    refused: dict[str, int] = field(default_factory=dict)
    """By reason: `head_timeout`, `body_too_large`, `queue_full`, `queue_wait`, `deadline`, `malformed`, ..."""
    turn_max_s: float = 0.0
    """Longest time that the loop was away from its poller, in the last ten seconds."""

    running: Callable[[], int] = lambda: 0
    queued: Callable[[], int] = lambda: 0
    queue_age: Callable[[float], float] = lambda now_s: 0.0
    connections_by_state: Callable[[], dict[str, int]] = dict

    def refuse(self, reason: str) -> None:
        """Count one refusal."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def snapshot(self) -> dict[str, Any]:
        """Return all counters as plain values."""
        counters = {name: value for name, value in vars(self).items() if not callable(value)}
        return counters | {
            "connections": self.connections_by_state(),
            "refused": dict(self.refused),
            "running": self.running(),
            "queued": self.queued(),
            "queue_age_s": self.queue_age(time.monotonic()),
        }
