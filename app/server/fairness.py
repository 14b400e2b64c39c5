"""Fairness between clients: in the queue of requests for threads, in the work of the loop, and in open connections."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Generic, TypeVar

from app.server.connection import BODY, HEAD, IDLE, LINGERING, Connection
from app.server.pending import PendingRequest

GROUP_REQUESTS = 128
WORK_S = 0.001
"""Time for each kind of work in one turn of the loop. The piece of work that passes it is still finished."""
EVICTABLE_AT_ONCE = 64
RECEIVING_SHARE = 0.5
"""Share of all connections that one client may use for requests that are still arriving."""

WorkT = TypeVar("WorkT")
ClientQueue = OrderedDict[PendingRequest, None]
"""The waiting requests of one client, in the order of their arrival."""


class AdmissionQueue:
    """Queue for one kind of requests: `places` groups run, `queue_requests` wait, each for at most `queue_max_wait_s`.

    Clients take turns; the requests of one client are served in the order of their arrival. A group is one request, or
    all waiting requests of one batch key, of any client; only one group of a batch key runs at a time. A request that
    has begun and waits for a place again is never refused. Belongs to the loop's thread; the caller passes the time.
    """

    def __init__(self, places: int, queue_requests: int, queue_max_wait_s: float) -> None:
        self.places = places
        self.running = 0
        self.waiting = 0
        """Number of waiting requests that have not begun."""
        self._queue_requests = queue_requests
        self._queue_max_wait_s = queue_max_wait_s
        self._queues: dict[Hashable, ClientQueue] = {}
        """By client, in the order of their turns; no queue is empty."""
        self._running_keys: set[Hashable] = set()
        self.next_expiry_s = math.inf
        """When `take_expired` should be called again at the latest; infinity while no request waits."""

    def enter(self, request: PendingRequest) -> bool | None:
        """Admit a request. Return True if it runs now, False if it waits, None if the queue is full."""
        # While a place is free, requests wait only for their batch key.
        if self.running < self.places and request.batch_key not in self._running_keys:
            self._begin(request.batch_key)
            return True
        if self.waiting >= self._queue_requests:
            return None
        self._append(request)
        self.waiting += 1
        self.next_expiry_s = min(self.next_expiry_s, self._expiry_s(request))
        return False

    def rejoin(self, request: PendingRequest) -> bool:
        """Queue a request that has begun and left its place. Return True if it runs now, False if it waits."""
        if self.running < self.places:
            self._begin(None)
            return True
        self._append(request)
        return False

    def _append(self, request: PendingRequest) -> None:
        self._queues.setdefault(request.client, OrderedDict())[request] = None

    def fair_share(self, client: Hashable) -> float:
        """Return how many requests each client may have in a full queue, counting this client as one that waits."""
        return self._queue_requests / (len(self._queues) + (client not in self._queues))

    def over_fair_share(self, client: Hashable) -> bool:
        """Return whether more requests of this client wait than its fair share."""
        return len(self._queues.get(client, ())) > self.fair_share(client)

    def make_room(self, client: Hashable) -> PendingRequest | None:
        """Remove the newest request of the client with the most requests from a full queue, and return it.

        Return None, and remove nothing, if `client` already has its own fair share there.
        """
        if len(self._queues.get(client, ())) + 1 > self.fair_share(client):
            return None
        by_client = [[request for request in queue if not request.began_s] for queue in self._queues.values()]
        longest = max(by_client, key=len, default=[])
        if not longest:
            return None
        self.remove(longest[-1])
        return longest[-1]

    def remove(self, request: PendingRequest) -> None:
        """Remove a request that waits."""
        queue = self._queues[request.client]
        del queue[request]
        self.waiting -= not request.began_s
        if not queue:
            del self._queues[request.client]
            if not self._queues:
                self.next_expiry_s = math.inf

    def leave(self, batch_key: Hashable = None) -> list[PendingRequest]:
        """Release the place of a group of this batch key, and return the next group, which may be empty."""
        self.running -= 1
        self._running_keys.discard(batch_key)
        for client, queue in self._queues.items():
            first = next((request for request in queue if request.batch_key not in self._running_keys), None)
            if first is not None:
                self._queues[client] = self._queues.pop(client)  # move to the end: all other clients come first
                self.remove(first)
                self._begin(first.batch_key)
                return [first] if first.batch_key is None else [first, *self._companions(first.batch_key)]
        return []

    def _companions(self, batch_key: Hashable) -> list[PendingRequest]:
        """Remove and return the requests that join a group: one of each client in turn, until the group is full."""
        by_client = [
            [request for request in queue if request.batch_key == batch_key] for queue in self._queues.values()
        ]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*by_client))
        companions = list(itertools.islice(filter(None, turns), GROUP_REQUESTS - 1))
        for request in companions:
            self.remove(request)
        return companions

    def _begin(self, batch_key: Hashable) -> None:
        self.running += 1
        if batch_key is not None:
            self._running_keys.add(batch_key)

    def _expiry_s(self, request: PendingRequest) -> float:
        return math.inf if request.began_s else min(request.arrived_s + self._queue_max_wait_s, request.deadline_s)

    def take_expired(self, now_s: float) -> Iterator[PendingRequest]:
        """Remove and yield each request that has waited too long or whose own deadline has passed."""
        for request in [request for request in self._requests() if self._expiry_s(request) <= now_s]:
            self.remove(request)
            yield request
        self.next_expiry_s = min(map(self._expiry_s, self._requests()), default=math.inf)

    def age_s(self, now_s: float) -> float:
        """Return how long the oldest request has waited. Any thread may call this, so read copies."""
        waiting = [request for queue in list(self._queues.values()) for request in list(queue) if not request.began_s]
        return max((now_s - request.arrived_s for request in waiting), default=0.0)

    def _requests(self) -> list[PendingRequest]:
        return [request for queue in self._queues.values() for request in queue]

    def clear(self) -> list[PendingRequest]:
        """Remove all requests and return them."""
        requests = self._requests()
        for request in requests:
            self.remove(request)
        return requests


class ClientTurns(Generic[WorkT]):
    """Work for the loop, by client. Clients take turns, so that no client waits for all the work of another."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, deque[WorkT]] = OrderedDict()
        """By client, in the order of their turns; no queue is empty."""
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def append(self, client: Hashable, work: WorkT) -> None:
        """Append a piece of work to its client's queue."""
        queue = self._queues.get(client)
        if queue is None:
            queue = self._queues[client] = deque()
        queue.append(work)
        self._waiting += 1

    def popleft(self) -> WorkT:
        """Remove and return the first piece of work of the next client."""
        client, queue = self._queues.popitem(last=False)
        self._waiting -= 1
        work = queue.popleft()
        if queue:
            self._queues[client] = queue
        return work


