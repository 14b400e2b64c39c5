"""A cluster of Dask on this machine: a scheduler and three workers, each a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, environment
from tests.jobs.files import estimator, penguins, read, same_as, write

pytestmark = pytest.mark.slow
STARTS_WITHIN_S = 60.0


class Cluster:
    """A scheduler and its workers, which do not start again when they are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = [self._started("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
        self.address = self._said("dask_scheduler-0", r"Scheduler at:\s+(tcp://\S+)")
        for at in range(1, 4):
            options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
            self.processes.append(self._started("dask_worker", self.address, "--host", "127.0.0.1", *options))
            self._said(f"dask_worker-{at}", r"(Registered to)")

    def _started(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        at = len(getattr(self, "processes", []))
        with (self.folder / f"{program}-{at}").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *options],
                cwd=ROOT,
                env=environment(PYTHONPATH=ROOT, PYTHONWARNINGS="ignore"),
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def _said(self, name: str, pattern: str) -> str:
        deadline_s = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline_s:
            if match := re.search(pattern, (self.folder / name).read_text()):
                return match[1]
            time.sleep(0.05)
        raise AssertionError((self.folder / name).read_text())

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("dask"))
    yield started
    started.stop()


def scoring(cluster: Cluster, source: Path, output: Path) -> subprocess.Popen[str]:
    """Score on the cluster in a process of its own, in small parts."""
    script = (
        "import sys; from app.jobs import parts; parts.MOST_ROWS = 200; from app.jobs.job import ScoringJob; "
        "from tests.jobs.files import SETTINGS; ScoringJob('penguins', None, *sys.argv[1:3], ['id'], "
        "engine='dask', cluster=sys.argv[3], settings=SETTINGS).run()"
    )
    command = [sys.executable, "-c", script, str(source), str(output), cluster.address]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, stderr=subprocess.PIPE)


def compare(table: pd.DataFrame, output: Path) -> None:
    found = read(output).sort_values("id").reset_index(drop=True)
    assert found["id"].tolist() == table["id"].tolist()
    same_as(estimator("penguins"), table.drop(columns="id"), found)


@pytest.mark.fault("S01")
def test_a_worker_that_is_killed_loses_and_doubles_no_row(cluster: Cluster, tmp_path: Path) -> None:
    table = penguins(40_000)
    source, output = write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    run = scoring(cluster, source, output)
    journal = tmp_path / ".out.parquet.scoring" / "journal.ndjson"
    deadline_s = time.monotonic() + STARTS_WITHIN_S
    while run.poll() is None and time.monotonic() < deadline_s:
        if journal.exists() and journal.read_bytes().count(b"\n") > 20:
            break
        time.sleep(0.01)
    assert run.poll() is None
    killed = cluster.processes.pop()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    _, errors = run.communicate(timeout=STARTS_WITHIN_S)
    assert run.returncode == 0, errors
    compare(table, output)


def test_the_command_scores_on_a_cluster_that_does_not_see_the_models(cluster: Cluster, tmp_path: Path) -> None:
    table = penguins(500)
    source, output = write(table, tmp_path / "in.csv"), tmp_path / "out.csv"
    command = ["flask", "score", "penguins:1", str(source), str(output), "--keep", "id", "--engine", "dask"]
    ran = subprocess.run(
        [sys.executable, "-m", *command, "--cluster", cluster.address],
        cwd=ROOT,
        env=environment(RETORT_MODELS_DIR=EXAMPLE_MODELS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "500 rows scored with penguins version 1" in ran.stdout
    compare(table, output)


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path) -> None:
    source = write(penguins(5), tmp_path / "in.csv")
    command = ["flask", "score", "penguins", str(source), str(tmp_path / "out.csv"), "--engine", "dask"]
    ran = subprocess.run(
        [sys.executable, "-m", *command, "--cluster", "tcp://127.0.0.1:1"],
        cwd=ROOT,
        env=environment(RETORT_MODELS_DIR=EXAMPLE_MODELS, DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="1s"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "Error: no scheduler of Dask answers at tcp://127.0.0.1:1"
