"""B01 to B03: endless streams, a flood of connections by one client, and all protocols beside models that crash."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np

from app.packing.spawn import PackRequest
from app.packing.write import pack
from tests.end_to_end.deadly import EXITS, SEGFAULTS, Deadly
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, Server, serving
from tests.server.crowds import share_of
from tests.server.load_client import LoadRequest, new_number
from tests.server.loops import closed_loop
from tests.server.served import Outcomes
from tests.soak.rows import Bounds, Row
from tests.soak.sheet import Sheet

STREAMS, ROWS_OF_A_STREAM = 100, 1_000_000
LINE = {"good": b"[5.1,3.5]\n", "bad": b'[5.1,"x"]\n'}
CONNECTIONS, ROWS_OF_A_BODY = 3000, 1300
TIMES = 20
"""Limit of the other client's wait, as a multiple of its wait without the flood."""
OTHER_CLIENT = "127.0.0.2"
PROBE_EVERY_S = 0.01
ALONE = 0.2
"""Share of the time in which the other client runs without the flood."""
LINES = 24
POISONED_EVERY_S, MOVED_EVERY_S = 2.0, 0.5
QUICK = "/models/iris-two/predict"


# --- the other client -------------------------------------------------------------------------------------------------


def quick_requests(server: Server, for_s: float) -> tuple[list[float], Counter[str]]:
    """Send the same request repeatedly; return the durations and outcomes."""
    took_s: list[float] = []
    outcomes: Counter[str] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(OTHER_CLIENT, 0))
    with contextlib.closing(connection):
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            began_s = time.monotonic()
            try:
                connection.request("POST", QUICK, b'{"feature1": 5.1, "feature2": 3.5}')
                response = connection.getresponse()
                response.read()
                outcomes[str(response.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                outcomes[type(error).__name__] += 1
                connection.close()
            took_s.append(time.monotonic() - began_s)
            time.sleep(PROBE_EVERY_S)
    return took_s, outcomes


@contextlib.contextmanager
def flooding(server: Server, *words: str) -> Iterator[Counter[str]]:
    """Run a flood in a separate process while the block runs. Afterwards the counter has its outcomes."""
    command = [sys.executable, "-m", "tests.soak.floods", str(server.port), *words]
    outcomes: Counter[str] = Counter()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flood:
        assert flood.stdout is not None
        assert flood.stdout.readline() == "begun\n"
        yield outcomes
        told, _ = flood.communicate("end\n")
        outcomes.update(json.loads(told))


def beside(kind: str, bounds: Bounds, sheet: Sheet) -> Counter[str]:
    """Compare the p99 of another client with and without a flood; return the outcomes of the flood."""
    with serving(bounds.folder, WEB_CONCURRENCY=1, RETORT_ACCESS_LOG="off") as server:
        workers = server.all_workers(1)
        alone_s, _ = quick_requests(server, max(1.0, ALONE * bounds.for_s))
        with flooding(server, kind) as flood, sheet.telling_waits(workers[0]):
            beside_s, outcomes = quick_requests(server, max(2.0, (1 - ALONE) * bounds.for_s))
        now = server.workers
    before_ms, with_ms = (1000 * share_of(took_s, 0.99) for took_s in (alone_s, beside_s))
    sheet.tell("p99 of another client alone", before_ms, "ms")
    sheet.tell("p99 beside", with_ms, "ms")
    sheet.figure("ratio", with_ms / before_ms, "x", f"<= {TIMES}", with_ms <= TIMES * before_ms)
    sheet.none_of({name: n for name, n in outcomes.items() if name != "200"})
    sheet.exactly("workers replaced", len({*workers} ^ {*now}), 0)
    return flood


def streams(kind: str) -> Callable[[Bounds, Sheet], None]:
    def run(bounds: Bounds, sheet: Sheet) -> None:
        flood = beside(kind, bounds, sheet)
        sheet.at_least("streams begun", flood["begun"], STREAMS)
        sheet.tell("streams answered whole", flood["ended"])
        sheet.tell("MB of answers read", flood["bytes"] / 2**20)

    return run


def one_flood(bounds: Bounds, sheet: Sheet) -> None:
    flood = beside("requests", bounds, sheet)
    sheet.tell("answered to the flood", flood["200"])
    sheet.at_least("told 429", flood["429"], 1)
    sheet.tell("told 503", flood["503"])
    sheet.exactly("wrong answers", flood["mixed"] + flood["unasked"], 0)


# --- the floods, each in a process of its own -------------------------------------------------------------------------


def _stream(kind: str) -> bytes:
    body = gzip.compress(LINE[kind] * ROWS_OF_A_STREAM, 9)
    head = f"POST {QUICK} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\nContent-Encoding: gzip\r\n"
    return head.encode() + b"Accept: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def read_streams(port: int, kind: str, is_over: Callable[[], bool]) -> Counter[str]:
    """Read streams concurrently at full speed. Replace each that ends."""
    request, outcomes = _stream(kind), Counter[str]()
    poller, open_ones = select.epoll(), dict[int, tuple[socket.socket, bytearray]]()

    def begin() -> None:
        stream = socket.create_connection(("127.0.0.1", port))
        stream.sendall(request)
        stream.setblocking(False)
        open_ones[stream.fileno()] = (stream, bytearray())
        poller.register(stream.fileno(), select.EPOLLIN)
        outcomes["begun"] += 1

    for _ in range(STREAMS):
        begin()
    while not is_over():
        for fd, _ in poller.poll(0.05):
            stream, last = open_ones[fd]
            try:
                received = stream.recv(1 << 18)
            except OSError:
                received = b""
            outcomes["bytes"] += len(received)
            last += received
            del last[:-5]
            if not received or last == b"0\r\n\r\n":
                outcomes["ended" if received else "cut"] += 1
                del open_ones[fd]
                stream.close()
                begin()
    for stream, _ in open_ones.values():
        stream.close()
    return outcomes


def ask_at_once(port: int, is_over: Callable[[], bool]) -> Counter[str]:
    """Send requests over many connections, each with as many rows as a quick request may have."""
    rows = ",".join(["[1,2]"] * ROWS_OF_A_BODY)
    body = f'{{"instances":[{rows}]}}'.encode()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", QUICK, body)
    right = connection.getresponse().read()
    connection.close()
    total = Outcomes()
    while not is_over():
        total.with_those_of(closed_loop(port, CONNECTIONS, lambda: asks(QUICK, "application/json", body, right), 1.0))
    return total.count


def main(port: int, kind: str) -> None:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
    print("begun", flush=True)
    found = ask_at_once(port, over.is_set) if kind == "requests" else read_streams(port, kind, over.is_set)
    print(json.dumps(found))


# --- all protocols ----------------------------------------------------------------------------------------------------


def asks(path: str, media_type: str, body: bytes, right: bytes, status: int = 0, abandons: bool = False) -> LoadRequest:
    """Return a numbered request, and its right response."""
    number = new_number()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: {number.decode()}\r\nContent-Type: {media_type}\r\n"
        f"Accept: */*\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return LoadRequest(head.encode() + body, number, right, status, abandons)


def forms(rows: list[list[float]]) -> Iterator[tuple[str, str, bytes]]:
    """Yield the same rows in each protocol: path, media type, body."""
    records = [dict(zip(("feature1", "feature2"), row, strict=True)) for row in rows]
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows)
    columns = {name: [record[name] for record in records] for name in ("feature1", "feature2")}
    flat = [value for row in rows for value in row]
    tensor = {"name": "x", "shape": [len(rows), 2], "datatype": "FP64", "data": flat}
    split = {"columns": ["feature1", "feature2"], "data": rows}
    documents: dict[str, Any] = {
        QUICK: {"instances": rows},
        "/models/iris-two/versions/1/predict": {"instances": records},
        "/v1/models/iris-two:predict": {"instances": rows},
        "/v2/models/iris-two/infer": {"inputs": [tensor]},
        "/endpoints/iris-two/invocations": {"dataframe_split": split},
    }
    for path, document in documents.items():
        yield path, "application/json", json.dumps(document).encode()
    yield "/endpoints/iris-two/invocations", "application/json", json.dumps({"inputs": columns}).encode()
    yield "/v1/models/iris-two:predict", "application/json", json.dumps({"inputs": columns}).encode()
    yield QUICK, "text/csv", b"feature1,feature2\n" + lines.encode()
    yield QUICK, "application/x-ndjson", "".join(json.dumps(record) + "\n" for record in records).encode()


def predictions(server: Server) -> list[Callable[[], LoadRequest]]:
    """Return requests of every protocol with several numbers of rows. All responses must equal the first."""
    made: list[Callable[[], LoadRequest]] = []
    for rows, seed in ((1, 1), (7, 2), (300, 3)):
        values = np.round(np.random.default_rng(seed).uniform(1, 7, (rows, 2)), 2).tolist()
        for path, media_type, body in forms(values):
            fields = {"Content-Type": media_type, "Accept": "application/json"}
            answer = server.ask("POST", path, body, fields)
            assert answer.status == 200, (path, media_type, answer)
            if media_type != "application/x-ndjson":  # their answers are streams, by chunks, which a line does not read
                made.append(lambda p=path, m=media_type, b=body, a=answer.content: asks(p, m, b, a))
    return made


def of_models_that_move() -> list[Callable[[], LoadRequest]]:
    """Return requests for a model that is loaded and unloaded, and for one that crashes: a right response or a named
    refusal."""
    right = {n: b'{"prediction":[%.1f],"model":"%%b","version":1}' % (2 * n) for n in range(1, 5)}
    made: list[Callable[[], LoadRequest]] = []
    for model, number in itertools.product(("moved", "deadly"), right):
        body, answer = b'{"feature1": %d}' % number, right[number] % model.encode()
        path = f"/models/{model}/predict"
        made.append(lambda p=path, b=body, a=answer: asks(p, "application/json", b, a))
    made.append(lambda: asks(QUICK, "application/json", b'{"feature1": 1', b"", abandons=True))
    return made


def moves(server: Server, over: threading.Event) -> Counter[str]:
    """Load, unload and send crashing values until `over`; return the counts."""
    done: Counter[str] = Counter()
    next_s, value = time.monotonic() + POISONED_EVERY_S, itertools.cycle((EXITS, SEGFAULTS))
    while not over.wait(MOVED_EVERY_S):
        for action in ("unload", "load"):
            with contextlib.suppress(OSError, http.client.HTTPException):
                done[action] += server.ask("POST", f"/v2/repository/models/moved/{action}", b"{}").status == 200
        if time.monotonic() < next_s:
            continue
        next_s = time.monotonic() + POISONED_EVERY_S
        try:
            answer = server.ask("POST", "/models/deadly/predict", json.dumps({"feature1": next(value)}).encode())
            done["quarantined"] += answer.status == 503
            server.ask("POST", "/v2/repository/models/deadly/load", b"{}")
        except (OSError, http.client.HTTPException):
            done["poisoned"] += 1
    return done


def every_protocol(bounds: Bounds, sheet: Sheet) -> None:
    """Run two workers. A request on a crashing worker is cut, and no response is wrong."""
    artifact, models = bounds.folder / "model.joblib", bounds.folder / "models"
    joblib.dump(Deadly().fit(np.zeros((4, 1))), artifact)
    for name in ("deadly", "moved"):
        pack(PackRequest(str(artifact), name, str(models)))
    shutil.copytree(EXAMPLE_MODELS / "iris-two", models / "iris-two")
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    settings = {"RETORT_MODELS_DIR": models, "RETORT_DEFAULT_MODEL": "iris-two", "RETORT_ACCESS_LOG": "off"}
    with serving(bounds.folder, WEB_CONCURRENCY=2, PYTHONPATH=path, **settings) as server:
        server.all_workers(2)
        kinds = predictions(server)
        kinds += of_models_that_move()
        over, done = threading.Event(), list[Counter[str]]()
        mover = threading.Thread(target=lambda: done.append(moves(server, over)))
        mover.start()
        try:
            outcomes = closed_loop(
                server.port,
                LINES,
                lambda: random.choice(kinds)(),  # noqa: PLW0108 - a new choice for each
                bounds.for_s,
                bounds.requests,
                tick=_forget,
            )
        finally:
            over.set()
            mover.join()
    count = outcomes.count
    sheet.at_least("requests", sum(count.values()), min(bounds.requests, 100))
    sheet.tell("right answers", count["200"])
    sheet.exactly("wrong answers", count["mixed"] + count["unasked"], 0)
    sheet.tell("cut with a worker", count["reset"])
    for name, least in (("poisoned", 1), ("load", 1), ("unload", 1)):
        sheet.at_least(name, done[0][name], least)
    sheet.tell("quarantined", done[0]["quarantined"])
    expected = ("200", "404", "503", "reset", "abandoned", "after the last")
    sheet.none_of({name: n for name, n in count.items() if name not in expected})


def _forget(outcomes: Outcomes, asked: int) -> None:
    """Drop the individual times, which nothing reads."""
    outcomes.took_s.clear()


BESIDE = f"no worker is replaced, and the p99 of another client's quick requests is at most {TIMES} x that without"
FLOODS = (
    Row("b01-good", f"{STREAMS} NDJSON streams of a million good lines: {BESIDE}", 75, streams("good")),
    Row("b01-bad", f"{STREAMS} NDJSON streams of bad lines: {BESIDE}", 75, streams("bad")),
    Row("b02", f"{CONNECTIONS:,} connections of one client: {BESIDE}; the flood is told 429", 60, one_flood),
    Row("b03", "10^6 answers of all protocols beside poison, aborts and loads: none is wrong", 200, every_protocol),
)

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