def work_until_s() -> float:
    """Return when one kind of work should stop in this turn of the loop (`time.monotonic`, seconds)."""
    return time.monotonic() + WORK_S


def take_waiting(waiting: deque[WorkT] | ClientTurns[WorkT]) -> Iterator[WorkT]:
    """Remove and yield the waiting work in order, for about `WORK_S`. The rest stays for the next turn.

    Work that is added meanwhile also stays. Otherwise work that creates more work could block the loop.
    """
    until_s = work_until_s()
    for _ in range(len(waiting)):
        yield waiting.popleft()
        if time.monotonic() >= until_s:
            return


def is_evictable(connection: Connection, evict_idle_s: float, now_s: float) -> bool:
    """Return whether a connection has been idle, or receiving a request, for long enough to be closed for room."""
    is_unanswered = connection.state in (IDLE, LINGERING, HEAD, BODY)
    return is_unanswered and now_s - connection.idle_since_s >= evict_idle_s


def evictable(connections: Iterable[Connection], evict_idle_s: float, now_s: float) -> list[Connection]:
    """Return some connections to close for room: the longest idle, else the slowest of the client with the most."""
    candidates = [one for one in connections if is_evictable(one, evict_idle_s, now_s)]
    if idle := [one for one in candidates if one.state in (IDLE, LINGERING)]:
        return heapq.nsmallest(EVICTABLE_AT_ONCE, idle, key=attrgetter("idle_since_s"))
    for client, _ in Counter(one.client for one in candidates).most_common(1):
        return _slowest([one for one in candidates if one.client == client], EVICTABLE_AT_ONCE, now_s)
    return []


def over_share(connections: Sequence[Connection], places: int, now_s: float) -> Iterator[Connection]:
    """Yield the connections by which a client exceeds its share of all places: its slowest with an arriving request."""
    at_most = int(places * RECEIVING_SHARE)
    if len(connections) <= at_most:
        return
    receiving = [one for one in connections if one.state in (HEAD, BODY)]
    for client, count in Counter(one.client for one in receiving).items():
        if count > at_most:
            yield from _slowest([one for one in receiving if one.client == client], count - at_most, now_s)


def _slowest(connections: Sequence[Connection], count: int, now_s: float) -> list[Connection]:
    return heapq.nsmallest(count, connections, key=lambda one: one.bytes_per_s(now_s))
