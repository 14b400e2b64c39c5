"""R01: a million requests to real models, and the worker's resources over time."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.end_to_end.process import ROOT, Server, serving
from tests.server.load_client import LoadRequest, new_number
from tests.server.loops import closed_loop
from tests.soak.rows import Bounds, Row
from tests.soak.sheet import Sheet
from tests.soak.trend import Sample, Watch, best_cpu_us, best_p99_s, descriptors, threads, wait_share

LINES = 16
LINES_TO_THREADS = 8
"""As many lines as a worker has threads, so that no request gets a 503 in its queue when the machine stalls."""
MODELS = ("iris-two", "penguins")
BATCHES = {1: 28, 10: 3, 50: 1}
"""Rows of a request, and the number of such requests in 32."""
LEAK_MB_PER_1E5 = 1.0
"""Ten bytes a request: less than the smallest object that could leak."""
SETTLES_MB = 10.0
"""Growth of the allocator in any number of requests: with artifacts, in 8 threads, it takes some 8 MB over the first
15,000 requests and nothing more."""
SLOWER, JITTER_MS = 1.1, 1.0
BUSY = 0.2
"""If the worker waits for a busy core for a larger share of its time, the p99 measures other processes."""
CLOSED_WITHIN_S = 5.0

Kind = Callable[[], LoadRequest]


def request(head: str, body: bytes, right: bytes = b"", status: int = 200) -> Kind:
    """Return a factory of the same request with increasing numbers. `right` is the body of its 200."""

    def make() -> LoadRequest:
        number = new_number()
        said = f"{head} HTTP/1.1\r\nHost: a\r\nX-Request-ID: {number.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
        return LoadRequest(said.encode() + body, number, right, status)

    return make


def predictions(server: Server) -> Iterator[Kind]:
    """Yield one record, and many, of each model. All responses must equal the first."""
    for model in MODELS:
        examples = server.ask("GET", f"/models/{model}").document["examples"]
        records = [example["instance"] for example in examples]
        for rows, requests in BATCHES.items():
            taken = list(itertools.islice(itertools.cycle(records), rows))
            body = json.dumps(taken[0] if rows == 1 else {"instances": taken}).encode()
            path = f"/models/{model}/predict"
            answer = server.ask("POST", path, body)
            assert answer.status == 200, answer
            yield from [request(f"POST {path}", body, answer.content)] * requests


def bad_requests(server: Server) -> Iterator[Kind]:
    """Yield requests that the application or the server refuses, and clients that leave."""
    predict = "POST /models/iris-two/predict"
    wrong: list[dict[str, Any]] = [
        {"feature1": "5.1", "feature2": 3.5},
        {"feature1": 5.1},
        {"feature1": 5.1, "feature2": 3.5, "feature3": 1},
    ]
    for record in wrong:
        yield request(predict, json.dumps(record).encode(), status=422)
        yield request(predict, json.dumps({"instances": [record] * 50}).encode(), status=422)
    for body in (b"", b"{", b"[" * 3000, b'{"feature1": 1e999, "feature2": }', b"\xff\xfe{}"):
        yield request(predict, body, status=400)
    yield request("POST /models/none/predict", b"{}", status=404)
    yield request("GET /models/iris-two/predict", b"", status=405)
    yield request("GET /livez", b"", server.ask("GET", "/livez").content)

    def malformed() -> LoadRequest:
        return LoadRequest(b"GET / HTTP/1.1\r\nHost a\r\n\r\n", b"", b"", 400)

    def too_long() -> LoadRequest:
        number = new_number()
        head = f"{predict} HTTP/1.1\r\nHost: a\r\nX-Request-ID: {number.decode()}\r\nContent-Length: 999999999\r\n\r\n"
        return LoadRequest(head.encode() + b"x", number, b"", 413)

    def leaves() -> LoadRequest:
        return LoadRequest(
            f"{predict} HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{{".encode(), b"", b"", abandons=True
        )

    yield from (malformed, too_long, leaves)


def steady(server: Server, kinds: list[Kind], lines: int, bounds: Bounds, sheet: Sheet) -> None:
    """Send requests, and compare the worker's resources at the end with those in the middle."""
    (worker,) = server.all_workers(1)
    before = descriptors(worker)
    watch = Watch(worker)
    outcomes = closed_loop(
        server.port,
        lines,
        lambda: random.choice(kinds)(),  # noqa: PLW0108 - a new choice for each
        for_s=bounds.for_s,
        most=bounds.requests,
        tick=watch.tick,
        tick_s=min(1.0, bounds.for_s / 20),
    )
    until_s = time.monotonic() + CLOSED_WITHIN_S
    while descriptors(worker) > before and time.monotonic() < until_s:
        time.sleep(0.1)
    _tell_outcomes(outcomes.count, sheet)
    measured = watch.measured
    slope_mb, growth_mb = watch.slope("rss_mb"), watch.growth("rss_mb")
    sheet.tell("RSS", measured[-1].rss_mb, "MB")
    sheet.tell("grew in the half that is measured by", growth_mb, "MB")
    holds = slope_mb < LEAK_MB_PER_1E5 or growth_mb < SETTLES_MB
    sheet.figure("RSS slope", slope_mb, "MB per 10^5", f"< {LEAK_MB_PER_1E5:g}, or < {SETTLES_MB:g} in all", holds)
    for name, now, then in (
        ("descriptors", descriptors(worker), before),
        ("threads", threads(worker), measured[0].threads),
    ):
        sheet.tell(f"{name} slope", watch.slope(name), "per 10^5")
        sheet.exactly(f"more {name} after than before", max(0, now - then), 0)
    if watch.has_thirds:
        _tell_pace(*watch.thirds(), sheet)
    else:
        sheet.tell("samples, too few to judge the pace by", len(watch.samples))
    sheet.exactly("workers replaced", len({worker} ^ set(server.workers)), 0)


