"""How a worker comes to its end: phases and their deadlines, without a clock or a socket.

SERVING --stop()--> ACCEPTING ------> FINISHING ------> OVER
                    still accepts,    listeners closed, nothing is open, or
                    every answer      what was accepted the time is up
                    closes            is answered
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

MASTER_CLOSES_WITHIN_S = 0.5
"""Where everybody is signalled at once, workers may be quicker than the master: what the kernel accepts for a socket
that only the master still has open is reset when it closes. At a reload it never does."""


class Phase(enum.Enum):
    """Where a worker is in its life."""

    SERVING = enum.auto()
    ACCEPTING = enum.auto()
    FINISHING = enum.auto()
    OVER = enum.auto()


class Reason(enum.Enum):
    """Why it ends."""

    TERMINATED = "SIGTERM"
    RECYCLED = "max_requests"
    STUCK = "a stuck thread"
    ORPHANED = "the master is gone"


@dataclass(slots=True)
class Lifecycle:
    """The end of one worker. Belongs to the loop's thread; times are monotonic."""

    drain_delay_s: float
    drain_timeout_s: float
    idle_at_stop_s: float
    phase: Phase = Phase.SERVING
    reason: Reason | None = None
    accept_until_s: float = float("inf")
    master_until_s: float = float("-inf")
    idle_until_s: float = float("inf")
    over_at_s: float = float("inf")

    def stop(self, reason: Reason, now_s: float) -> bool:
        """Begins the end; False where it has begun. A recycled worker that is then terminated keeps its deadlines."""
        if self.phase is not Phase.SERVING:
            return False
        self.phase, self.reason = Phase.ACCEPTING, reason
        # One that recycles itself is alone with its listener until the master replaces it: it goes on accepting as long
        # as it has to stay for its idle connections anyway. A stuck one stops at once.
        delay_s = {Reason.TERMINATED: self.drain_delay_s, Reason.RECYCLED: self.idle_at_stop_s}.get(reason, 0.0)
        self.accept_until_s = now_s + min(delay_s, self.drain_timeout_s)
        if reason is Reason.TERMINATED:
            self.master_until_s = self.accept_until_s + MASTER_CLOSES_WITHIN_S
        self.idle_until_s = max(self.accept_until_s, now_s + self.idle_at_stop_s)
        self.over_at_s = now_s + self.drain_timeout_s
        return True

    def wait_for_master(self, now_s: float) -> bool:
        """Whether it is time to close the listeners, but not too late to go on accepting while the master has them."""
        return self.phase is Phase.ACCEPTING and self.accept_until_s <= now_s < self.master_until_s

    def step(self, now_s: float, connections: int, idle: int) -> Phase:
        """The phase at this moment, with so many connections open, and so many of them waiting for a request."""
        if self.phase is Phase.ACCEPTING:
            recycled_early = self.reason is Reason.RECYCLED and not idle
            if now_s >= self.accept_until_s or recycled_early:
                self.phase = Phase.FINISHING
        elif self.phase is Phase.FINISHING and (not connections or now_s >= self.over_at_s):
            self.phase = Phase.OVER
        return self.phase

    @property
    def takes_the_backlog(self) -> bool:
        """Whether what waits in the listener's queue is accepted to its end before the listener is closed."""
        return self.reason in (Reason.TERMINATED, Reason.ORPHANED)
