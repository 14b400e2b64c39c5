"""Limits on a real server: with one connection and many, for each way to run a request, and on two hosts."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.process import Answer, Server, serving
from tests.gateway.redis_server import RedisServer, redis_in
from tests.server.clock import WallClock

BUDGET = 20
ROWS = 100
WORKERS = 2
TOLERANCE = WORKERS - 1
"""Two workers that decide in the same microsecond may differ by a request."""
SOON_S = 15.0
PATIENT = {"RETORT_QUEUE_MAX_WAIT_MS": 20_000}
"""Settings that refuse no request on a busy machine."""
RECORD = {"feature1": 5.1, "feature2": 3.5}
DIGITS = {"instances": [[0.0] * 64]}


@dataclass(frozen=True)
class Case:
    """A request, and a part of the body of a refusal in the format of its protocol."""

    name: str
    path: str
    body: str = ""
    media_type: str = "application/json"
    refused: str = '"type":"/problems/rate-limited"'


TENSOR = json.dumps({"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [5.1, 3.5]}]})
CASES = (
    Case("inline", "/models/iris-two/predict", json.dumps(RECORD)),
    Case("threaded", "/models/iris-two/versions/1/predict", json.dumps(RECORD)),
    Case("stream", "/models/iris-two/predict", json.dumps(RECORD) + "\n", "application/x-ndjson"),
    Case("open-inference", "/v2/models/iris-two/infer", TENSOR, refused='{"error":"this address has used up'),
    Case(
        "tensorflow-serving",
        "/v1/models/iris-two:predict",
        json.dumps({"instances": [[5.1, 3.5]]}),
        refused='{"error":"this address',
    ),
    Case("mlflow", "/endpoints/iris-two/invocations", json.dumps({"inputs": [[5.1, 3.5]]}), refused="has used up"),
    Case("flask", "/models"),
    Case("unknown path", "/nothing"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server behind one trusted proxy. Each test has its own clients."""
    folder = tmp_path_factory.mktemp("limited")
    settings = PATIENT | {"RETORT_LIMIT_REQUESTS": f"{BUDGET}/day", "RETORT_LIMIT_ROWS": f"{ROWS}/day"}
    with serving(folder, WEB_CONCURRENCY=WORKERS, RETORT_TRUSTED_PROXIES=1, **settings) as started:
        started.all_workers(WORKERS)
        yield started


