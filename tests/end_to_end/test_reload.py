"""Tests that a server changes versions while clients send requests: by a command, or by SIGHUP."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, Server, environment, serving
from tests.end_to_end.test_serving import CLASSIC, IRIS_TWO
from tests.storage.versions import edit

pytestmark = pytest.mark.server

CLIENTS = 4


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """iris-two in two versions."""
    folder = tmp_path / "models"
    for version in (1, 2):
        shutil.copytree(EXAMPLE_MODELS / "iris-two" / "1", folder / "iris-two" / str(version))
        edit(folder / "iris-two" / str(version), version=version)
    return folder


@pytest.fixture
def server(tmp_path: Path, models: Path) -> Iterator[Server]:
    with serving(tmp_path, WEB_CONCURRENCY=2, RETORT_MODELS_DIR=models, RETORT_ACCESS_LOG="off") as started:
        started.all_workers(2)
        yield started


class Clients:
    """Clients that send requests continuously, each over a new connection, and record the responses."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.answers: list[tuple[int, int]] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                answer = self.server.ask("POST", IRIS_TWO, CLASSIC)
                self.answers.append((answer.status, answer.document["version"]))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a request that was lost
                self.failures.append(repr(error))


def flask(models: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "flask", *arguments]
    settings = environment(RETORT_MODELS_DIR=models)
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answering(server: Server) -> int:
    version: int = server.ask("POST", IRIS_TWO, CLASSIC).document["version"]
    return version


@pytest.mark.fault("P04", "M07")
def test_every_worker_serves_the_chosen_version_and_no_request_is_lost(server: Server, models: Path) -> None:
    assert answering(server) == 2
    with Clients(server) as clients:
        said = flask(models, "models", "use", "iris-two", "1")
        assert said.splitlines()[0] == "iris-two version 1 answers"
        assert f"process {server.process.pid}" in said
        assert "2 new workers" in flask(models, "models", "reload")
        taken = len(clients.answers)
        flask(models, "models", "rollback", "iris-two")
    later = clients.answers[taken + CLIENTS :]
    assert clients.failures == []
    assert set(clients.answers) == {(200, 1), (200, 2)}
    assert later
    assert set(later) == {(200, 1)}  # the rollback waits for the next reload
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 30
    while answering(server) != 2:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_reload_finds_new_versions_and_forgets_removed_ones(server: Server, models: Path) -> None:
    shutil.copytree(models / "iris-two" / "2", models / "iris-two" / "3")
    edit(models / "iris-two" / "3", version=3)
    assert f"process {server.process.pid}) serves it until" in flask(models, "models", "remove", "iris-two", "1")
    assert server.ask("POST", "/models/iris-two/versions/1/predict", CLASSIC).status == 200
    flask(models, "models", "reload")
    (listed,) = server.ask("GET", "/models").document["models"]
    assert [version["version"] for version in listed["versions"]] == [2, 3]
    assert answering(server) == 3


def test_an_unreadable_repository_is_named_and_served_models_stay(server: Server, models: Path) -> None:
    (models / "repository.json").write_text(json.dumps({"use": {"iris-two": "1"}}))
    command = [sys.executable, "-m", "flask", "models", "reload"]
    settings = environment(RETORT_MODELS_DIR=models)
    refused = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=90)
    assert refused.returncode == 1
    assert "repository.json cannot be read" in refused.stderr
    before = set(server.workers)
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 30
    while before & set(server.workers):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert answering(server) == 2
    assert "nothing is reloaded: " in server.output
