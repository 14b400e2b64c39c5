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

from app.errors import ScoringRefused
from app.jobs import table_parts
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, environment
from tests.jobs.files import estimator, penguins, read, same_as, score, write

pytestmark = pytest.mark.slow
STARTS_WITHIN_S = 60.0


class Cluster:
    """A scheduler and its workers, which are not restarted when they are killed."""

    def __init__(self, folder: Path, workers: int = 3, root: Path = ROOT) -> None:
        self.folder, self.root = folder, root
        self.processes = [self._started("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
        self.address = self._said("dask_scheduler-0", r"Scheduler at:\s+(tcp://\S+)")
        options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
        for _ in range(workers):
            self.processes.append(self._started("dask_worker", self.address, "--host", "127.0.0.1", *options))
        for at in range(1, workers + 1):
            self._said(f"dask_worker-{at}", r"(Registered to)")

    def _started(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        at = len(getattr(self, "processes", []))
        with (self.folder / f"{program}-{at}").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *options],
                cwd=self.root,
                env=environment(PYTHONPATH=self.root, PYTHONWARNINGS="ignore"),
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


def scoring(cluster: Cluster, source: Path, output: Path, pause_after: int) -> subprocess.Popen[str]:
    """Score on the cluster in a separate process, in small parts. Return when it has paused after some parts."""
    script = (
        "import sys; from app.jobs import table_parts; table_parts.MOST_ROWS = 200; "
        "from app.jobs.job import ScoringJob; from tests.jobs.files import SETTINGS; "
        "wait_for_test = lambda: print(flush=True) or sys.stdin.readline(); "
        "pause = lambda progress: progress.parts_done == int(sys.argv[4]) and wait_for_test(); "
        "ScoringJob('penguins', None, *sys.argv[1:3], ['id'], engine='dask', cluster=sys.argv[3], "
        "settings=SETTINGS).run(pause)"
    )
    command = [sys.executable, "-c", script, str(source), str(output), cluster.address, str(pause_after)]
    quickly = environment(DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="2s")
    pipe = subprocess.PIPE
    run = subprocess.Popen(command, cwd=ROOT, env=quickly, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
    assert run.stdout is not None
    assert run.stdout.readline() == "\n"
    return run


def compare(table: pd.DataFrame, output: Path) -> None:
    found = read(output).sort_values("id").reset_index(drop=True)
    assert found["id"].tolist() == table["id"].tolist()
    same_as(estimator("penguins"), table.drop(columns="id"), found)


def in_small_row_groups(table: pd.DataFrame, path: Path) -> Path:
    """Write a table so that each worker gets many stretches of it."""
    table.to_parquet(path, index=False, row_group_size=400)
    return path


@pytest.mark.fault("S01")
def test_a_worker_that_is_killed_loses_and_doubles_no_row(cluster: Cluster, tmp_path: Path) -> None:
    table = penguins(40_000)
    source, output = in_small_row_groups(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    run = scoring(cluster, source, output, pause_after=20)
    killed = cluster.processes.pop()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    _, errors = run.communicate("\n", timeout=STARTS_WITHIN_S)
    assert run.returncode == 0, errors
    assert "travel" not in errors  # the workers read the file themselves
    compare(table, output)


def test_a_run_whose_scheduler_ends_reports_it_and_is_resumed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_parts, "MOST_ROWS", 200)  # as in `scoring`
    table = penguins(40_000)
    source, output = in_small_row_groups(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    cluster = Cluster(tmp_path)
    try:
        run = scoring(cluster, source, output, pause_after=10)
    finally:
        cluster.stop()
    _, errors = run.communicate("\n", timeout=STARTS_WITHIN_S)
    assert errors.splitlines()[-1].endswith(f"no scheduler of Dask answers at {cluster.address}")
    assert score("penguins", source, output, keep=["id"], resume=True).rows == 40_000
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


@pytest.mark.parametrize("name", ["in.parquet", "in.csv"])
def test_rows_travel_to_workers_that_do_not_see_the_input(cluster: Cluster, name: str, tmp_path: Path) -> None:
    table = penguins(500)
    write(table, tmp_path / name)
    seen_by_the_command = f"/proc/self/cwd/{name}"
    command = ["flask", "score", "penguins", seen_by_the_command, "out.csv", "--keep", "id", "--engine", "dask"]
    ran = subprocess.run(
        [sys.executable, "-m", *command, "--cluster", cluster.address],
        cwd=tmp_path,
        env=environment(RETORT_MODELS_DIR=EXAMPLE_MODELS, PYTHONPATH=ROOT, FLASK_APP=ROOT / "wsgi.py"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"does not see the input: {seen_by_the_command}: No such file" in ran.stderr
    assert "its rows travel to the workers" in ran.stderr
    compare(table, tmp_path / "out.csv")


def test_a_cluster_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("workers", "which"), [(0, r"tcp://\S+ \(the scheduler\)"), (1, r"tcp://\S+")])
def test_a_process_of_dask_that_cannot_import_retort_is_an_error(workers: int, which: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, workers=workers, root=tmp_path)
    source = write(penguins(5), tmp_path / "in.csv")
    try:
        with pytest.raises(ScoringRefused, match=rf"of Dask at {which} cannot import Retort: .* on PYTHONPATH"):
            score("penguins", source, tmp_path / "out.csv", engine="dask", cluster=cluster.address)
    finally:
        cluster.stop()


def test_dask_needs_a_cluster(tmp_path: Path) -> None:
    source = write(penguins(5), tmp_path / "in.csv")
    with pytest.raises(ScoringRefused, match="--engine dask needs --cluster"):
        score("penguins", source, tmp_path / "out.csv", engine="dask")
