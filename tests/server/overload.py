"""Measure overload, late responses, and clients that leave."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.end_to_end.process import Server
from tests.server.crowds import probing
from tests.server.load_client import LoadRequest, echo
from tests.server.loops import closed_loop, open_loop
from tests.server.served import Outcomes

SLOW, SLOWER = "/echo?sleep_s=0.02", "/echo?sleep_s=0.05"
PATIENCE_S = 1.0
ECHO_LINES = 48
LEAVES, IN_A_HURRY, QUICK = 0.01, 0.2, 0.25
"""Shares of the echo requests whose client leaves, that have a deadline, and that run inline."""
LATE = 0.0005
"""Share of requests that are certain to run at their deadline: other late requests have mostly waited for a thread."""


def capacity_per_second(server: Server, threads: int, for_s: float, path: str = SLOW) -> float:
    """Return the number of slow requests per second that a busy server answers without overload."""
    outcomes = closed_loop(server.port, 2 * threads, lambda: echo(path), for_s)
    assert set(outcomes.count) == {"200"}, outcomes.count
    return outcomes.count["200"] / for_s


@dataclass
class Overload:
    """The results of an overload."""

    outcomes: Outcomes
    for_s: float
    behind_s: float
    """The largest delay of the client itself, caused by the machine and not by the server."""
    livez_s: list[float]

    @property
    def goodput_per_second(self) -> float:
        return self.outcomes.count["200"] / self.for_s

    @property
    def neither(self) -> dict[str, int]:
        """The outcomes that are neither an answer nor a 503."""
        return {name: count for name, count in self.outcomes.count.items() if name not in ("200", "503")}


def overload(server: Server, per_second: float, for_s: float, path: str = SLOW, tries: int = 1) -> Overload:
    """Send slow requests at this rate, and a probe beside them."""
    with probing(server) as livez_s:
        outcomes, behind_s = open_loop(server.port, per_second, for_s, lambda: echo(path, tries=tries), PATIENCE_S)
    return Overload(outcomes, for_s, behind_s, livez_s)


def random_echo() -> LoadRequest:
    """Return an echo request: inline or threaded, immediate or slow, perhaps with a short deadline or an early end."""
    if random.random() < QUICK:
        return echo("/quick")
    sleep_s = random.choice((0, 0, 0, 0.0005, 0.001, 0.002, 0.004))
    if random.random() < LATE:
        return echo("/echo?sleep_s=0.15", "X-Request-Timeout: 100ms\r\n")
    if random.random() < IN_A_HURRY:
        return echo(f"/echo?sleep_s={sleep_s}", "X-Request-Timeout: 2ms\r\n")
    question = echo(f"/echo?sleep_s={sleep_s}" if sleep_s else "/echo")
    question.abandons = random.random() < LEAVES
    return question


def echoes(server: Server, for_s: float, most: int, tick: Callable[[Outcomes, int], None]) -> Outcomes:
    """Send echoes in every allowed order. None may reach another caller."""
    return closed_loop(
        server.port,
        ECHO_LINES,
        random_echo,
        for_s,
        most,
        pipelined=lambda: random.choice((1, 1, 1, 2, 4)),
        tick=tick,
    )
