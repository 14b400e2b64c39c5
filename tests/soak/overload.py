"""O01, O02, O03 and O06: overload, a retry storm, one client that floods the server, and a million echoes."""

from __future__ import annotations

import time

from tests.end_to_end.process import Server
from tests.server.crowds import share_of
from tests.server.fairness import LIMITS, measure_fairness
from tests.server.fairness import THREADS as FAIRNESS_THREADS
from tests.server.load_client import echo
from tests.server.loops import closed_loop
from tests.server.overload import SLOW, SLOWER, Overload, capacity_per_second, echoes, overload
from tests.server.served import Outcomes, ask_stats, worker_server
from tests.soak.rows import Bounds, Row
from tests.soak.sheet import Sheet

THREADS = 4
ECHO_THREADS = 16
TIMES_CAPACITY = 10
GOODPUT = 0.85
NOT_LOWER = 0.95
"""The share of O01's goodput that O02 must reach: two measurements differ slightly."""
QUIET_TIMES = 1.5
REFUSED_WITHIN_MS, LIVEZ_WITHIN_MS = 350, 100
CALIBRATION = 0.1
"""Share of the time, before and after the overload, for measuring the present capacity of this machine."""


def _goodput(name: str, seen: Overload, capacity: float, sheet: Sheet) -> None:
    sheet.tell(f"asked{name}", sum(seen.outcomes.count.values()) / seen.for_s, "/s")
    sheet.at_least(f"goodput{name}", 100 * seen.goodput_per_second / capacity, 100 * GOODPUT, "%")
    sheet.none_of(seen.neither)
    sheet.below(f"p99 of the 503s{name}", 1000 * seen.outcomes.percentile_s("503", 0.99), REFUSED_WITHIN_MS, "ms")
    sheet.below(f"p99 of /livez{name}", 1000 * share_of(seen.livez_s, 0.99), LIVEZ_WITHIN_MS, "ms")
    sheet.tell("the client's own worst delay", 1000 * seen.behind_s, "ms")


def ten_times_overload(bounds: Bounds, sheet: Sheet) -> None:
    """Measure the capacity, then send ten times as much, open loop. A second later the capacity must be back."""
    with worker_server(bounds.folder, threads=THREADS) as server:
        capacity = capacity_per_second(server, THREADS, max(2.0, CALIBRATION * bounds.for_s))
        sheet.tell("capacity", capacity, "/s")
        with sheet.telling_waits(server.workers[0]):
            seen = overload(server, TIMES_CAPACITY * capacity, max(3.0, (1 - CALIBRATION) * bounds.for_s))
        _goodput("", seen, capacity, sheet)
        time.sleep(1.0)
        after = closed_loop(server.port, THREADS, lambda: echo(SLOW), 2.0)
    sheet.none_of({f"{name} a second after": n for name, n in after.count.items() if name != "200"})


def retry_storm(bounds: Bounds, sheet: Sheet) -> None:
    """Run the same overload without and with immediate retries, with slower requests so that the client is not the
    limit."""
    with worker_server(bounds.folder, threads=THREADS) as server:
        capacity = capacity_per_second(server, THREADS, max(2.0, CALIBRATION * bounds.for_s), SLOWER)
        sheet.tell("capacity", capacity, "/s")
        part_s = max(3.0, 0.5 * (1 - CALIBRATION) * bounds.for_s)
        plain = overload(server, TIMES_CAPACITY * capacity, part_s, SLOWER)
        with sheet.telling_waits(server.workers[0]):
            storm = overload(server, TIMES_CAPACITY * capacity, part_s, SLOWER, tries=4)
    _goodput(" with retries", storm, capacity, sheet)
    share = storm.goodput_per_second / plain.goodput_per_second
    sheet.at_least("of the goodput without", 100 * share, 100 * NOT_LOWER, "%")


def one_noisy_client(bounds: Bounds, sheet: Sheet) -> None:
    """Run eight quiet clients alone, and beside one with ten times their connections."""
    served = worker_server(bounds.folder, threads=FAIRNESS_THREADS, limits=LIMITS)
    with served as server, sheet.telling_waits(server.workers[0]):
        seen = measure_fairness(server, forwarded=False, for_s=max(6.0, bounds.for_s))
    sheet.tell("p99 of the quiet alone", 1000 * seen.alone.percentile_s("200", 0.99), "ms")
    sheet.below("p99 beside the noisy one", seen.ratio, QUIET_TIMES, "x")
    quiet = seen.alone.count + seen.beside.count
    sheet.none_of({f"quiet {name}": n for name, n in quiet.items() if name != "200"})
    sheet.at_least("noisy told 429", seen.noise.count["429"], 1)
    sheet.tell("noisy told 503", seen.noise.count["503"])
    sheet.at_least("noisy answered, for each of the quiet", seen.noise.count["200"] / seen.beside.count["200"], 1.0)


def _forget(outcomes: Outcomes, asked: int) -> None:
    """Drop the individual times, which nothing reads."""
    outcomes.took_s.clear()


def mixed_up(server: Server, bounds: Bounds, sheet: Sheet) -> None:
    began_s = time.monotonic()
    outcomes = echoes(server, bounds.for_s, bounds.requests, _forget)
    took_s = time.monotonic() - began_s
    count = outcomes.count
    sheet.at_least("requests", sum(count.values()), min(bounds.requests, int(bounds.for_s * 500)))
    sheet.tell("a second", sum(count.values()) / took_s)
    sheet.exactly("answers of another", count["mixed"] + count["unasked"], 0)
    sheet.tell("right answers", count["200"])
    sheet.at_least("told 504", count["504"], 1)
    sheet.at_least("answers made after their 504", ask_stats(server)["late"], 1)
    sheet.at_least("clients that left", count["abandoned"], 1)
    sheet.tell("told 503", count["503"])
    sheet.none_of({name: n for name, n in count.items() if name not in ("200", "503", "504", "abandoned")})


def million_echoes(bounds: Bounds, sheet: Sheet) -> None:
    """Send random sleeps and deadlines, pipelines, and clients that leave."""
    with worker_server(bounds.folder, threads=ECHO_THREADS) as server:
        mixed_up(server, bounds, sheet)


O01 = "10 x overload, open loop: goodput >= 85 % of the capacity, all else 503 within 350 ms (p99), /livez < 100 ms"
OVERLOAD = (
    Row("o01", O01, 66, ten_times_overload),
    Row("o02", "10 x overload, each 503 tried again at once, 3 times: goodput not lower than without", 50, retry_storm),
    Row("o03", "1 noisy client, 8 quiet: their p99 < 1.5 x that without it; it is told 429", 40, one_noisy_client),
    Row("o06", "10^6 echoes with random sleeps: no answer ever reaches another's caller", 200, million_echoes),
)
