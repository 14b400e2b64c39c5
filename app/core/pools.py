"""An HTTP client for hundreds of requests at once: many small pools of connections instead of one large.

httpcore looks at every connection of a pool for each request, and asks the system whether the idle ones are still
open (1.0.9, `AsyncConnectionPool._assign_requests_to_connections`): at 500 connections that costs milliseconds.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import httpx

POOL_CONNECTIONS = 4


class _Pool:
    """One small pool and how many requests are on their way in it."""

    __slots__ = ("asking", "transport")

    def __init__(self, trusted: ssl.SSLContext) -> None:
        limits = httpx.Limits(max_connections=POOL_CONNECTIONS, max_keepalive_connections=POOL_CONNECTIONS)
        self.transport = httpx.AsyncHTTPTransport(limits=limits, verify=trusted)
        self.asking = 0


class _Counted(httpx.AsyncByteStream):
    """The body of an answer; with its end its connection is free."""

    def __init__(self, stream: httpx.AsyncByteStream, pool: _Pool) -> None:
        self._stream = stream
        self._pool: _Pool | None = pool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        """Ends it; a second call does nothing."""
        try:
            await self._stream.aclose()
        finally:
            if self._pool is not None:
                self._pool.asking -= 1
                self._pool = None


class ManyPools(httpx.AsyncBaseTransport):
    """Takes the first pool with room, so that few requests share few connections. Belongs to one event loop."""

    def __init__(self, most_connections: int) -> None:
        self._most = max(1, -(-most_connections // POOL_CONNECTIONS))
        self._pools: list[_Pool] = []
        self._trusted = httpx.create_ssl_context()  # tens of milliseconds, so one for all

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request; waits for a connection where all are taken."""
        pool = self._with_room()
        pool.asking += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            pool.asking -= 1
            raise
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _Counted(response.stream, pool)
        return response

    async def aclose(self) -> None:
        """Closes every connection."""
        for pool in self._pools:
            await pool.transport.aclose()

    def _with_room(self) -> _Pool:
        for pool in self._pools:
            if pool.asking < POOL_CONNECTIONS:
                return pool
        if len(self._pools) < self._most:
            self._pools.append(_Pool(self._trusted))
            return self._pools[-1]
        return min(self._pools, key=lambda pool: pool.asking)
