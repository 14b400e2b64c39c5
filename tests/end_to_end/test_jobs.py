"""Jobs as on a platform: the server and workers are separate processes, and some are killed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import obstore
import pytest
from moto.server import ThreadedMotoServer

from app.jobs.locations import store_of
from app.settings import variable
from tests.docs.pages import titled
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, Server, environment, serving
from tests.jobs.stage import RECORDS, penguins

pytestmark = pytest.mark.any_worker

ENDS_WITHIN_S = 60.0
ROWS = 250_000
"""Some 14 MB, in four parts."""


def worker_line() -> list[str]:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text("utf-8").splitlines())
    return [*shlex.split(lines["worker"]), "--processes", "1"]


class Worker:
    """A worker of jobs as a process, which runs the `worker:` line of Procfile."""

    def __init__(self, folder: Path, **others: object) -> None:
        self.said = folder / "said-worker"
        with self.said.open("ab") as stream:
            self.process = subprocess.Popen(
                worker_line(),
                cwd=ROOT,
                env=environment(**{**settings(folder), **others}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def settings(folder: Path) -> dict[str, object]:
    return {
        "RETORT_MODELS_DIR": EXAMPLE_MODELS,
        "RETORT_INSTANCE_DIR": folder / "instance",
        variable("jobs_lease_s"): 2,
        "OMP_NUM_THREADS": 1,
    }


def until(condition: Callable[[], Any], worker: Worker) -> Any:
    until_s = time.monotonic() + ENDS_WITHIN_S
    while not (found := condition()):
        assert time.monotonic() < until_s, worker.said.read_text("utf-8")
        time.sleep(0.05)
    return found


def job_at(server: Server, here: str) -> dict[str, Any]:
    document: dict[str, Any] = server.ask("GET", here).document
    return document


def taken(server: Server, worker: Worker, content: bytes, query: str, **headers: str) -> str:
    """Send a table until a worker runs, and return where the job is."""

    def location() -> str:
        answer = server.ask("POST", f"/jobs?{query}", content, {"Content-Type": "text/csv", **headers})
        assert answer.status in (202, 503), answer.content
        return answer.headers.get("Location", "")

    found: str = until(location, worker)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    limits = {"RETORT_BODY_LIMIT_BYTES": 1_000_000}
    with serving(folder, **settings(folder), **limits) as started:
        yield started


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ("development", r"\d\d:\d\d:\d\d INFO    the worker of jobs is ready; .*\n"),
        ("production", r'\{"time": ".*", "level": "INFO", "logger": "app.jobs.worker", "message": "the worker .*\}\n'),
    ],
)
def test_a_worker_logs_like_the_server(tmp_path: Path, env: str, line: str) -> None:
    worker = Worker(tmp_path, RETORT_ENV=env)
    try:
        until(lambda: worker.said.read_text("utf-8"), worker)
    finally:
        worker.process.terminate()
        worker.process.wait()
    assert re.fullmatch(line, worker.said.read_text("utf-8"))


def test_the_job_of_a_killed_worker_continues_in_another(server: Server, folder: Path) -> None:
    first = Worker(folder)
    try:
        content = penguins(ROWS)
        here = taken(server, first, content, "model=penguins&keep=id", **{"Idempotency-Key": "once"})
        journal = folder / "instance" / "jobs" / here.rpartition("/")[2] / "work" / "journal.ndjson"
        until(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 1, first)
    finally:
        first.kill()
    assert job_at(server, here)["state"] == "running"
    second = Worker(folder)
    try:
        until(lambda: job_at(server, here)["state"] not in ("queued", "running"), second)
    finally:
        second.process.terminate()
        assert second.process.wait(ENDS_WITHIN_S) == 0
    job = job_at(server, here)
    assert (job["state"], job["rows"], job["rejected"], job["error"]) == ("done", ROWS, 0, None)
    result = server.ask("GET", f"{here}/result")
    rows = list(csv.reader(io.StringIO(result.content.decode())))
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(ROWS)]
    predicted = server.ask("POST", "/models/penguins/predict", json.dumps(RECORDS)).document["prediction"]
    assert all(row[1] == predicted[number % len(RECORDS)] for number, row in enumerate(rows[1:]))
    assert "begins anew" not in second.said.read_text("utf-8")

    # No worker runs now. The same request would still make no second job, and other bodies keep their limit.
    assert server.ask("POST", "/jobs", content, {"Content-Type": "text/csv"}).status == 503
    too_long = server.ask("POST", "/models/penguins/predict", content, {"Content-Type": "text/csv"})
    assert too_long.status == 413


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Yield a bucket of a real server that speaks S3."""
    storage = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    storage.start()
    host, port = storage.get_host_and_port()
    named = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**named, "ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(f"AWS_{name}", value)
        with urlopen(Request(f"http://{host}:{port}/birds", method="PUT"), timeout=20) as answer:
            assert answer.status == 200
        yield "s3://birds"
    storage.stop()


@pytest.fixture(scope="module")
def both(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Worker]]:
    """Yield a server and its worker, which may read and write two folders of the bucket."""
    folder = tmp_path_factory.mktemp("both")
    allowed = {variable("jobs_urls"): f"{bucket}/in/,{bucket}/out/"}
    with serving(folder, **settings(folder), **allowed) as server:
        worker = Worker(folder, **allowed)
        try:
            until(lambda: server.ask("POST", "/jobs").status != 503, worker)
            yield server, worker
        finally:
            worker.kill()


def test_a_job_reads_and_writes_objects_in_allowed_folders(bucket: str, both: tuple[Server, Worker]) -> None:
    server, worker = both
    store, _ = store_of(bucket)
    obstore.put(store, "in/rows.csv", penguins(100))
    asked = {"input": f"{bucket}/in/rows.csv", "output": f"{bucket}/out/all.ndjson", "keep": ["id"]}
    as_json = {"Content-Type": "application/json"}
    here = server.ask("POST", "/jobs", json.dumps(asked), as_json).headers["Location"]
    until(lambda: job_at(server, here)["state"] not in ("queued", "running"), worker)
    job = job_at(server, here)
    assert (job["state"], job["rows"], job["output"]) == ("done", 100, f"{bucket}/out/all.ndjson")
    assert server.ask("GET", f"{here}/result").status == 404
    lines = bytes(obstore.get(store, "out/all.ndjson").bytes()).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(number) for number in range(100)]
    refused = server.ask("POST", "/jobs", json.dumps(asked | {"input": f"{bucket}/x.csv"}), as_json)
    assert (refused.status, refused.document["type"]) == (403, "/problems/url-not-permitted")


@pytest.mark.needs_program("curl")
def test_the_commands_of_the_page_run(both: tuple[Server, Worker], tmp_path: Path) -> None:
    server, _ = both
    assert titled("docs/jobs.md", "worker.sh").split()[1:] == worker_line()[4:6]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command, title in ((["sh", "-euc"], "jobs.sh"), ([sys.executable, "-c"], "jobs.py")):
        text = titled("docs/jobs.md", title).replace("localhost:8000", f"127.0.0.1:{server.port}")
        ran = subprocess.run(
            [*command, text], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=ENDS_WITHIN_S
        )
        assert ran.returncode == 0, ran.stderr
        if title == "jobs.sh":
            assert ran.stdout.splitlines()[1].startswith("Torgersen,male,Adelie,")
        else:
            assert "done 344 None" in ran.stdout