def _tell_pace(first: list[Sample], last: list[Sample], sheet: Sheet) -> None:
    """Compare the pace by the p99 of clients, or by the CPU of a request if other processes keep the cores busy."""
    p99_ms, limit_ms = 1000 * best_p99_s(last), SLOWER * 1000 * best_p99_s(first) + JITTER_MS
    cpu_us, limit_us = best_cpu_us(last), SLOWER * best_cpu_us(first)
    busy = max(wait_share(first), wait_share(last)) > BUSY
    sheet.tell("the worker waited for a core in the first third", 100 * wait_share(first), "%")
    sheet.tell("in the last", 100 * wait_share(last), "%")
    bounds = [f"< {limit_ms:.4g}", "not judged: the machine is too busy"]
    sheet.figure("best p99 of the last third", p99_ms, "ms", bounds[busy], busy or p99_ms < limit_ms)
    bounds = ["", f"< {limit_us:.4g}"]
    sheet.figure("least CPU a request there", cpu_us, "us", bounds[busy], not busy or cpu_us < limit_us)


def _tell_outcomes(count: dict[str, int], sheet: Sheet) -> None:
    sheet.at_least("requests", sum(count.values()), 100)
    sheet.tell("200", count["200"])
    sheet.tell("refused as they must be", sum(n for name, n in count.items() if name.isdigit() and name != "200"))
    bad = {name: n for name, n in count.items() if not name.isdigit() and name not in ("abandoned", "after the last")}
    sheet.none_of(bad)


def row(bad: bool, lines: int = LINES, **settings: object) -> Callable[[Bounds, Sheet], None]:
    """Return a run of the committed models with one worker, as a platform runs them."""

    def run(bounds: Bounds, sheet: Sheet) -> None:
        path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        with serving(bounds.folder, WEB_CONCURRENCY=1, PYTHONPATH=path, **settings) as server:
            good = list(predictions(server))
            steady(server, good + (2 * list(bad_requests(server)) if bad else []), lines, bounds, sheet)

    return run


FLAT = "RSS, descriptors and threads are flat over 10^6 requests, no answer is wrong, the last are as fast as the first"
STEADY = (
    Row("r01-predict", f"predictions by graphs: {FLAT}", 130, row(bad=False)),
    Row("r01-mix", f"with bad requests and clients that leave: {FLAT}", 130, row(bad=True)),
    Row(
        "r01-artifact",
        f"predictions by artifacts, in threads: {FLAT}",
        120,
        row(bad=False, lines=LINES_TO_THREADS, RETORT_RUNTIME="artifact"),
    ),
)