@pytest.fixture(scope="module")
def of_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start one worker that serves artifacts, whose requests share runs, and trusts no proxy."""
    folder = tmp_path_factory.mktemp("artifacts")
    settings = PATIENT | {"RETORT_RUNTIME": "artifact", "RETORT_BATCHING": "on"}
    settings |= {"RETORT_LIMIT_REQUESTS": f"{BUDGET}/day"}
    with serving(folder, WEB_CONCURRENCY=1, until="/readyz", **settings) as started:
        yield started


def send(
    server: Server, case: Case, count: int, connections: int = 1, source: str = "127.0.0.1", **headers: str
) -> list[Answer]:
    """Send this many requests over kept connections, each from its own thread."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"Content-Type": case.media_type} if case.body else {}

    def one(count: int) -> list[Answer]:
        answers = []
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=60, source_address=(source, 0))) as connection:
            for _ in range(count):
                connection.request("POST" if case.body else "GET", case.path, case.body or None, sent)
                response = connection.getresponse()
                answers.append(Answer(response.status, dict(response.headers), response.read()))
        return answers

    shares = [count // connections + (number < count % connections) for number in range(connections)]
    with ThreadPoolExecutor(connections) as pool:
        return [answer for answers in pool.map(one, shares) for answer in answers]


def passed(answers: list[Answer]) -> int:
    assert {answer.status for answer in answers} <= {200, 404, 429}, Counter(answer.status for answer in answers)
    return sum(answer.status != 429 for answer in answers)


def left_of(answer: Answer, unit: str) -> int:
    found = re.search(rf'"{unit} per day";r=(\d+)', answer.headers["RateLimit"])
    assert found, answer.headers
    return int(found[1])


def soon(condition: Callable[[], object]) -> bool:
    until_s = time.monotonic() + SOON_S
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("connections", [1, 64])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.fault("O03")
def test_a_client_gets_no_more_than_its_limit(server: Server, case: Case, connections: int) -> None:
    client = f"10.1.{connections}.{CASES.index(case)}"
    answers = send(server, case, 3 * BUDGET + 9, connections, X_Forwarded_For=client)
    assert abs(passed(answers) - BUDGET) <= (TOLERANCE if connections > 1 else 0)
    assert all({"RateLimit", "RateLimit-Policy"} <= answer.headers.keys() for answer in answers)
    refused = next(answer for answer in answers if answer.status == 429)
    assert case.refused in refused.content.decode()
    assert int(refused.headers["Retry-After"]) > 0
    assert "Retry-After" not in next(answer for answer in answers if answer.status != 429).headers
    assert passed(send(server, case, 1, X_Forwarded_For=f"{client}1")) == 1  # another client


@pytest.mark.parametrize("connections", [1, 64])
@pytest.mark.parametrize("path", ["/models/digits/predict", "/models/digits/versions/1/predict"])
def test_requests_that_share_a_run_count_one_by_one(of_artifacts: Server, path: str, connections: int) -> None:
    source = f"127.0.{connections}.{len(path)}"
    answers = send(of_artifacts, Case("artifact", path, json.dumps(DIGITS)), 4 * BUDGET, connections, source)
    assert passed(answers) == BUDGET
    assert passed(send(of_artifacts, CASES[0], 1, source=f"127.0.{connections}.2")) == 1


@pytest.mark.fault("X12")
def test_a_forged_address_is_no_new_client(of_artifacts: Server) -> None:
    answers = [send(of_artifacts, CASES[0], 1, source="127.0.3.1", X_Forwarded_For=f"10.9.9.{n}") for n in range(40)]
    assert passed([answer for [answer] in answers]) == BUDGET


def test_only_the_field_of_the_trusted_proxy_names_the_client(server: Server) -> None:
    answers = [send(server, CASES[0], 1, X_Forwarded_For=f"10.9.9.{n}, 10.2.0.1") for n in range(40)]
    assert passed([answer for [answer] in answers]) == BUDGET


@pytest.mark.parametrize("case", CASES[:6], ids=lambda case: case.name)
def test_rows_are_charged_in_every_way(server: Server, case: Case) -> None:
    client = f"10.3.0.{CASES.index(case)}"
    send(server, case, 3, X_Forwarded_For=client)
    assert left_of(send(server, CASES[6], 1, X_Forwarded_For=client)[0], "rows") == ROWS - 3


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_a_client_without_remaining_rows_is_refused(server: Server, media_type: str) -> None:
    client = f"10.4.0.{len(media_type)}"
    rows = [RECORD] * (2 * ROWS)
    body = "\n".join(map(json.dumps, rows)) if "ndjson" in media_type else json.dumps({"instances": rows})
    many = Case("many", "/models/iris-two/predict", body, media_type)
    [answer] = send(server, many, 1, X_Forwarded_For=client)
    assert answer.status == 200
    refused = send(server, CASES[0], 1, X_Forwarded_For=client)[0]
    assert (refused.status, left_of(refused, "rows")) == (429, 0)
    assert f"limit of {ROWS} rows per day" in refused.document["detail"]
    assert left_of(refused, "requests") == BUDGET - 1


def test_an_invalid_request_uses_up_a_request_but_no_rows(server: Server) -> None:
    wrong = Case("wrong", "/models/iris-two/predict", '{"instances": [{"feature1": "x"}]}')
    answers = send(server, wrong, 2, X_Forwarded_For="10.5.0.1")
    assert [(answer.status, left_of(answer, "rows"), left_of(answer, "requests")) for answer in answers] == [
        (422, ROWS, BUDGET - 1),
        (422, ROWS, BUDGET - 2),
    ]


def test_probes_and_stylesheets_are_never_limited(server: Server) -> None:
    client = {"X-Forwarded-For": "10.6.0.1"}
    assert passed(send(server, CASES[6], BUDGET + 1, X_Forwarded_For="10.6.0.1")) == BUDGET
    home = server.ask("GET", "/", headers={"Accept": "text/html", "X-Forwarded-For": "10.6.0.2"})
    [style] = set(re.findall(r'href="([^"]+\.svg)"', home.content.decode()))
    probes = ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/iris-two/ready", "/ping"]
    probes += ["/health", "/v1/models/iris-two", "/favicon.ico", "/" + style.lstrip("./")]
    for path in probes:
        answer = server.ask("GET", path, headers=client)
        assert (path, answer.status, "RateLimit" in answer.headers) == (path, 200, False)
    assert server.ask("GET", "/models", headers=client).status == 429


def test_refusals_are_counted(server: Server) -> None:
    send(server, CASES[6], BUDGET + 5, X_Forwarded_For="10.7.0.1")
    metrics = server.ask("GET", "/metrics", headers={"X-Forwarded-For": "10.7.0.2"}).content.decode()
    found = re.search(r'retort_requests_limited_total\{unit="requests"\} (\d+)', metrics)
    assert found
    assert int(found[1]) >= 5


def test_neither_a_killed_worker_nor_a_reload_gives_a_new_budget(server: Server) -> None:
    client = "10.8.0.1"
    assert passed(send(server, CASES[0], BUDGET - 5, X_Forwarded_For=client)) == BUDGET - 5
    before = set(server.all_workers(WORKERS))
    os.kill(min(before), signal.SIGKILL)
    assert soon(lambda: len(set(server.workers) - before) == 1 and len(server.workers) == WORKERS)
    assert passed(send(server, CASES[0], 2, X_Forwarded_For=client)) == 2
    server.process.send_signal(signal.SIGHUP)
    assert soon(lambda: not before & set(server.workers) and len(server.workers) == WORKERS)
    assert passed(send(server, CASES[0], BUDGET, X_Forwarded_For=client)) == 3


@pytest.mark.needs_program("gcc")
@pytest.mark.own_worker("a wall clock that jumps is the affair of the storage, which is the same")
@pytest.mark.fault("P11")
def test_p11_a_wall_clock_that_jumps_gives_no_new_budget(tmp_path: Path) -> None:
    with closing(WallClock(tmp_path)) as clock:
        settings = {**clock.environment, "RETORT_LIMIT_REQUESTS": f"{BUDGET}/minute;{BUDGET}/hour"}
        with serving(tmp_path, WEB_CONCURRENCY=1, **settings) as server:
            assert passed(send(server, CASES[6], BUDGET // 2)) == BUDGET // 2
            for ahead_s in (3600, -3600):
                clock.jump(ahead_s)
                assert passed(send(server, CASES[6], BUDGET // 4)) == BUDGET // 4
            clock.jump(86_400)
            assert passed(send(server, CASES[6], BUDGET)) == 0


# -- two hosts


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_in(tmp_path) as started:
        yield started


def is_up(server: Server) -> bool:
    found = re.findall(r"retort_limits_redis_up\{[^}]*\} ([\d.]+)", server.ask("GET", "/metrics").content.decode())
    return bool(found) and set(found) == {"1.0"}


def says(server: Server, words: str) -> int:
    return server.output.count(words)


@pytest.mark.needs_program("redis-server")
@pytest.mark.own_worker("the exchange is a thread of its own under every worker")
def test_two_hosts_share_a_limit_through_redis(tmp_path: Path, redis: RedisServer) -> None:
    settings: dict[str, Any] = PATIENT | {
        "WEB_CONCURRENCY": WORKERS,
        "REDIS_URL": redis.url,
        "RETORT_LIMIT_REQUESTS": f"{10 * BUDGET}/day",
        "RETORT_TRUSTED_PROXIES": 1,
    }
    with serving(tmp_path, **settings) as first, serving(tmp_path, **settings) as second:
        hosts = (first, second)
        assert soon(lambda: is_up(first) and is_up(second))

        def count(server: Server, client: str, requests: int, connections: int = 4) -> int:
            return passed(send(server, CASES[0], requests, connections, X_Forwarded_For=client))

        def is_used_up(server: Server, client: str) -> bool:
            return count(server, client, 1, 1) == 0

        assert count(first, "10.0.0.1", 9 * BUDGET) == 9 * BUDGET
        taken = 0
        while not is_used_up(second, "10.0.0.1"):
            taken += 1
            time.sleep(0.2)  # several exchanges
        assert BUDGET <= taken <= BUDGET + 2
        assert soon(lambda: is_used_up(first, "10.0.0.1"))

        redis.kill()  # each host counts alone
        began = [count(host, "10.0.0.2", 12 * BUDGET, 16) for host in hosts]
        assert began == [10 * BUDGET] * 2
        assert is_used_up(first, "10.0.0.1")
        assert is_used_up(second, "10.0.0.1")
        assert soon(lambda: not is_up(first) and not is_up(second))
        assert soon(lambda: all(says(host, "Redis does not answer") for host in hosts))

        redis.start()
        assert soon(lambda: is_up(first) and is_up(second))
        assert soon(lambda: all(says(host, "Redis answers again") for host in hosts))
        assert [says(host, "Redis does not answer") for host in hosts] == [1, 1]
        assert [says(host, "Redis answers again") for host in hosts] == [1, 1]
        assert count(first, "10.0.0.3", 10 * BUDGET) == 10 * BUDGET
        count(second, "10.0.0.3", 1)
        assert soon(lambda: is_used_up(second, "10.0.0.3"))
