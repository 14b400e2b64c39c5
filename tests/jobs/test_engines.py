"""Engines: copies of this process for a graph, else processes of joblib. A killed process loses nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import ModelFailed, ScoringRefused
from app.jobs import engines, parts, scoring
from app.jobs import forked as forking
from app.jobs import job as jobs
from app.jobs.engines import InlineEngine, LokyEngine, engine_of
from app.jobs.forked import ForkEngine, WorkerLost, can_fork
from app.jobs.input_parts import InputParts
from app.jobs.job import ScoringJob
from app.jobs.parts import Part
from app.jobs.scoring import OutputForm, ScoredPart
from app.jobs.stretches import InputUnseen, Stretch
from app.jobs.versions import VersionFiles, choose
from app.signature.batch import Batch
from tests.end_to_end.process import ROOT, environment
from tests.jobs import killed
from tests.jobs.files import SETTINGS, estimator, penguins, read, same_as, score, write


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoringJob:
    """Return a run of several parts."""
    monkeypatch.setattr(parts, "TEXT_BYTES", 4000)
    source = write(penguins(600), tmp_path / "in.csv")
    return ScoringJob("penguins", None, str(source), str(tmp_path / "out.csv"), ["id"], settings=SETTINGS)


def compare(job: ScoringJob) -> None:
    found = read(Path(job.output))
    assert found["id"].tolist() == list(range(600))
    same_as(estimator("penguins"), penguins(600).drop(columns="id"), found)


def test_there_is_an_engine_for_each_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(engine_of("local", workers=1), InlineEngine)
    assert isinstance(engine_of("local", workers=2), LokyEngine)
    monkeypatch.setattr(engines, "can_fork", lambda: True)
    assert isinstance(engine_of("local", workers=2, forking=True), ForkEngine)
    assert isinstance(engine_of("local", workers=1, forking=True), InlineEngine)
    monkeypatch.setattr(engines, "can_fork", lambda: False)
    assert isinstance(engine_of("local", workers=2, forking=True), LokyEngine)
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert isinstance(engine_of("local", workers=2), InlineEngine)
    with pytest.raises(ScoringRefused, match=r"--engine dask needs distributed: pip install distributed"):
        engine_of("dask")


def forked(job: ScoringJob) -> Iterator[ScoredPart]:
    """Score the input of a job in two copies of this process."""
    version, manifest = choose(SETTINGS, "penguins", None)
    read = InputParts(jobs.sources_of(job.input), manifest.signature, ())
    return ForkEngine(2).score(version, OutputForm((), jobs.format_of("out.csv"), False), read)


def children() -> list[Path]:
    return killed.children_of(os.getpid())


@pytest.mark.slow
def test_copies_of_this_process_score_a_graph(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "engine_of", lambda *_, **__: ForkEngine(2))
    before = {*children()}
    assert job.run().rows == 600
    compare(job)
    assert {*children()} == before


@pytest.mark.slow
def test_copies_end_with_a_run_that_is_left_in_the_middle(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_but_the_first_hang(version: VersionFiles, form: OutputForm, rows: Part | Stretch) -> Iterator[ScoredPart]:
        yield from scoring.score_rows(version, form, rows) if not rows.number else iter(threading.Event().wait, None)

    monkeypatch.setattr(forking, "score_rows", all_but_the_first_hang)
    before, scored = {*children()}, forked(job)
    assert next(scored).number == 0
    assert len({*children()} - before) == 2
    scored.close()  # type: ignore[attr-defined]
    assert {*children()} == before


@pytest.mark.slow
def test_a_killed_copy_is_an_error(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "score_rows", kills)
    with pytest.raises(WorkerLost, match="a worker process ended"):
        list(forked(job))


def unpicklable(version: VersionFiles, form: OutputForm, rows: Part | Stretch) -> Iterator[ScoredPart]:
    raise ModelFailed("penguins", 1, "it broke")
    yield


def unseen(version: VersionFiles, form: OutputForm, rows: Part | Stretch) -> Iterator[ScoredPart]:
    raise InputUnseen("another file")
    yield


def broken(version: VersionFiles, form: OutputForm, rows: Part | Stretch) -> Iterator[ScoredPart]:
    raise OSError(28, "No space left on device", "a file")
    yield


@pytest.mark.slow
@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        (unpicklable, ScoringRefused, "version 1 could not answer this request"),
        (unseen, ScoringRefused, "another file"),
        (broken, OSError, "No space left on device: 'a file'"),
    ],
)
def test_an_error_in_a_copy_is_raised_here(
    score: Any, error: type[Exception], message: str, job: ScoringJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "score_rows", score)
    with pytest.raises(error, match=message):
        list(forked(job))


def test_a_process_with_other_threads_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "obstore", raising=False)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert can_fork()
    monkeypatch.setitem(sys.modules, "obstore", engines)
    assert not can_fork()
    monkeypatch.delitem(sys.modules, "obstore")
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert not can_fork()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_processes_score_an_artifact(job: ScoringJob) -> None:
    job.processes, job.settings = 2, replace(SETTINGS, runtime="artifact")
    assert job.run().rows == 600
    compare(job)


class Deadly:
    """Score in processes, one of which is killed by the first part of each round."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def score(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
        for at, scored in enumerate(InlineEngine().score(version, form, parts)):
            if at == 2 and self.rounds:
                self.rounds -= 1
                raise WorkerLost("a worker process ended")
            yield scored


