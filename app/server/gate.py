"""Who may run, who waits, who is refused: admission without a clock, a socket or a thread of its own."""

from __future__ import annotations

import itertools
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
    client: Hashable


RequestT = TypeVar("RequestT", bound=Waiting)


class _Line(Generic[RequestT]):
    """The requests of one client that wait, the first of which is not dropped. `waiting` are not."""

    __slots__ = ("requests", "waiting")

    def __init__(self) -> None:
        self.requests: deque[RequestT] = deque()
        self.waiting = 0

    def trim(self) -> None:
        """Takes away what was dropped at the head."""
        while self.requests and self.requests[0].dropped:
            self.requests.popleft()

    def take(self, busy: set[Hashable]) -> RequestT | None:
        """Takes out the first whose lane is not busy."""
        for at, request in enumerate(self.requests):
            if not request.dropped and request.lane not in busy:
                del self.requests[at]
                self.waiting -= 1
                self.trim()
                return request
        return None

    def take_last(self) -> RequestT:
        """Takes out the one that came last."""
        while self.requests[-1].dropped:
            self.requests.pop()
        self.waiting -= 1
        return self.requests.pop()

    def keep(self, requests: list[RequestT]) -> None:
        """Only these stay."""
        self.requests = deque(requests)
        self.waiting = len(requests)


