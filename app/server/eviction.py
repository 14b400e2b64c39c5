"""Choose the connections that a worker without room closes: idle ones, else the slowest of the greediest client."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from app.server.connection import BODY, HEAD, IDLE, LINGERING, Connection

SPARED_AT_ONCE = 64
RECEIVING_SHARE = 0.5
"""Share of all places for connections that one client may use for requests that are being received."""


def is_spared(connection: Connection, evict_idle_s: float, now_s: float) -> bool:
    """Return whether a connection has been idle, or receiving a request, for long enough to be closed."""
    is_one = connection.state in (IDLE, LINGERING, HEAD, BODY)
    return is_one and now_s - connection.idle_since_s >= evict_idle_s


def candidates(connections: Iterable[Connection], evict_idle_s: float, now_s: float) -> list[Connection]:
    """Return some of the connections idle for longest, or else the slowest of the client with most connections."""
    spared = [one for one in connections if is_spared(one, evict_idle_s, now_s)]
    if idle := [one for one in spared if one.state in (IDLE, LINGERING)]:
        return heapq.nsmallest(SPARED_AT_ONCE, idle, key=attrgetter("idle_since_s"))
    for client, _ in Counter(one.client for one in spared).most_common(1):
        return _slowest([one for one in spared if one.client == client], SPARED_AT_ONCE, now_s)
    return []


def over_share(connections: Sequence[Connection], places: int, now_s: float) -> Iterator[Connection]:
    """Yield the slowest receiving connections of each client beyond its share of all places."""
    at_most = int(places * RECEIVING_SHARE)
    if len(connections) <= at_most:
        return
    receiving = [one for one in connections if one.state in (HEAD, BODY)]
    for client, count in Counter(one.client for one in receiving).items():
        if count > at_most:
            yield from _slowest([one for one in receiving if one.client == client], count - at_most, now_s)


def _slowest(connections: Sequence[Connection], count: int, now_s: float) -> list[Connection]:
    return heapq.nsmallest(count, connections, key=lambda one: one.bytes_per_s(now_s))