@pytest.mark.slow
def test_parts_of_a_lost_worker_are_scored_again(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "engine_of", lambda *_, **__: Deadly(4))
    assert job.run().rows == 600
    compare(job)


def test_a_part_that_ends_every_worker_ends_the_run(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(Deadly):
        def score(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
            raise WorkerLost("a worker process ended")

    monkeypatch.setattr(jobs, "engine_of", lambda *_, **__: Never(0))
    with pytest.raises(ScoringRefused, match="a worker process ended, 3 times at the part after row 0"):
        job.run()


def kills(version: VersionFiles, form: OutputForm, rows: Part | Stretch) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_process_of_joblib_is_an_error(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "score_part", kills)
    version, manifest = choose(SETTINGS, "penguins", None)
    form = OutputForm((), jobs.format_of("out.csv"), False)
    read = InputParts(jobs.sources_of(job.input), manifest.signature, ())
    with pytest.raises(WorkerLost, match="a worker process ended"):
        list(LokyEngine(2).score(version, form, read))


@pytest.mark.slow
@pytest.mark.parametrize("parts_done", [0, 4])
@pytest.mark.parametrize(("runtime", "least"), [("auto", 2), ("artifact", 3)])
@pytest.mark.fault("S01")
def test_the_processes_of_a_killed_run_end(parts_done: int, runtime: str, least: int, tmp_path: Path) -> None:
    source, output = write(penguins(8000), tmp_path / "in.ndjson"), tmp_path / "out.csv"
    process = killed.started(source, output, 2, runtime)
    journal, children = tmp_path / ".out.csv.scoring" / "journal.ndjson", list[Path]()
    while process.poll() is None and not (len(children) >= least and journal.read_bytes().count(b"\n") > parts_done):
        children = killed.children_of(process.pid)
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert len(children) >= least
    assert killed.ended(children)


@pytest.mark.slow
@pytest.mark.fault("S01")
def test_the_copies_of_a_killed_run_end_at_once_and_so_release_its_lock(tmp_path: Path) -> None:
    source, output = write(penguins(8000), tmp_path / "in.ndjson"), tmp_path / "out.csv"
    script = (
        "import sys; from app.jobs import interrupts; interrupts.PARENT_CHECK_S = 3600.0; "
        "from tests.jobs import killed; killed.run(*sys.argv[1:], 2)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(source), str(output)], cwd=ROOT, env=environment())
    children = list[Path]()
    while process.poll() is None and len(children) < 2:
        children = killed.children_of(process.pid)
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert len(children) == 2
    assert killed.ended(children)
    assert score("penguins", source, output, keep=["id"], resume=True).rows == 8000


def test_a_version_that_was_replaced_is_refused(job: ScoringJob) -> None:
    version, _ = choose(SETTINGS, "penguins", None)
    with pytest.raises(ScoringRefused, match="was replaced while it was used"):
        replace(version, digest="0").lease()


def test_the_files_of_a_version_travel(job: ScoringJob) -> None:
    version, manifest = choose(SETTINGS, "iris-two", "1")
    travelling = version.with_files()
    assert (travelling.folder, travelling == version, hash(travelling) == hash(version)) == ("", True, True)
    assert {name for name, _ in travelling.files} >= {"manifest.json", *manifest.files}
    assert travelling._load().lease.manifest == version.lease().manifest


def test_a_version_that_travelled_scores_large_batches_as_quickly_as_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    version, manifest = choose(SETTINGS, "iris-two", None)
    loaded = version.with_files()._load()
    rows = 10_000
    batch = Batch({spec.name: np.linspace(0.0, 9.0, rows) for spec in manifest.signature.inputs}, rows)
    loaded.lease.servable.run(batch, manifest.signature.outputs)  # reads the graph again
    assert not caplog.records
    assert list(tmp_path.iterdir())
    del loaded
    gc.collect()
    assert not list(tmp_path.iterdir())
