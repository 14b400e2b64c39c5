"""Two hosts that share Redis and PostgreSQL: limits count across both, and a key holds on both."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.hosts import Host, hosts, start_all
from tests.end_to_end.process import ROOT, environment, free_port

pytestmark = [
    pytest.mark.any_worker,
    pytest.mark.needs_program("ip"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

PATH, BODY = "/models/iris-two/predict", '{"feature1": 5.1, "feature2": 3.5}'
LIMIT = 40
BETWEEN_EXCHANGES = 20
"""The most requests that both hosts let pass before they exchange their counts."""
SOON_S = 15.0


def until(done: Callable[[], bool]) -> None:
    until_s = time.monotonic() + SOON_S
    while not done():
        assert time.monotonic() < until_s
        time.sleep(0.05)


@contextlib.contextmanager
def redis_for(folder: Path, sharing: Sequence[Host]) -> Iterator[int]:
    """Run Redis where these hosts reach it, and return its port."""
    port = free_port()
    bound = ["--bind", "127.0.0.1", *[host.store for host in sharing], "--protected-mode", "no"]
    command = ["redis-server", "--port", str(port), *bound, "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        ping = ["redis-cli", "-p", str(port), "ping"]
        until(lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0)
        yield port
    finally:
        process.kill()
        process.wait()


def passed(asked: Sequence[Host], client: str) -> int:
    """Send twice as many requests as a client may send, to each host in turn, and return how many passed."""
    headers = {"X-Forwarded-For": client}
    statuses = []
    for _ in range(LIMIT * 2 // len(asked)):
        statuses += [host.ask("POST", PATH, BODY, headers).status for host in asked]
        time.sleep(0.02)
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


def is_linked(host: Host) -> bool:
    """Return whether the host, which has one worker, shares its counts."""
    return b'\nretort_limits_redis_up{worker="1"} 1' in host.ask("GET", "/metrics").content


@pytest.mark.needs_program("redis-server")
@pytest.mark.fault("S06")
def test_limits_count_across_hosts_and_each_counts_alone_while_it_is_cut_off(tmp_path: Path) -> None:
    with hosts(tmp_path, 2) as (first, second), redis_for(tmp_path, [first, second]) as port:

        def settings(host: Host) -> dict[str, object]:
            limits = {"RETORT_LIMIT_REQUESTS": f"{LIMIT}/day", "RETORT_TRUSTED_PROXIES": 1}
            return {**limits, "REDIS_URL": f"redis://{host.store}:{port}/0"}

        start_all([first, second], settings)
        until(lambda: is_linked(first) and is_linked(second))
        assert LIMIT <= passed([first, second], "192.0.2.1") <= LIMIT + BETWEEN_EXCHANGES

        first.cut_off()
        assert passed([first], "192.0.2.2") == LIMIT, "no request fails or waits"
        until(lambda: not is_linked(first))
        assert is_linked(second)
        assert passed([second], "192.0.2.3") == LIMIT

        first.reconnect()
        until(lambda: is_linked(first))
        assert LIMIT <= passed([first, second], "192.0.2.4") <= LIMIT + BETWEEN_EXCHANGES


@pytest.mark.needs_program("pg_ctlcluster")
def test_a_key_holds_on_both_hosts_until_it_is_revoked(tmp_path: Path) -> None:
    from tests.storage.postgresql import postgresql

    with postgresql() as url, hosts(tmp_path, 2) as both:
        key = keys(url, "create", "--name", "two hosts", "--scope", "predict").split()[-1]
        start_all(both, lambda host: {"DATABASE_URL": url, "RETORT_PUBLIC": ""})
        bearer = {"Authorization": f"Bearer {key}"}
        for host in both:
            assert host.ask("POST", PATH, BODY, bearer).status == 200
            assert host.ask("POST", PATH, BODY).status == 401
        [line] = [line for line in keys(url, "list").splitlines() if "two hosts" in line]
        keys(url, "revoke", line.split()[0])
        for host in both:
            until(lambda: host.ask("POST", PATH, BODY, bearer).status == 401)  # noqa: B023 - called at once


def keys(url: str, *words: str) -> str:
    """Run `flask keys`, and return what it prints."""
    environ = environment(DATABASE_URL=url)
    ran = subprocess.run(["flask", "keys", *words], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
