"""P02 to P05: servers that are stopped, reloaded and recycled under load, alone and behind nginx."""

from __future__ import annotations

import asyncio
import contextlib
import time

from tests.end_to_end.process import Server, free_port
from tests.server.endings import (
    one_of_two_terminated,
    recycled,
    reloaded,
    terminated,
)
from tests.server.proxied import FAIL_TIMEOUT_S, nginx_before
from tests.server.served import Outcomes, worker_server
from tests.soak.rows import Bounds, Row
from tests.soak.sheet import Sheet

CLIENTS = 32
TIMES = 10
RELOADS = 3
ENDS_WITHIN_S = 10.0
AT_S, ASKED_FOR_S = 0.6, 1.5
FORGIVEN_AFTER_S = FAIL_TIMEOUT_S + 0.5


def sigterms(bounds: Bounds, sheet: Sheet) -> None:
    """Start a server repeatedly, and stop it while clients send requests."""
    outcomes, slowest_s, statuses = Outcomes(), 0.0, []
    for _ in range(TIMES):
        with worker_server(bounds.folder, workers=2) as server:
            began_s = time.monotonic()
            outcomes.with_those_of(asyncio.run(terminated(server, CLIENTS, AT_S, ASKED_FOR_S)))
            statuses.append(server.process.wait(ENDS_WITHIN_S + 5))
            slowest_s = max(slowest_s, time.monotonic() - began_s - AT_S)
    sheet.exactly("SIGTERMs", len(statuses), TIMES)
    sheet.at_least("answered", outcomes.count["200"], TIMES * CLIENTS)
    sheet.tell("refused to connect, after", outcomes.count["refused"])
    sheet.exactly("resets", outcomes.count["reset"] + outcomes.count["reset kept"], 0)
    sheet.none_of({name: n for name, n in outcomes.count.items() if name not in ("200", "503", "refused")})
    sheet.exactly("exit statuses that are not 0", len(statuses) - statuses.count(0), 0)
    sheet.below("slowest end", slowest_s, ENDS_WITHIN_S, "s")


def sigterms_behind_nginx(bounds: Bounds, sheet: Sheet) -> None:
    """Stop and restart one upstream, then the other, and so on."""
    outcomes = Outcomes()
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as stack:

        def start(port: int) -> tuple[Server, contextlib.ExitStack]:
            own = stack.enter_context(contextlib.ExitStack())
            return own.enter_context(worker_server(bounds.folder, port)), own

        upstreams = [start(port) for port in ports]
        nginx = stack.enter_context(nginx_before(bounds.folder, *ports))
        for turn in range(TIMES):
            victim, own = upstreams[turn % 2]
            outcomes.with_those_of(asyncio.run(one_of_two_terminated(nginx.port, victim, AT_S, ASKED_FOR_S)))
            own.close()
            upstreams[turn % 2] = start(ports[turn % 2])
            time.sleep(FORGIVEN_AFTER_S)
    sheet.tell("SIGTERMs", TIMES)
    sheet.at_least("answered", outcomes.count["200"], TIMES * CLIENTS)
    sheet.none_of({name: n for name, n in outcomes.count.items() if name != "200"})


def sighups(bounds: Bounds, sheet: Sheet) -> None:
    """Replace all workers, three times."""
    every_s = max(1.5, 0.2 * bounds.for_s)
    with worker_server(bounds.folder, workers=2) as server:
        calm = asyncio.run(reloaded(server, 0, every_s=2.0))
        outcomes = asyncio.run(reloaded(server, RELOADS, every_s))
    sheet.tell("SIGHUPs", RELOADS)
    sheet.at_least("answered", outcomes.count["200"], 1000)
    sheet.none_of({name: n for name, n in outcomes.count.items() if name != "200"})
    sheet.tell("p99 without", 1000 * calm.percentile_s("200", 0.99), "ms")
    sheet.tell("p99", 1000 * outcomes.percentile_s("200", 0.99), "ms")


def recycling(bounds: Bounds, sheet: Sheet) -> None:
    """Replace every worker after about 200 requests."""
    with worker_server(bounds.folder, workers=2, max_requests=200, max_requests_jitter=50) as server:
        outcomes, workers = asyncio.run(recycled(server, bounds.for_s))
    sheet.at_least("workers seen", len(workers), 4)
    sheet.at_least("answered", outcomes.count["200"], 400)
    sheet.none_of({name: n for name, n in outcomes.count.items() if name != "200"})


PROCESS = (
    Row(
        "p02", "10 SIGTERMs under load: every accepted connection is answered, 0 resets, exit 0 in < 10 s", 40, sigterms
    ),
    Row("p03", "10 SIGTERMs to one of two upstreams of nginx: 0 errors", 60, sigterms_behind_nginx, "nginx"),
    Row("p04", "3 SIGHUPs under load: 0 lost", 30, sighups),
    Row("p05", "workers recycled by max_requests under load: 0 lost", 30, recycling),
)
