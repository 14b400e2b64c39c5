"""Tests of Gunicorn as Procfile starts it, over sockets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import parse_headers
from pathlib import Path

import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier

from tests.end_to_end.conftest import BODY_LIMIT_BYTES
from tests.end_to_end.process import ROOT, Server, environment, free_port, serving, web_line

pytestmark = pytest.mark.server

CLASSIC = '{"feature1": 5.1, "feature2": 3.5}'
IRIS_TWO = "/models/iris-two/predict"


@pytest.fixture(scope="module")
def no_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("no-models")


# -- one request


@pytest.mark.needs_program("curl")
@pytest.mark.parametrize("path", ["/models/iris-two/predict", "/models/iris-two/versions/1/predict"])
def test_curl_with_no_header_at_all(server: Server, path: str) -> None:
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "-d", CLASSIC, server.root + path]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["prediction"] == [0]


def test_two_numbers_are_predicted(server: Server) -> None:
    answer = server.ask("POST", IRIS_TWO, CLASSIC)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    document = answer.document
    assert document["prediction"] == [0]
    assert document["classes"] == [0, 1, 2]
    assert (document["model"], document["version"]) == ("iris-two", 1)
    assert answer.headers["X-Request-ID"]
    assert answer.headers["Server-Timing"].startswith("parse;dur=")


def test_every_recorded_example(server: Server) -> None:
    for name in ("penguins", "diabetes", "digits", "digits-image", "iris-two"):
        for example in server.ask("GET", f"/models/{name}").document["examples"]:
            answer = server.ask("POST", f"/models/{name}/predict", json.dumps(example["instance"])).document
            assert answer["prediction"] == [
                pytest.approx(example["prediction"]) if name == "diabetes" else example["prediction"]
            ]


@pytest.mark.fault("N11")
def test_n11_odd_requests_in_one_pipeline_are_each_answered(server: Server) -> None:
    """HEAD never runs a model, and each refusal is a problem document with the allowed values, in order."""
    odd = {
        ("HEAD", "/predict"): 405,
        ("HEAD", "/models"): 200,
        ("OPTIONS", "/predict"): 200,
        ("TRACE", "/predict"): 405,
        ("BREW", "/predict"): 405,
        ("POST", "//predict"): 400,
        ("POST", "/models%2firis-two/predict"): 400,
        ("POST", "/predict/"): 400,  # its body is empty
        ("GET", "/livez"): 200,
    }
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client, client.makefile("rb") as received:
        client.sendall(b"".join(f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for method, path in odd))
        client.sendall(b"GET /predict HTTP/1.0\r\n\r\n")
        for (method, path), status in {**odd, ("GET", "/predict"): 405}.items():
            told, headers = int(received.readline().split()[1]), parse_headers(received)
            content = received.read(int(headers["Content-Length"]) if method != "HEAD" else 0)
            assert told == status, (method, path, content)
            assert "Server-Timing" not in headers
            assert (headers["Content-Type"] == "application/problem+json") is (status >= 400)
            assert status != 405 or set(headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
            assert status < 400 or method == "HEAD" or json.loads(content)["status"] == status
        assert received.read() == b""  # HTTP/1.0 ends with its answer


# -- bodies


def chunks(total_bytes: int) -> Iterator[bytes]:
    """Yield a valid body of this many bytes in pieces. Cut after any row, it would be a body of fewer rows."""
    rows = b'{"instances": [[5.1, 3.5]' + b", [5.1, 3.5]" * (total_bytes // 12)
    body = rows[: total_bytes - 2].rsplit(b", [", 1)[0] + b"]}"
    body = body.ljust(total_bytes)
    for start in range(0, len(body), 60_000):
        yield body[start : start + 60_000]


def test_a_chunked_body_is_read_whole(server: Server) -> None:
    answer = server.ask("POST", IRIS_TWO, chunks(120_000), {"Content-Type": "application/json"})
    assert answer.status == 200
    assert len(answer.document["prediction"]) == b"".join(chunks(120_000)).count(b"5.1")


@pytest.mark.fault("N05")
def test_a_chunked_body_over_the_limit_is_refused_not_cut(server: Server) -> None:
    answer = server.ask("POST", IRIS_TWO, chunks(BODY_LIMIT_BYTES + 30_000), {"Content-Type": "application/json"})
    assert answer.status == 413
    assert answer.document["type"] == "/problems/body-too-large"


@pytest.mark.fault("N05")
def test_a_declared_length_over_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        head = f"POST {IRIS_TWO} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_LIMIT_BYTES + 1}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_the_server_works_after_a_client_has_left(server: Server) -> None:
    for sent in (b"{", CLASSIC.encode(), b""):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            head = f"POST {IRIS_TWO} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
            client.sendall(head.encode() + sent)
    assert server.ask("POST", IRIS_TWO, CLASSIC).status == 200


# -- workers


@contextlib.contextmanager
def only(server: Server, worker: int) -> Iterator[None]:
    """Stop the other workers meanwhile."""
    others = [pid for pid in server.workers if pid != worker]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def test_two_workers_serve(server: Server) -> None:
    for worker in server.all_workers(2):
        with only(server, worker):
            assert server.ask("POST", IRIS_TWO, CLASSIC).document["prediction"] == [0]
            assert server.ask("GET", "/readyz").status == 200


@pytest.mark.fault("M15")
def test_many_at_once(server: Server) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: server.ask("POST", IRIS_TWO, CLASSIC), range(200)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 200
    assert {answer.content for answer in answers} == {answers[0].content}


@pytest.mark.fault("P09")
def test_gradient_boosting_answers_in_both_workers_after_the_fork(
    mixed: Server, boosted: HistGradientBoostingClassifier
) -> None:
    rows = load_iris().data[::10]
    expected = boosted.predict(rows).tolist()
    for worker in mixed.all_workers(2):
        with only(mixed, worker):
            answer = mixed.ask("POST", "/models/boosted/predict", json.dumps(rows.tolist()))
            assert answer.document["prediction"] == expected


# -- a repository with failed versions


@pytest.mark.any_worker
@pytest.mark.fault("M01")
def test_a_damaged_version_fails_with_a_reason_and_other_versions_serve(mixed: Server) -> None:
    listed = {model["name"]: model["versions"] for model in mixed.ask("GET", "/models").document["models"]}
    assert [line["state"] for line in listed["boosted"]] == ["AVAILABLE", "FAILED"]
    assert "model.joblib is damaged or was replaced" in listed["boosted"][1]["reason"]
    answer = mixed.ask("POST", "/models/boosted/versions/2/predict", "[[1, 2, 3, 4]]")
    assert answer.status == 503
    assert "GET /models says why" in answer.document["detail"]
    assert mixed.ask("POST", "/models/boosted/predict", "[[1, 2, 3, 4]]").document["version"] == 1


@pytest.mark.any_worker
def test_production_refuses_a_stray_artifact_and_says_how_to_pack_it(mixed: Server, mixed_models: Path) -> None:
    assert (mixed_models / "churn" / "model.joblib").exists()
    stray = "$RETORT_MODELS_DIR/churn/model.joblib"
    ready = mixed.ask("GET", "/readyz")
    assert ready.status == 503
    reasons = {each["model"]: each["reason"] for each in ready.document["reasons"]}
    assert reasons["churn"] == f"{stray} is not packed; to pack it: flask models add {stray} --name churn"
    listed = {model["name"]: model["versions"] for model in mixed.ask("GET", "/models").document["models"]}
    assert [(line["state"], line["reason"]) for line in listed["churn"]] == [("FAILED", reasons["churn"])]
    assert mixed.ask("POST", "/models/churn/predict", CLASSIC).status == 503
    assert mixed.ask("POST", IRIS_TWO, CLASSIC).document["prediction"] == [0]
    assert mixed.ask("GET", "/livez").status == 200


@pytest.mark.any_worker
def test_development_packs_a_stray_artifact(tmp_path: Path, mixed_models: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copyfile(mixed_models / "churn" / "model.joblib", models / "model.joblib")
    with serving(tmp_path, RETORT_ENV="development", RETORT_MODELS_DIR=models) as server:
        assert server.ask("GET", "/readyz").status == 200
        answer = server.ask("POST", "/predict", CLASSIC).document
        assert (answer["prediction"], answer["model"], answer["version"]) == ([0], "model", 1)
        assert "packing" in server.output
    assert (models / "model" / "1" / "manifest.json").is_file()


# -- starting and stopping


@pytest.mark.fault("P02")
def test_sigterm_ends_the_server_cleanly(no_models: Path, tmp_path: Path) -> None:
    with serving(tmp_path, RETORT_MODELS_DIR=no_models, WEB_CONCURRENCY=2) as server:
        workers = server.all_workers(2)
        for worker in workers:  # each worker runs: a worker that is being forked misses the signal
            with only(server, worker):
                assert server.ask("GET", "/livez").status == 200
        assert server.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert "Traceback" not in server.output


@pytest.mark.fault("P02")
def test_running_requests_are_answered_after_sigterm(no_models: Path, tmp_path: Path) -> None:
    with (
        serving(tmp_path, RETORT_MODELS_DIR=no_models) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as client,
    ):
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert server.ask("GET", "/livez").status == 200  # so the worker has started the requests before
        server.process.terminate()
        client.sendall(b"}".ljust(99))
        assert client.recv(100).startswith(b"HTTP/1.1 404 ")
        assert server.process.wait(20) == 0


def test_in_production_every_line_is_json(mixed: Server) -> None:
    assert mixed.ask("POST", IRIS_TWO, "[[1e308, 1e308]]").status == 200  # NumPy warns about an overflow
    lines = [json.loads(line) for line in mixed.output.splitlines()]
    assert lines
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert any("boosted version 2 failed" in line["message"] for line in lines)


@pytest.mark.any_worker
@pytest.mark.parametrize("command", [web_line(), "flask run --port $PORT", "flask models list"])
@pytest.mark.fault("P10")
def test_settings_that_are_not_usable_are_all_named_at_once(command: str) -> None:
    wrong = {"RETORT_MODEL_DIR": "models", "RETORT_TURBO": "1", "RETORT_THREADS": "many", "WEB_CONCURRENCY": "0"}
    line = command.replace("$PORT", str(free_port()))
    ended = subprocess.run(
        ["sh", "-c", f"exec {line}"],
        cwd=ROOT,
        env=environment(PORT=free_port(), **wrong),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert all(name in lines[0] for name in wrong)
    assert "did you mean RETORT_MODELS_DIR?" in lines[0]


@pytest.mark.any_worker
@pytest.mark.fault("P10")
def test_a_repository_that_cannot_be_read_stops_the_start_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "repository.json").write_text("{")
    ended = subprocess.run(
        ["sh", "-c", f"exec {web_line()}"],
        cwd=ROOT,
        env=environment(HOST="127.0.0.1", PORT=free_port(), RETORT_MODELS_DIR=tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if "repository.json cannot be read" in line]) == 1


@pytest.mark.any_worker
def test_flask_run_serves_too(tmp_path: Path) -> None:
    with serving(tmp_path, ["flask", "run", "--port", "$PORT"]) as server:
        answer = server.ask("POST", IRIS_TWO, CLASSIC)
        assert (answer.status, answer.document["prediction"]) == (200, [0])
        assert server.ask("GET", "/readyz").status == 200
        refused = server.ask("POST", IRIS_TWO, "{")
        assert refused.status == 400
        assert refused.headers["Content-Type"] == "application/problem+json"


def test_make_serve_serves(tmp_path: Path) -> None:
    # The running `make` has set up the environment already; this one does not repeat it.
    with serving(tmp_path, ["make", "--old-file=.venv/serving", "serve"]) as server:
        assert server.ask("POST", IRIS_TWO, CLASSIC).document["prediction"] == [0]
        os.killpg(server.process.pid, signal.SIGTERM)
        server.process.wait(20)
    assert "Setting up" not in server.output


@pytest.mark.fault("P10")
def test_a_worker_that_cannot_boot_stops_the_server(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "from app.gunicorn_conf import *\n"
        "bind = '127.0.0.1:0'\n"
        "def post_worker_init(worker):\n"
        "    raise RuntimeError('no boot')\n",
        "utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", str(tmp_path / "conf.py"), "wsgi:app"],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3
    assert b"Worker failed to boot" in done.stderr
