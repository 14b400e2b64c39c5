"""E01: requests that wait for another service, thousands at once."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, free_port, serving
from tests.server.crowds import connect
from tests.server.served import rss_bytes
from tests.soak.rows import Bounds, Row
from tests.soak.sheet import Sheet

REQUESTS, KB_OF_EACH = 5000, 60
STUBS = ROOT / "benchmarks" / "stubs"
BODY = b'{"customer_id": 7, "feature2": 3.5}'
ASK = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
ANSWERED_WITHIN_S = 30.0


@contextlib.contextmanager
def upstream(wait_s: float) -> Iterator[str]:
    """Run a service that answers every request after a while, and return its URL."""
    port = free_port()
    command = [sys.executable, str(STUBS / "upstream.py"), str(port), str(wait_s)]
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def waiting_requests(bounds: Bounds, sheet: Sheet) -> None:
    """Send requests that wait for the other service for most of the time, and read their answers."""
    wait_s = max(5.0, 0.6 * bounds.for_s)
    models = bounds.folder / "models"
    shutil.copytree(EXAMPLE_MODELS / "iris-two", models / "iris-two")
    for path in models.glob("*/*/manifest.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "before": ["enrich"]}))
        path.with_name("manifest.sha256").unlink()
    with (
        upstream(wait_s) as url,
        serving(
            bounds.folder,
            RETORT_MODELS_DIR=models,
            RETORT_STEPS="waiting_steps",
            PYTHONPATH=STUBS,
            UPSTREAM=url,
            WEB_CONCURRENCY=1,
            RETORT_ACCESS_LOG="off",
            RETORT_CONNECTIONS_PER_HOST=REQUESTS,
            RETORT_REQUEST_TIMEOUT_S=int(wait_s + ANSWERED_WITHIN_S),
        ) as server,
        contextlib.ExitStack() as stack,
    ):
        (worker,) = server.all_workers(1)
        before_bytes, began_s = rss_bytes(worker), time.monotonic()
        members = [stack.enter_context(connect(server)) for _ in range(REQUESTS)]
        for member in members:
            member.sendall(ASK + BODY)
        sheet.tell("sent within", time.monotonic() - began_s, "s")
        most_bytes = before_bytes
        while time.monotonic() < began_s + wait_s + 1.0:
            most_bytes = max(most_bytes, rss_bytes(worker))
            time.sleep(0.05)
        statuses: Counter[bytes] = Counter()
        for member in members:
            member.settimeout(ANSWERED_WITHIN_S)
            statuses[member.recv(4096)[9:12]] += 1
        sheet.exactly("answered", statuses.pop(b"200", 0), REQUESTS)
        sheet.none_of({status.decode(): count for status, count in statuses.items()})
        sheet.below("memory of each", (most_bytes - before_bytes) / 1024 / REQUESTS, KB_OF_EACH, "KB")
        sheet.exactly("workers replaced", len({worker} ^ {*server.workers}), 0)


WAITING = (
    Row(
        "e01",
        f"{REQUESTS:,} requests wait for another service at once: none is refused, each takes < {KB_OF_EACH} KB",
        30,
        waiting_requests,
    ),
)