class Gate(Generic[RequestT]):
    """At most `places` groups run and `queue_requests` wait, for `queue_max_wait_s` at most.

    Those that wait take turns by client, and the requests of one client come first come first served: so a client that
    asks for much waits in a line of its own. A group is one request, or those of one lane that have waited until it was
    free, whoever's they are.

    Belongs to the loop's thread, so it needs no lock. The caller says what time it is.
    """

    def __init__(self, places: int, queue_requests: int, queue_max_wait_s: float) -> None:
        self.places = places
        self.running = 0
        self.waiting = 0
        """How many wait."""
        self._queue_requests = queue_requests
        self._queue_max_wait_s = queue_max_wait_s
        self._lines: dict[Hashable, _Line[RequestT]] = {}
        """Of the clients of whom any wait, in the order of their turns."""
        self._lanes: set[Hashable] = set()
        """The lanes of the groups that run."""
        # Of those that wait, when the first came and the earliest deadline: never later than the true ones.
        self._oldest_s = self._earliest_s = float("inf")

    def enter(self, request: RequestT) -> bool | None:
        """True: it runs now. False: it waits. None: it is refused, the queue is full."""
        # With a place free, whoever waits does so for a lane.
        if self.running < self.places and request.lane not in self._lanes:
            self._begin(request.lane)
            return True
        if self.waiting >= self._queue_requests:
            return None
        line = self._lines.get(request.client)
        if line is None:
            line = self._lines[request.client] = _Line()
        line.requests.append(request)
        line.waiting += 1
        self.waiting += 1
        self._oldest_s = min(self._oldest_s, request.queued_s)
        self._earliest_s = min(self._earliest_s, request.deadline_s)
        return False

    def share(self, client: Hashable) -> float:
        """How many requests of this client may wait in a full queue: as many as of every other that has any there."""
        return self._queue_requests / (len(self._lines) + (client not in self._lines))

    def is_greedy(self, client: Hashable) -> bool:
        """Whether more than its share wait."""
        line = self._lines.get(client)
        return line is not None and line.waiting > self.share(client)

    def make_room(self, client: Hashable) -> RequestT | None:
        """For a client that has not all of its share in a full queue: the last request of the one that has most there.

        It is out of the queue, in which there is room now. None where the client has its share.
        """
        line = self._lines.get(client)
        if (line.waiting if line is not None else 0) + 1 > self.share(client):
            return None
        greediest, longest = max(self._lines.items(), key=lambda entry: entry[1].waiting)
        request = longest.take_last()
        self._took(greediest, longest, 1)
        return request

    def drop(self, request: RequestT) -> None:
        """Forgets one that waits; its place in the line is taken away when its turn comes."""
        if not request.dropped:
            request.dropped = True
            line = self._lines[request.client]
            line.waiting -= 1
            line.trim()
            self._took(request.client, line, 1)

    def leave(self, lane: Hashable = None) -> list[RequestT]:
        """A group of this lane has run; the next one, which runs now in its place, or nobody."""
        self.running -= 1
        self._lanes.discard(lane)
        for client, line in self._lines.items():
            first = line.take(self._lanes)
            if first is not None:
                self._lines[client] = self._lines.pop(client)  # its next turn is after all others'
                self._took(client, line, 1)
                self._begin(first.lane)
                return [first] if first.lane is None else [first, *self._companions(first.lane)]
        return []

    def _companions(self, lane: Hashable) -> list[RequestT]:
        """Those of this lane that run with the one whose turn it is: of each client one, in turn, until there are
        enough. They are out of the queue."""
        of_lane = [
            [request for request in line.requests if request.lane == lane and not request.dropped]
            for line in self._lines.values()
        ]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*of_lane))
        taken = list(itertools.islice(filter(None, turns), GROUP_REQUESTS - 1))
        if taken:
            self._take_out(set(taken))
        return taken

    def _take_out(self, taken: set[RequestT]) -> None:
        for client, line in list(self._lines.items()):
            before = line.waiting
            line.keep([request for request in line.requests if request not in taken and not request.dropped])
            self._took(client, line, before - line.waiting)

    def _took(self, client: Hashable, line: _Line[RequestT], requests: int) -> None:
        """So many of a line wait no more."""
        self.waiting -= requests
        if not line.waiting:
            del self._lines[client]
            if not self._lines:
                self._oldest_s = self._earliest_s = float("inf")

    def _begin(self, lane: Hashable) -> None:
        self.running += 1
        if lane is not None:
            self._lanes.add(lane)

    def next_expiry_s(self) -> float:
        """When `expired` should be asked again; infinity while nobody waits."""
        return min(self._oldest_s + self._queue_max_wait_s, self._earliest_s)

    def expired(self, now_s: float) -> tuple[list[RequestT], list[RequestT]]:
        """Those that waited too long, and those whose own deadline has passed; both are out of the queue."""
        overdue: list[RequestT] = []
        late: list[RequestT] = []
        if self._oldest_s + self._queue_max_wait_s <= now_s:
            for client, line in list(self._lines.items()):
                before = line.waiting
                while line.requests and line.requests[0].queued_s + self._queue_max_wait_s <= now_s:
                    request = line.requests.popleft()
                    line.waiting -= 1
                    line.trim()
                    (late if request.deadline_s <= now_s else overdue).append(request)
                self._took(client, line, before - line.waiting)
            self._oldest_s = min((line.requests[0].queued_s for line in self._lines.values()), default=float("inf"))
        if self._earliest_s <= now_s:
            waiting = [request for line in self._lines.values() for request in line.requests if not request.dropped]
            late_now = [request for request in waiting if request.deadline_s <= now_s]
            if late_now:
                late += late_now
                self._take_out(set(late_now))
            self._earliest_s = min(
                (request.deadline_s for request in waiting if request.deadline_s > now_s), default=float("inf")
            )
        return overdue, late

    def age_s(self, now_s: float) -> float:
        """How long the first of those that wait has waited. Any thread may ask, so it looks at copies."""
        heads = [list(itertools.islice(line.requests, 1)) for line in list(self._lines.values())]
        return max((now_s - first.queued_s for head in heads for first in head), default=0.0)

    def everyone(self) -> list[RequestT]:
        """All that wait, taken out."""
        waiting = [request for line in self._lines.values() for request in line.requests if not request.dropped]
        self._lines.clear()
        self.waiting = 0
        self._oldest_s = self._earliest_s = float("inf")
        return waiting
