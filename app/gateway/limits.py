"""Limits for the requests and the rows of each client in a window of time.

A client is the holder of a key or token; without one, it is an address. Requests are counted before they run. The rows
of a request are known only after its validation, so they are counted at its end: a client that has used up its rows is
refused from its next request on. Refused requests are not counted.

The header fields follow draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from limits import RateLimitItem, parse_many

from app.gateway.context import RequestContext
from app.gateway.errors import RequestRefused
from app.gateway.interceptors import Interceptor
from app.gateway.limit_storage import SharedStorage
from app.gateway.limit_sync import RedisSync
from app.server.contract import Response
from app.settings import Settings
from app.telemetry.families import key
from app.telemetry.metrics import SharedMetrics

REQUESTS, ROWS = "requests", "rows"
CACHED_CLIENTS = 4096
IPV6_CLIENT_BITS = 64
"""A provider gives one customer all addresses with the same first 64 bits."""


class Limit:
    """One limit: a number of requests or rows of each client in a window.

    With `of_address`, all requests of an address are counted together, with any key or none.
    """

    def __init__(self, unit: str, rate: RateLimitItem, of_address: bool) -> None:
        named = type(rate)(rate.amount, rate.multiples, f"address-{unit}" if of_address else unit)
        self.unit = unit
        self.of_address = of_address
        self.amount, self.expiry = rate.amount, rate.get_expiry()
        self.before_client, self.after_client = named.key_for("\0").split("\0")
        """The parts of the library's key for a client."""
        self.taken_before, self.least_left = (1, 0) if unit == REQUESTS else (0, 1)
        """The amount that a request takes before it runs, and the least amount that must then be left."""
        window = rate.GRANULARITY.name if rate.multiples == 1 else f"{rate.multiples} {rate.GRANULARITY.name}s"
        self.words = f"{rate.amount} {unit[:-1] if rate.amount == 1 else unit} per {window}"
        name = f"{unit} per {window} and address" if of_address else f"{unit} per {window}"
        quota_unit = "" if unit == REQUESTS else f';qu="{unit}"'
        self.policy = f'"{name}";q={rate.amount}{quota_unit};w={self.expiry}'
        self.left = f'"{name}";r=%d;t=%d'


def limits_of(settings: Settings) -> list[Limit]:
    """Return the limits in the settings. Limits of rows come first, because `before` only reads their counts."""
    texts = (
        (ROWS, settings.limit_rows, False),
        (ROWS, settings.limit_address_rows, True),
        (REQUESTS, settings.limit_requests, False),
        (REQUESTS, settings.limit_address_requests, True),
    )
    return [Limit(unit, rate, address) for unit, text, address in texts if text for rate in parse_many(text)]


class ClientLimits(Interceptor):
    """Interceptor that refuses clients that have used up a limit, and adds the amounts left to every response."""

    may_block = False
    looks_at_view = True

    def __init__(
        self, limits: Sequence[Limit], storage: SharedStorage, metrics: SharedMetrics, sync: RedisSync | None = None
    ) -> None:
        self._limits = limits
        self._rows = sum(limit.unit == ROWS for limit in limits)
        self.storage = storage
        self._add = storage.add
        self._names = lru_cache(maxsize=CACHED_CLIENTS)(self._make_names)
        self.sync = sync
        """The exchange of the counts with other hosts, which starts at the first request; None for one host."""
        self._metrics = metrics
        self._policy = ("RateLimit-Policy", ", ".join(limit.policy for limit in limits))
        self._left = ", ".join(limit.left for limit in limits)

    def before(self, context: RequestContext) -> None:
        """Count a request, and refuse it if its client has used up a limit."""
        if self.sync is not None and not self.sync.is_running:
            self.sync.start()
        if not context.is_limited or context.limits_left is not None:
            return
        names = self._names(context.address, context.principal.id if context.principal is not None else "")
        left: list[int] = []
        for name, limit in zip(names, self._limits, strict=False):
            used, left_s = self._add(name, limit.expiry, limit.taken_before)
            remaining = limit.amount - used
            if remaining < limit.least_left:
                self._refuse(context, limit, names)
            left += (remaining, int(left_s) + 1)
        context.limit_names, context.limits_left = names, left

    def after(self, context: RequestContext, response: Response) -> None:
        """Count the rows of a request, and add the header fields. Count the rows of a stream at its end."""
        left = context.limits_left
        if left is None:
            return
        if self._rows and context.limit_names:
            rows = context.rows
            if rows:
                self._count_rows(context, left, rows)
            if not isinstance(response.body, bytes):
                context.at_end(lambda: self._count_rows(context, left, context.rows - rows))
        response.headers += (self._policy, ("RateLimit", self._left % tuple(left)))

    def _count_rows(self, context: RequestContext, left: list[int], rows: int) -> None:
        """Count rows of a request's client, and correct the amounts left."""
        for place in range(self._rows):
            limit = self._limits[place]
            used, _ = self._add(context.limit_names[place], limit.expiry, rows)
            left[2 * place] = max(0, limit.amount - used)

    def _refuse(self, context: RequestContext, over: Limit, names: Sequence[str]) -> None:
        """Undo the counts of a request that is over a limit, and raise its refusal."""
        place = self._limits.index(over)
        for limit, name in zip(self._limits[: place + 1], names, strict=False):
            self._add(name, limit.expiry, -limit.taken_before)
        left: list[int] = []
        for limit, name in zip(self._limits, names, strict=True):
            used, left_s = self._add(name, limit.expiry, 0)
            left += (max(0, limit.amount - used), int(left_s) + 1)
        wait_s = int(self.storage.wait_s(names[place], over.amount, over.expiry)) + 1
        left[2 * place : 2 * place + 2] = (0, wait_s)
        context.limits_left = left
        self._metrics.add(key("retort_requests_limited", over.unit), (1.0,))
        client = "this address" if over.of_address or context.principal is None else "this key"
        detail = f"{client} has used up its limit of {over.words}; try again in {wait_s} s"
        raise RequestRefused(429, "rate-limited", detail, {"Retry-After": str(wait_s)})

    def _make_names(self, address: str, key_id: str) -> tuple[str, ...]:
        """Return the name of each limit in the storage, for the client of a request."""
        if ":" in address:
            address = network(address)
        client = f"key {key_id}" if key_id else address
        return tuple(
            limit.before_client + (address if limit.of_address else client) + limit.after_client
            for limit in self._limits
        )


def client_limits(settings: Settings, metrics: SharedMetrics) -> ClientLimits:
    """Return the interceptor for the limits in the settings. Its storage is shared by the same workers as `metrics`."""
    storage = SharedStorage()
    metrics.beside.append(storage)
    sync = RedisSync(settings.redis_url, storage, metrics) if settings.redis_url else None
    return ClientLimits(limits_of(settings), storage, metrics, sync)


def network(address: str) -> str:
    """Return the network to which an IPv6 address belongs, as one client. Return any other text unchanged."""
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), IPV6_CLIENT_BITS), strict=False))
