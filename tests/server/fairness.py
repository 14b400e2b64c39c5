"""Measure one noisy client and eight quiet ones."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.end_to_end.process import Server
from tests.server.served import Outcomes, Talk

QUIET, NOISY = 8, 80
"""The number of quiet clients, with one connection each and pauses, and of connections of the noisy client, without
pauses."""
THREADS, QUEUE_REQUESTS = 8, 64
THINKS_S, REFUSED_FOR_S = 0.05, 0.02
WORK_S = (0.01, 0.03)
LIMITS = {"queue_requests": QUEUE_REQUESTS, "queue_max_wait_s": 5.0}
"""Fewer places than the noisy client asks for, and a maximum wait so long that it refuses no request."""


@dataclass(frozen=True)
class Identification:
    """The way in which the server distinguishes clients: by their address, or by a proxy's field."""

    forwarded: bool

    def talk(self, server: Server, client: int) -> tuple[Talk, str]:
        """Return a connection of this client, and the header fields of its requests."""
        if self.forwarded:
            return Talk(server.port), f"X-Forwarded-For: 192.0.2.{client}\r\n"
        return Talk(server.port, f"127.0.0.{client + 10}"), ""


async def _ask(talk: Talk, fields: str, outcomes: Outcomes) -> str:
    body = b"%d" % random.getrandbits(60)
    began_s = time.monotonic()
    status, answer, _ = await talk.ask(f"/echo?sleep_s={random.uniform(*WORK_S):.4f}", body, fields)
    outcome = "mixed" if status == 200 and answer != body else str(status)
    outcomes.note(outcome, time.monotonic() - began_s)
    return outcome


async def _quiet(server: Server, identification: Identification, for_s: float) -> Outcomes:
    outcomes = Outcomes()
    until_s = time.monotonic() + for_s

    async def one(client: int) -> None:
        talk, fields = identification.talk(server, client)
        while time.monotonic() < until_s:
            await asyncio.sleep(THINKS_S * random.uniform(0.5, 1.5))
            await _ask(talk, fields, outcomes)
        await talk.close()

    await asyncio.gather(*[one(client) for client in range(1, QUIET + 1)])
    return outcomes


@contextlib.asynccontextmanager
async def _noise(server: Server, identification: Identification) -> AsyncIterator[Outcomes]:
    outcomes = Outcomes()
    stop = asyncio.Event()

    async def one() -> None:
        talk, fields = identification.talk(server, 0)
        while not stop.is_set():
            if await _ask(talk, fields, outcomes) != "200":
                await asyncio.sleep(REFUSED_FOR_S)
        await talk.close()

    tasks = [asyncio.create_task(one()) for _ in range(NOISY)]
    try:
        yield outcomes
    finally:
        stop.set()
        await asyncio.gather(*tasks)


@dataclass
class FairnessResult:
    """The quiet clients without and with the noisy client, and the noisy client, on the same server."""

    alone: Outcomes
    beside: Outcomes
    noise: Outcomes

    @property
    def ratio(self) -> float:
        """The p99 of the quiet clients with the noisy client divided by the p99 without it."""
        return self.beside.percentile_s("200", 0.99) / self.alone.percentile_s("200", 0.99)


def measure_fairness(server: Server, forwarded: bool, for_s: float) -> FairnessResult:
    """Measure without and with the noisy client, each for half of the time."""
    identification = Identification(forwarded)

    async def run() -> FairnessResult:
        alone = await _quiet(server, identification, for_s / 2)
        async with _noise(server, identification) as noise:
            await asyncio.sleep(0.3)
            beside = await _quiet(server, identification, for_s / 2)
        return FairnessResult(alone, beside, noise)

    return asyncio.run(run())
