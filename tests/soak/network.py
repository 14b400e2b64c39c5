"""N01 to N04: slow senders, idle and silent connections, and a new client beside them."""

from __future__ import annotations

import time

from tests.end_to_end.process import Server
from tests.server.crowds import WHOLE, crowd, median_s, probing, share_of, slowhttptest
from tests.server.served import ask_stats, rss_bytes, worker_server
from tests.soak.rows import Bounds, Row
from tests.soak.sheet import Sheet

SLOW_CONNECTIONS = 500
SAYS_MORE_EVERY_S = 5
HEAD_S = 10.0
IDLE, SILENT = 5000, 1500
SERVED_WITHIN_MS = 50
GROWTH_MB = 100
GONE_WITHIN_S = 3.0
CONNECTING_S = 5


def slow_senders(kind: str, bounds: Bounds, sheet: Sheet) -> None:
    """Run one attack after the other. Each ends when the server has closed all its connections."""
    looks: list[str] = []
    attacks = 0
    with worker_server(bounds.folder, limits={"head_s": HEAD_S, "body_grace_s": HEAD_S}) as server:
        with probing(server) as before_s:
            time.sleep(3.0)
        with sheet.telling_waits(server.workers[0]), probing(server) as beside_s:
            until_s = time.monotonic() + bounds.for_s
            while (left_s := until_s - time.monotonic()) > 1 or not attacks:
                looks += slowhttptest(server, kind, SLOW_CONNECTIONS, SAYS_MORE_EVERY_S, max(5, round(left_s)))
                attacks += 1
        time.sleep(HEAD_S)
        stats = ask_stats(server)
    sheet.at_least("looks of slowhttptest", len(looks), 1)
    sheet.exactly("of them not available", len(looks) - looks.count("YES"), 0)
    sheet.tell("attacks", attacks)
    sheet.tell("told 408", stats["refused"].get("head_timeout", 0) + stats["refused"].get("body_timeout", 0))
    sheet.exactly("probes without an answer", beside_s.count(float("inf")), 0)
    sheet.tell("p99 of a new client before", 1000 * share_of(before_s, 0.99), "ms")
    sheet.below("p99 beside", 1000 * share_of(beside_s, 0.99), SERVED_WITHIN_MS, "ms")
    sheet.exactly("still connected", stats["connections"]["head"] + stats["connections"]["body"], 0)


def _beside(server: Server, sheet: Sheet, hold_s: float) -> None:
    with sheet.telling_waits(server.workers[0]), probing(server) as took_s:
        time.sleep(hold_s)
    sheet.below("a new client, median", 1000 * share_of(took_s, 0.5), SERVED_WITHIN_MS, "ms")
    sheet.below("p95", 1000 * share_of(took_s, 0.95), SERVED_WITHIN_MS, "ms")
    sheet.tell("worst", 1000 * max(took_s), "ms")


def idle_connections(says: bytes, count: int, bounds: Bounds, sheet: Sheet) -> None:
    """Hold connections for most of the time, then leave them to the server's idle time-out."""
    hold_s = max(3.0, 0.4 * bounds.for_s)
    idle_s = int(hold_s) + CONNECTING_S
    with worker_server(bounds.folder, keepalive=idle_s, limits={"silent_s": idle_s}) as server:
        (worker,) = server.workers
        median_s(server)
        before_bytes, before = rss_bytes(worker), ask_stats(server)["fds"]
        with crowd(server, count, says) as members:
            sheet.exactly("connections", len(members), count)
            answered = sum(one.recv(1000).startswith(b"HTTP/1.1 200 ") for one in members) if says else 0
            if says:
                sheet.exactly("answered before", answered, count)
            began_s = time.monotonic()
            sheet.at_least("idle at once", ask_stats(server)["connections"]["idle"], count)
            _beside(server, sheet, hold_s)
            sheet.below("RSS growth", (rss_bytes(worker) - before_bytes) / 2**20, GROWTH_MB, "MB")
            sheet.tell("descriptors", ask_stats(server)["fds"])
            while (
                left := ask_stats(server)["fds"] - before
            ) > 5 and time.monotonic() < began_s + idle_s + GONE_WITHIN_S:
                time.sleep(0.1)
            sheet.below("descriptors left after the idle time-out", left, 6)
            sheet.exactly("not closed", sum(one.recv(1) != b"" for one in members), 0)
        sheet.below("a new client after", 1000 * median_s(server), SERVED_WITHIN_MS, "ms")


N01, N02 = (f"500 slow {part}: the service is available throughout" for part in ("heads", "bodies"))
CROWD = "a new client is served in < 50 ms, RSS grows by < 100 MB, descriptors fall back after the idle time-out"
NETWORK = (
    Row("n01", N01, 60, lambda bounds, sheet: slow_senders("-H", bounds, sheet), "slowhttptest"),
    Row("n02", N02, 60, lambda bounds, sheet: slow_senders("-B", bounds, sheet), "slowhttptest"),
    Row("n03", f"5,000 idle: {CROWD}", 40, lambda bounds, sheet: idle_connections(WHOLE, IDLE, bounds, sheet)),
    Row("n04", f"1,500 silent: {CROWD}", 25, lambda bounds, sheet: idle_connections(b"", SILENT, bounds, sheet)),
)
