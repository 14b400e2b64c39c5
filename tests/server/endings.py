"""Servers that are stopped, reloaded and recycled under load, alone and behind nginx."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable

from tests.end_to_end.process import Server
from tests.server.served import Outcomes, client, load


def once(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)


def twice_to_all(server: Server) -> None:
    """Signal every process of a container, as some platforms do."""
    for _ in range(2):
        for process_id in (*server.workers, server.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGTERM)
        time.sleep(0.05)


async def terminated(
    server: Server, clients: int, at_s: float, for_s: float, stop: Callable[[Server], None] = once
) -> Outcomes:
    """Run clients, half of them with a new connection for each request, before and after the stop."""
    outcomes = Outcomes()
    until_s = time.monotonic() + for_s
    asking = [client(server.port, outcomes, until_s, "/echo?sleep_s=0.01", keeps=at % 2 == 0) for at in range(clients)]

    async def stop_it() -> None:
        await asyncio.sleep(at_s)
        await asyncio.to_thread(stop, server)

    await asyncio.gather(stop_it(), *asking)
    return outcomes


async def reloaded(server: Server, times: int, every_s: float) -> Outcomes:
    """Send SIGHUP repeatedly, each time when every worker of the last reload is gone."""
    async with load(server.port, 8) as kept, load(server.port, 8, keeps=False) as short:
        for _ in range(times):
            await asyncio.sleep(every_s)
            before = set(server.workers)
            server.process.send_signal(signal.SIGHUP)
            began_s = time.monotonic()
            while before & set(server.workers):
                assert time.monotonic() - began_s < 60
                await asyncio.sleep(0.05)
        await asyncio.sleep(every_s)
    return kept.with_those_of(short)


async def recycled(server: Server, for_s: float) -> tuple[Outcomes, set[int]]:
    """Run with `max_requests`, and return the outcomes of the requests and the workers that were seen."""
    seen: set[int] = set()
    async with load(server.port, 8) as kept, load(server.port, 4, keeps=False) as short:
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            await asyncio.sleep(0.1)
            seen |= set(server.workers)
    return kept.with_those_of(short), seen


async def one_of_two_terminated(port: int, victim: Server, at_s: float, for_s: float) -> Outcomes:
    """Run clients of nginx on `port`, and stop one of its upstreams."""
    outcomes = Outcomes()
    until_s = time.monotonic() + for_s

    async def stop() -> None:
        await asyncio.sleep(at_s)
        victim.process.terminate()

    await asyncio.gather(stop(), *[client(port, outcomes, until_s) for _ in range(8)])
    return outcomes
