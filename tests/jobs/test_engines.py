"""Engines: threads where a graph runs, else processes; a process that ends loses nothing."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import ScoringRefused
from app.jobs import engines, parts
from app.jobs import job as jobs
from app.jobs.engines import InlineEngine, LokyEngine, ThreadEngine, WorkerLost, engine_of
from app.jobs.input_parts import InputParts
from app.jobs.job import ScoringJob
from app.jobs.parts import Part
from app.jobs.scoring import OutputForm, ScoredPart
from app.jobs.versions import VersionFiles, choose
from app.signature.batch import Batch
from tests.jobs import killed
from tests.jobs.files import SETTINGS, estimator, penguins, read, same_as, write


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoringJob:
    """A run of several parts."""
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
    assert isinstance(engine_of("local", workers=2, in_threads=True), ThreadEngine)
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert isinstance(engine_of("local", workers=2), InlineEngine)
    with pytest.raises(ScoringRefused, match=r"--engine dask needs distributed: pip install distributed"):
        engine_of("dask")


def test_threads_score_a_graph(job: ScoringJob) -> None:
    job.processes = 2
    assert job.run().rows == 600
    compare(job)


def left_in_the_middle(
    job: ScoringJob, monkeypatch: pytest.MonkeyPatch, goes_on: threading.Event
) -> tuple[Any, set[threading.Thread]]:
    """Score the first part in threads, which score all others only when the event is set. Return the run and them."""
    score_part, threads = engines.score_part, set[threading.Thread]()

    def first_alone(version: VersionFiles, form: OutputForm, part: Part) -> Any:
        threads.add(threading.current_thread())
        if part.number:
            goes_on.wait(30)
        return score_part(version, form, part)

    monkeypatch.setattr(engines, "score_part", first_alone)
    version, manifest = choose(SETTINGS, "penguins", None)
    read = InputParts(jobs.sources_of(job.input), manifest.signature, ())
    scored = ThreadEngine(2).scored(version, OutputForm((), jobs.format_of("out.csv"), False), read)
    next(scored)
    return scored, threads


@pytest.mark.filterwarnings("ignore")
def test_threads_have_ended_when_a_run_is_left_in_the_middle(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    scored, threads = left_in_the_middle(job, monkeypatch, goes_on)
    threading.Timer(0.2, goes_on.set).start()
    scored.close()
    assert len(threads) == 2
    assert not any(each.is_alive() for each in threads)


@pytest.mark.filterwarnings("ignore")
def test_a_part_that_hangs_keeps_no_run_from_ending(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "THREADS_END_S", 0.05)
    goes_on = threading.Event()
    scored, threads = left_in_the_middle(job, monkeypatch, goes_on)
    scored.close()
    assert any(each.is_alive() for each in threads)
    goes_on.set()
    for each in threads:
        each.join(30)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_processes_score_an_artifact(job: ScoringJob) -> None:
    job.processes, job.settings = 2, replace(SETTINGS, runtime="artifact")
    assert job.run().rows == 600
    compare(job)


class Deadly:
    """Scores in processes, one of which is killed by the first part of each round."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def scored(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
        for at, scored in enumerate(InlineEngine().scored(version, form, parts)):
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
        def scored(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
            raise WorkerLost("a worker process ended")

    monkeypatch.setattr(jobs, "engine_of", lambda *_, **__: Never(0))
    with pytest.raises(ScoringRefused, match="a worker process ended, 3 times at the part after row 0"):
        job.run()


def kills(version: VersionFiles, form: OutputForm, part: Part) -> list[ScoredPart]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_process_of_joblib_is_told(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "score_part", kills)
    version, manifest = choose(SETTINGS, "penguins", None)
    form = OutputForm((), jobs.format_of("out.csv"), False)
    read = InputParts(jobs.sources_of(job.input), manifest.signature, ())
    with pytest.raises(WorkerLost, match="a worker process ended"):
        list(LokyEngine(2).scored(version, form, read))


@pytest.mark.slow
@pytest.mark.parametrize("parts_done", [0, 4])
@pytest.mark.fault("S01")
def test_the_processes_of_a_killed_run_end(parts_done: int, tmp_path: Path) -> None:
    source, output = write(penguins(8000), tmp_path / "in.ndjson"), tmp_path / "out.csv"
    process = killed._started(source, output, 2)
    journal, children = tmp_path / ".out.csv.scoring" / "journal.ndjson", list[Path]()
    while process.poll() is None and not (len(children) >= 3 and journal.read_bytes().count(b"\n") > parts_done):
        children = killed.children_of(process.pid)
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert len(children) >= 3
    assert killed.ended(children)


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
