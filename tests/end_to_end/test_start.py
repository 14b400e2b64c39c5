"""Tests of the `web:` line of Procfile in the environments of platforms."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from app.settings.cores import allowed_cores
from tests.end_to_end.process import ROOT, START_WITHIN_S, Server, environment, free_port, serving, web_line
from tests.settings.services import injected

GRACEFUL_TIMEOUT_S = 20
"""The setting of app.gunicorn_conf."""
RECORD = '{"feature1": 5.1, "feature2": 3.5}'


class UnixConnection(HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self.path))


def web_with(**settings: str) -> list[str]:
    """Return the `web:` line with settings that override those of `Server`."""
    return ["env", *(f"{name}={value}" for name, value in settings.items()), "sh", "-c", f"exec {web_line()}"]


@pytest.mark.parametrize("host", ["[::]", "::", "localhost", "127.0.0.1"])
def test_the_server_answers_at_each_form_of_host(tmp_path: Path, host: str) -> None:
    with serving(tmp_path, web_with(HOST=host), RETORT_PUBLIC=1) as server:
        assert server.ask("POST", "/models/iris-two/predict", RECORD).status == 200


def test_the_server_answers_at_a_unix_socket_whatever_the_port(tmp_path: Path) -> None:
    path = tmp_path / "retort.sock"
    server = Server(web_with(HOST=f"unix:{path}"), free_port(), tmp_path / "said")
    try:
        until = time.monotonic() + START_WITHIN_S
        while not path.exists():
            assert time.monotonic() < until, server.output
            time.sleep(0.05)
        for _ in range(2):
            with contextlib.closing(UnixConnection(path)) as connection:
                connection.request("POST", "/models/iris-two/predict", RECORD)
                assert connection.getresponse().status == 200
    finally:
        assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize(("text", "count"), [("", 1), ("auto", allowed_cores())])
def test_the_number_of_workers_may_be_empty_or_auto(tmp_path: Path, text: str, count: int) -> None:
    with serving(tmp_path, web_with(WEB_CONCURRENCY=text)) as server:
        server.all_workers(count)


def test_the_server_starts_beside_a_kubernetes_service_of_its_name(tmp_path: Path) -> None:
    variables = injected("RETORT", "10.43.7.1") | injected("RETORT_CANARY", "fd00::1")
    with serving(tmp_path, **variables) as server:
        assert server.ask("GET", "/readyz").status == 200


NO_TEMPORARY_FOLDER = """
import tempfile

def none_is_usable():
    raise FileNotFoundError(2, "No usable temporary directory found")

tempfile._get_default_tempdir = none_is_usable
"""


def test_the_server_starts_without_a_writable_temporary_folder(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_TEMPORARY_FOLDER, "utf-8")
    with serving(tmp_path, PYTHONPATH=tmp_path) as server:
        assert server.ask("GET", "/readyz").status == 200
        assert server.ask("POST", "/models/iris-two/predict", RECORD).status == 200
        assert server.ask("POST", "/v2/repository/models/digits/unload", "{}").status == 200


@pytest.mark.fault("P10")
def test_every_wrong_setting_is_named_in_one_sentence() -> None:
    wrong = {"WEB_CONCURRENCY": "many", "PORT": "", "HOST": "localhost:8000", "RETORT_THREDS": "4"}
    done = subprocess.run(
        ["sh", "-c", f"exec {web_line()}"],
        cwd=ROOT,
        env=environment(**wrong),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert all(f"{name}=" in line for name in ("WEB_CONCURRENCY", "HOST"))
    assert "RETORT_THREDS is not a setting (did you mean RETORT_THREADS?)" in line


@pytest.mark.any_worker
@pytest.mark.fault("P10")
def test_a_port_in_use_ends_the_start_with_its_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables = environment(RETORT_MODELS_DIR=tmp_path, HOST="127.0.0.1", PORT=port)
        ended = subprocess.run(
            ["sh", "-c", f"exec {web_line()}"], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
        )
    assert ended.returncode != 0
    sentence = f"retort: port {port} of 127.0.0.1 is in use; stop what listens there, or set another PORT, as in PORT="
    assert ended.stderr.splitlines()[-1].startswith(sentence)
    assert "models:" not in ended.stderr


SLOW_TO_FORK = """
import time
from app import gunicorn_conf
from app.gunicorn_conf import *

def post_fork(server, worker):
    time.sleep(1.0)
    gunicorn_conf.post_fork(server, worker)
"""


@pytest.mark.fault("P02")
def test_a_worker_that_is_told_to_end_while_it_is_forked_ends(tmp_path: Path) -> None:
    """It does not wait for `graceful_timeout`: such a worker used to miss the signal."""
    config = tmp_path / "config.py"
    config.write_text(SLOW_TO_FORK, "utf-8")
    command = ["gunicorn", "--config", str(config), "wsgi:app"]
    server = Server(command, free_port(), tmp_path / "said")
    try:
        until = time.monotonic() + START_WITHIN_S
        while "Booting worker" not in server.output:
            assert time.monotonic() < until, server.output
            time.sleep(0.02)
        server.process.terminate()
        assert server.process.wait(timeout=GRACEFUL_TIMEOUT_S - 5) == 0
        assert "SIGKILL" not in server.output
    finally:
        server.process.kill()
        server.process.wait()
