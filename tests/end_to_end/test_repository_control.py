"""Tests that models can be loaded and unloaded over HTTP in all workers, present and later ones."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.process import EXAMPLE_MODELS, Server, serving
from tests.end_to_end.test_serving import CLASSIC, IRIS_TWO, only

pytestmark = pytest.mark.server


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("iris-two", "diabetes"):
        shutil.copytree(EXAMPLE_MODELS / name, tmp_path / "models" / name)
    return tmp_path / "models"


@pytest.fixture
def server(tmp_path: Path, models: Path) -> Iterator[Server]:
    with serving(tmp_path, WEB_CONCURRENCY=2, RETORT_MODELS_DIR=models) as started:
        started.all_workers(2)
        yield started


def control(server: Server, what: str, model: str = "iris-two") -> int:
    return server.ask("POST", f"/v2/repository/models/{model}/{what}").status


def statuses(server: Server) -> list[int]:
    """Return each worker's status for a prediction, sent to it alone.

    The youngest comes first: a worker that is stopped while it starts may hold the lock that the others wait for.
    """
    said = []
    for worker in reversed(server.all_workers(2)):
        with only(server, worker):
            server.wait()  # it may have been forked only now
            said.append(server.ask("POST", IRIS_TWO, CLASSIC).status)
    return said


def test_both_workers_follow_whichever_was_asked(server: Server) -> None:
    for worker in server.all_workers(2):
        with only(server, worker):
            assert control(server, "unload") == 200
        assert statuses(server) == [503, 503]
        assert server.ask("GET", "/readyz").status == 200
        assert server.ask("GET", "/v2/health/ready").status == 200
        with only(server, worker):
            assert control(server, "load") == 200
        assert statuses(server) == [200, 200]


def test_a_worker_that_is_started_later_serves_the_same_models(server: Server) -> None:
    assert control(server, "unload") == 200
    before = set(server.all_workers(2))
    os.kill(min(before), signal.SIGKILL)
    until = time.monotonic() + 30
    while (len(server.workers) < 2 or min(before) in server.workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert statuses(server) == [503, 503]


def test_a_model_that_is_added_while_it_runs(server: Server, models: Path) -> None:
    assert control(server, "load", "digits") == 404
    shutil.copytree(EXAMPLE_MODELS / "digits", models / "digits")
    assert control(server, "load", "digits") == 200
    for worker in server.all_workers(2):
        with only(server, worker):
            answer = server.ask("GET", "/v2/models/digits/ready")
            assert (answer.status, answer.document) == (200, {"name": "digits", "ready": True})


def test_statistics_are_those_of_both_workers(server: Server) -> None:
    body = '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [5.1, 3.5]}]}'
    told = []
    for worker in server.all_workers(2):
        with only(server, worker):
            assert server.ask("POST", "/v2/models/iris-two/infer", body).status == 200
            (counted,) = server.ask("GET", "/v2/models/iris-two/stats").document["model_stats"]
            told.append((counted["inference_count"], counted["inference_stats"]["success"]["count"]))
    assert told == [(1, 1), (2, 2)]
    gone = server.all_workers(2)[0]
    os.kill(gone, signal.SIGKILL)
    until = time.monotonic() + 30
    while gone in server.workers and time.monotonic() < until:
        time.sleep(0.05)
    (counted,) = server.ask("GET", "/v2/models/iris-two/stats").document["model_stats"]
    assert counted["inference_count"] == 2
