"""Counts of limits that several hosts share through Redis.

Requests never wait for Redis: they are decided by the counts in memory. A thread of each worker sends what the worker
has counted to Redis every 50 ms, and learns what the other hosts have counted for the same clients. So on top of a
limit, each host may let pass as much as it counts between two exchanges. While Redis is gone, each host counts alone.

Redis holds two numbers for a limit, a client and a window: the sum of all hosts, and the part of this host. Both grow
in one transaction, and their difference is the count of the other hosts.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from app.gateway.limit_storage import ROWS, SharedStorage
from app.telemetry.families import key
from app.telemetry.metrics import SharedMetrics

if TYPE_CHECKING:
    from limits.storage import RedisStorage

log = logging.getLogger(__name__)

EXCHANGE_S = 0.05
IDLE_EXCHANGE_S = 1.0
"""Interval in which Redis is asked whether it is there, and tried again while it is gone."""
RETRY_S = 0.25
ANSWERS_WITHIN_S = 0.5
CLOCK_TOLERANCE_S = 0.1
MOST_WAITING = 2**17
"""Most additions that wait to be sent. The oldest are dropped."""
MOST_SENT_AT_ONCE = 1000
PREFIX = "retort:"
UP = key("retort_limits_redis_up")


class RedisSync:
    """Shares the counts of a storage with other hosts. Made before the fork; `start` is called in each worker."""

    def __init__(self, url: str, storage: SharedStorage, metrics: SharedMetrics) -> None:
        self._url = url
        self._storage = storage
        self._metrics = metrics
        self._host = secrets.token_hex(8)
        self._state = HostState()
        self._unsent: dict[tuple[str, int, int], int] = {}
        self._is_up: bool | None = None
        self._next_s = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_running = False
        storage.additions = deque(maxlen=MOST_WAITING)
        storage.ahead_s = time.time() - time.monotonic()  # Redis corrects it

    def start(self) -> None:
        """Start the thread, once in a process."""
        if not self.is_running:
            self.is_running = True
            self._thread = threading.Thread(target=self._run, name="retort-limits", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._state.close()

    def _run(self) -> None:
        try:
            redis = _connect(self._url)
            client: Any = redis.get_connection()
        except Exception as error:  # noqa: BLE001 - an option of the URL that the library does not take
            self._mark(False, error)
            return
        while not self._stop.wait(EXCHANGE_S):
            self._collect()
            if not (self._unsent and self._is_up) and time.monotonic() < self._next_s:
                continue
            try:
                self._exchange(redis, client.pipeline(transaction=True))
            except Exception as error:  # noqa: BLE001 - whatever it is, requests go on without Redis
                self._next_s = time.monotonic() + RETRY_S
                self._mark(False, error)
            else:
                self._next_s = time.monotonic() + IDLE_EXCHANGE_S
                self._mark(True)
        client.close()

    def _collect(self) -> None:
        """Sum what this worker has counted since the last time, without the windows that have ended."""
        additions, unsent = self._storage.additions, self._unsent
        while additions:
            name, window, expiry, amount = additions.popleft()
            place = name, window, expiry
            unsent[place] = unsent.get(place, 0) + amount
        now_s = self._storage.now_s()
        if not self._is_up:  # sent soon otherwise
            for place in [place for place in unsent if (place[1] + 1) * place[2] < now_s]:
                del unsent[place]
            while len(unsent) > ROWS:
                del unsent[next(iter(unsent))]

    def _exchange(self, redis: RedisStorage, pipeline: Any) -> None:
        """Send the sums, and store the counts of the other hosts."""
        sent = list(self._unsent.items())[:MOST_SENT_AT_ONCE]
        began_s = time.monotonic()
        pipeline.time()
        for (name, window, expiry), amount in sent:
            total = f"{PREFIX}{name}/{window}"
            for counted in (total, f"{total}/{self._host}"):
                redis.lua_incr_expire([counted], [2 * expiry, amount], client=pipeline)
        (seconds, microseconds), *counts = pipeline.execute()
        ahead_s = seconds + microseconds / 1e6 - self._storage.now_s()
        if abs(ahead_s) > CLOCK_TOLERANCE_S + time.monotonic() - began_s:
            self._storage.ahead_s += ahead_s
        for (place, _), total, own in zip(sent, counts[::2], counts[1::2], strict=True):
            name, window, expiry = place
            self._storage.set_remote(name, window, expiry, total - own)
            del self._unsent[place]

    def _mark(self, is_up: bool, error: Exception | None = None) -> None:
        """Publish whether Redis answers, and log a change, once on a host."""
        if is_up is self._is_up:
            return
        self._is_up = is_up
        self._metrics.put(UP, float(is_up))
        if not self._state.change(is_up):
            return
        if is_up:
            log.info("Redis answers again: limits are shared with the other hosts")
        else:
            reason = type(error).__name__
            log.warning("Redis does not answer (%s): until it does, this host counts its limits alone", reason)


class HostState:
    """Whether Redis answers, as the workers of a host know together. The first that sees a change is told so.

    The state is a byte in one of two pipes. A worker that can take it from there has changed the state.
    """

    def __init__(self) -> None:
        self._pipes = {is_up: os.pipe() for is_up in (False, True)}
        for reader, _ in self._pipes.values():
            os.set_blocking(reader, False)
        os.write(self._pipes[True][1], b".")

    def change(self, is_up: bool) -> bool:
        """Change the state, and return whether it was another one before."""
        try:
            taken = os.read(self._pipes[not is_up][0], 1)
        except BlockingIOError:
            return False
        os.write(self._pipes[is_up][1], taken)
        return True

    def close(self) -> None:
        """Close the pipes of this process."""
        for pipe in self._pipes.values():
            for descriptor in pipe:
                os.close(descriptor)


def _connect(url: str) -> RedisStorage:
    """Return the library's storage in Redis. It connects when it is used."""
    from limits.storage import RedisStorage
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return RedisStorage(
        url,
        socket_timeout=ANSWERS_WITHIN_S,
        socket_connect_timeout=ANSWERS_WITHIN_S,
        retry=Retry(NoBackoff(), 1),  # type: ignore[arg-type]  # passed on to the client
    )
