"""Counts of limits that several hosts share through Redis.

Requests never wait for Redis: the counts in memory decide about them. Every 50 ms, a thread of each worker sends its
worker's new counts to Redis, and receives the counts of the other hosts for the same clients. So a client may exceed a
limit by as much as each host counts between two exchanges. While Redis does not answer, each host counts alone.

For each limit, client and window, Redis has two numbers: the sum of all hosts, and the part of this host. One
transaction adds to both, and their difference is the count of the other hosts.
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
"""Interval between exchanges while there is nothing to send."""
RETRY_S = 0.25
"""Interval between attempts while Redis does not answer."""
ANSWERS_WITHIN_S = 0.5
CLOCK_TOLERANCE_S = 0.1
MOST_WAITING = 2**17
"""Limit of the additions that wait to be sent. Beyond it, the oldest are dropped."""
MOST_SENT_AT_ONCE = 1000
PREFIX = "retort:"
UP = key("retort_limits_redis_up")


class RedisSync:
    """Exchange of a storage's counts with other hosts. Made before the fork; `start` is called in each worker."""

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
        storage.ahead_s = time.time() - time.monotonic()  # corrected later by the clock of Redis

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
        except Exception as error:  # noqa: BLE001 - the library does not accept an option of the URL
            self._mark(False, error)
            return
        while not self._stop.wait(EXCHANGE_S):
            self._collect()
            if not (self._unsent and self._is_up) and time.monotonic() < self._next_s:
                continue
            try:
                self._exchange(redis, client.pipeline(transaction=True))
            except Exception as error:  # noqa: BLE001 - after any error, requests continue without Redis
                self._next_s = time.monotonic() + RETRY_S
                self._mark(False, error)
            else:
                self._next_s = time.monotonic() + IDLE_EXCHANGE_S
                self._mark(True)
        client.close()

    def _collect(self) -> None:
        """Add the new counts of this worker to the unsent ones. While Redis is down, forget windows that have ended."""
        additions, unsent = self._storage.additions, self._unsent
        while additions:
            name, window, expiry, amount = additions.popleft()
            counter = name, window, expiry
            unsent[counter] = unsent.get(counter, 0) + amount
        now_s = self._storage.now_s()
        if not self._is_up:  # otherwise the next exchange sends them
            for counter in [counter for counter in unsent if (counter[1] + 1) * counter[2] < now_s]:
                del unsent[counter]
            while len(unsent) > ROWS:
                del unsent[next(iter(unsent))]

    def _exchange(self, redis: RedisStorage, pipeline: Any) -> None:
        """Send the sums, and store the counts of the other hosts."""
        sent = list(self._unsent.items())[:MOST_SENT_AT_ONCE]
        began_s = time.monotonic()
        pipeline.time()
        for (name, window, expiry), amount in sent:
            total = f"{PREFIX}{name}/{window}"
            for name_in_redis in (total, f"{total}/{self._host}"):
                redis.lua_incr_expire([name_in_redis], [2 * expiry, amount], client=pipeline)
        (seconds, microseconds), *counts = pipeline.execute()
        ahead_s = seconds + microseconds / 1e6 - self._storage.now_s()
        if abs(ahead_s) > CLOCK_TOLERANCE_S + time.monotonic() - began_s:
            self._storage.ahead_s += ahead_s
        for (counter, _), total, own in zip(sent, counts[::2], counts[1::2], strict=True):
            name, window, expiry = counter
            self._storage.set_remote(name, window, expiry, total - own)
            del self._unsent[counter]

    def _mark(self, is_up: bool, error: Exception | None = None) -> None:
        """Publish whether Redis answers. One worker of the host logs each change."""
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
    """The state of Redis, shared by the workers of a host, so that only the first worker that sees a change logs it.

    The state is a byte in one of two pipes. The worker that can read the byte moves it to the other pipe.
    """

    def __init__(self) -> None:
        self._pipes = {is_up: os.pipe() for is_up in (False, True)}
        for reader, _ in self._pipes.values():
            os.set_blocking(reader, False)
        os.write(self._pipes[True][1], b".")

    def change(self, is_up: bool) -> bool:
        """Set the state, and return whether this worker has changed it."""
        try:
            byte = os.read(self._pipes[not is_up][0], 1)
        except BlockingIOError:
            return False
        os.write(self._pipes[is_up][1], byte)
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
