"""Who may run, who waits, who is refused: admission without a clock, a socket or a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

GROUP_REQUESTS = 128


class Waiting(Protocol):
    """A request at the gate; times are monotonic.

    Requests of one lane are answered by one thread at a time, as many at once as wait for it.
    """

    queued_s: float
    deadline_s: float
    dropped: bool
    lane: Hashable


RequestT = TypeVar("RequestT", bound=Waiting)


class Gate(Generic[RequestT]):
    """At most `places` groups run and `queue_requests` wait, for `queue_max_wait_s` at most; first come first.

    A group is one request, or those of one lane that have waited until it was free.

    Belongs to the loop's thread, so it needs no lock. The caller says what time it is.
    """

    def __init__(self, places: int, queue_requests: int, queue_max_wait_s: float) -> None:
        self.places = places
        self.running = 0
        self._queue_requests = queue_requests
        self._queue_max_wait_s = queue_max_wait_s
        self._queue: deque[RequestT] = deque()
        self._dropped = 0
        self._lanes: set[Hashable] = set()
        """The lanes of the groups that run."""
        # The earliest deadline of those that wait: never later than the true one.
        self._earliest_s = float("inf")

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue) - self._dropped

    def enter(self, request: RequestT) -> bool | None:
        """True: it runs now. False: it waits. None: it is refused, the queue is full."""
        # With a place free, whoever waits does so for a lane.
        if self.running < self.places and request.lane not in self._lanes:
            self._begin(request.lane)
            return True
        if self.waiting >= self._queue_requests:
            return None
        self._queue.append(request)
        self._earliest_s = min(self._earliest_s, request.deadline_s)
        return False

    def drop(self, request: RequestT) -> None:
        """Forgets one that waits; its place in the line is taken away when its turn comes."""
        if not request.dropped:
            request.dropped = True
            self._dropped += 1

    def leave(self, lane: Hashable = None) -> list[RequestT]:
        """A group of this lane has run; the next one, which runs now in its place, or nobody."""
        self.running -= 1
        self._lanes.discard(lane)
        queue = self._queue
        while queue and queue[0].dropped:
            queue.popleft()
            self._dropped -= 1
        if not queue:
            self._earliest_s = float("inf")
            return []
        if queue[0].lane is None:
            self._begin(None)
            return [queue.popleft()]
        return self._next_group()

    def _next_group(self) -> list[RequestT]:
        """The first that waits and whose lane is free, with those of its lane."""
        group: list[RequestT] = []
        kept: deque[RequestT] = deque()
        for request in self._queue:
            if request.dropped:
                self._dropped -= 1
                continue
            if group:
                joins = request.lane is not None and request.lane == group[0].lane and len(group) < GROUP_REQUESTS
            else:
                joins = request.lane not in self._lanes
            (group if joins else kept).append(request)
        self._queue = kept
        if group:
            self._begin(group[0].lane)
        return group

    def _begin(self, lane: Hashable) -> None:
        self.running += 1
        if lane is not None:
            self._lanes.add(lane)

    def next_expiry_s(self) -> float:
        """When `expired` should be asked again; infinity while nobody waits."""
        if not self._queue:
            return float("inf")
        return min(self._queue[0].queued_s + self._queue_max_wait_s, self._earliest_s)

    def expired(self, now_s: float) -> tuple[list[RequestT], list[RequestT]]:
        """Those that waited too long, and those whose own deadline has passed; both are out of the queue."""
        overdue: list[RequestT] = []
        late: list[RequestT] = []
        while self._queue and (self._queue[0].dropped or self._queue[0].queued_s + self._queue_max_wait_s <= now_s):
            request = self._queue.popleft()
            if request.dropped:
                self._dropped -= 1
            elif request.deadline_s <= now_s:
                late.append(request)
            else:
                overdue.append(request)
        if self._earliest_s <= now_s:
            kept: deque[RequestT] = deque()
            for request in self._queue:
                if request.dropped:
                    self._dropped -= 1
                elif request.deadline_s <= now_s:
                    late.append(request)
                else:
                    kept.append(request)
            self._queue = kept
            self._earliest_s = min((request.deadline_s for request in kept), default=float("inf"))
        return overdue, late

    def age_s(self, now_s: float) -> float:
        """How long the first of those that wait has waited."""
        return max(0.0, now_s - self._queue[0].queued_s) if self._queue else 0.0

    def everyone(self) -> list[RequestT]:
        """All that wait, taken out."""
        waiting = [request for request in self._queue if not request.dropped]
        self._queue.clear()
        self._dropped = 0
        return waiting
