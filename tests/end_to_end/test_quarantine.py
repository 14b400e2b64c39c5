"""Tests that a model that kills its workers is quarantined, and that other models continue."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import joblib
import numpy as np
import pytest

from app.packing.spawn import PackRequest
from app.packing.write import pack
from tests.end_to_end.deadly import EXIT_STATUS, EXITS, FORKS, GROUP_DIES, LEAKS, SEGFAULTS, Deadly
from tests.end_to_end.process import WORKER, Server, serving

pytestmark = pytest.mark.server

LISTENS = "0A"
"""The code of the state LISTEN in /proc/net/tcp."""
DEADLY, STEADY = "/models/deadly/predict", "/models/steady/predict"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Two models of the same class with two workers. Only one gets the values that kill."""
    artifact = tmp_path / "model.joblib"
    joblib.dump(Deadly().fit(np.zeros((4, 1))), artifact)
    for name in ("deadly", "steady"):
        pack(PackRequest(str(artifact), name, str(tmp_path / "models")))
    with serving(tmp_path, WEB_CONCURRENCY=2, RETORT_MODELS_DIR=tmp_path / "models") as started:
        started.all_workers(2)
        yield started


@contextlib.contextmanager
def asking(server: Server) -> Iterator[Counter[str]]:
    """Send requests for the other model meanwhile, and count the results by status, or "cut"."""
    outcomes: Counter[str] = Counter()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                outcomes[str(server.ask("POST", STEADY, '{"feature1": 2}').status)] += 1
            except (OSError, HTTPException):
                outcomes["cut"] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        thread.join()


def kill(server: Server, value: float) -> None:
    """Send a value that kills, and wait until another worker replaces the dead one."""
    before = set(server.all_workers(2))
    with pytest.raises((OSError, HTTPException)):
        server.ask("POST", DEADLY, f'{{"feature1": {value}}}')
    until = time.monotonic() + 30
    while len(before & set(server.workers)) != 1 and time.monotonic() < until:
        time.sleep(0.02)
    server.all_workers(2)


@pytest.mark.fault("M13")
def test_no_exit_status_of_a_worker_that_serves_ends_the_server(server: Server) -> None:
    for value in EXIT_STATUS:
        kill(server, value)
        server.ask("POST", "/v2/repository/models/deadly/load", "{}")
    assert server.process.poll() is None
    for status in EXIT_STATUS.values():
        assert f"exited with code {status}." in server.output


@pytest.mark.fault("M13")
def test_a_model_that_kills_its_process_group_ends_only_its_worker(server: Server) -> None:
    kill(server, GROUP_DIES)
    assert server.process.poll() is None
    assert server.ask("POST", STEADY, '{"feature1": 2}').status == 200


@pytest.mark.own_worker("Gunicorn's own worker does not look at its descriptors")
@pytest.mark.fault("M13")
def test_a_worker_whose_descriptors_a_model_has_used_up_is_replaced(server: Server) -> None:
    before = set(server.all_workers(2))
    assert server.ask("POST", DEADLY, f'{{"feature1": {LEAKS}}}').status == 200
    until = time.monotonic() + 30
    while len(before & set(server.workers)) != 1 and time.monotonic() < until:
        time.sleep(0.02)
    server.all_workers(2)
    assert "its file descriptors are used up" in server.output
    for path in ("/docs", "/readyz"):
        assert server.ask("GET", path).status == 200


def held_by(process: int) -> set[str]:
    """Return the open descriptors of a process, as /proc names them."""
    return {str(path.readlink()) for path in Path(f"/proc/{process}/fd").iterdir()}


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_process_that_a_model_forks_keeps_neither_the_port_nor_a_connection(server: Server, tmp_path: Path) -> None:
    with contextlib.closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as client:
        client.request("POST", DEADLY, f'{{"feature1": {FORKS}}}', {"Connection": "close"})
        response = client.getresponse()
        child = int(json.loads(response.read())["prediction"][0])
    try:
        known = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
        states = {LISTENS} if WORKER == "gthread" else {LISTENS, *(line[3] for line in known)}
        ours = {
            f"socket:[{line[9]}]" for line in known if line[1].endswith(f":{server.port:04X}") and line[3] in states
        }
        assert ours
        until = time.monotonic() + 10  # the answer may arrive before the child has closed its descriptors
        while (held := held_by(child) & ours) and time.monotonic() < until:
            time.sleep(0.02)
        assert held == set()
        assert server.ask("POST", DEADLY, '{"feature1": 4}').document["prediction"] == [8.0]
        assert is_running(child)
    finally:
        server.stop()
    until = time.monotonic() + 10
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(child)


@pytest.mark.fault("M13")
def test_m13_a_model_that_kills_three_workers_is_quarantined_until_it_is_loaded_again(server: Server) -> None:
    with asking(server) as others:
        for value in (EXITS, SEGFAULTS, EXITS):
            assert server.ask("POST", DEADLY, '{"feature1": 4}').document["prediction"] == [8.0]
            kill(server, value)
        workers = server.all_workers(2)
        for value in (EXITS, SEGFAULTS, 4) * 2:
            refused = server.ask("POST", DEADLY, f'{{"feature1": {value}}}')
            assert (refused.status, refused.document["type"]) == (503, "/problems/model-quarantined")
            assert "3 workers died within 60 s" in refused.document["detail"]
            assert "loading it again" in refused.document["detail"]
            assert int(refused.headers["Retry-After"]) > 0
        assert server.all_workers(2) == workers
        until = time.monotonic() + 30
        while others["200"] <= 20 and time.monotonic() < until:
            time.sleep(0.02)
    assert set(others) <= {"200", "cut"}
    assert others["cut"] <= 3  # the dying worker was running it
    assert others["200"] > 20

    listed = {model["name"]: model["versions"][0] for model in server.ask("GET", "/models").document["models"]}
    assert listed["deadly"]["state"] == "QUARANTINED"
    assert listed["steady"]["state"] == "AVAILABLE"
    ready = server.ask("GET", "/readyz")
    assert ready.status == 200
    assert [(one["model"], one["state"]) for one in ready.document["reasons"]] == [("deadly", "QUARANTINED")]
    assert server.output.count("model deadly version 1 is quarantined: 3 workers died") == 1

    assert server.ask("POST", "/v2/repository/models/deadly/load").status == 200
    for _ in range(4):
        assert server.ask("POST", DEADLY, '{"feature1": 4}').document["prediction"] == [8.0]
    assert server.ask("GET", "/readyz").status == 200


def test_killing_workers_while_no_model_runs_quarantines_no_model(server: Server) -> None:
    for _ in range(4):
        victim = server.all_workers(2)[0]
        os.kill(victim, signal.SIGKILL)
        until = time.monotonic() + 30
        while victim in server.workers and time.monotonic() < until:
            time.sleep(0.02)
    assert server.ask("POST", DEADLY, '{"feature1": 4}').status == 200
