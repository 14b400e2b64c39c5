"""The worker of jobs: leases, lost workers, cancelling, stopping."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from app.errors import JobNotFound, ScoringCancelled
from app.jobs import service
from app.jobs import worker as worker_module
from app.jobs.job import Scored, ScoringJob
from app.jobs.job_record import CANCELLED, DONE, FAILED, QUEUED, RUNNING, JobRecord
from app.jobs.job_run import MOST_TAKES, WORK
from app.jobs.progress import Progress
from app.jobs.service import Jobs, Order
from app.jobs.worker import JobWorker
from app.settings import Settings
from tests.jobs.stage import penguins, settings, work

ENDS_WITHIN_S = 20.0


@pytest.fixture
def at(tmp_path: Path) -> Settings:
    return settings(tmp_path, jobs_lease_s=2)


@pytest.fixture
def jobs(at: Settings) -> Iterator[Jobs]:
    made = Jobs(at)
    yield made
    made.close()


@pytest.fixture
def worker(at: Settings) -> Iterator[JobWorker]:
    made = JobWorker(at, processes=1)
    made._store.prepare()
    yield made
    made._queue.close()
    made._store.close()


def add(jobs: Jobs, content: bytes = b"", **changes: Any) -> JobRecord:
    def read(folder: Path) -> Order:
        if "input" not in changes:
            (folder / "input.csv").write_bytes(content or penguins(10))
        return replace(Order("penguins", None, "input.csv", "rows.csv", "", "result.csv"), **changes)

    return jobs.create(read, "")


def now(jobs: Jobs, job: JobRecord) -> JobRecord:
    return jobs.job(job.id, "")


def waits_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + ENDS_WITHIN_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return time.time()


def test_a_job_whose_worker_is_silent_is_taken_after_its_lease(
    jobs: Jobs, worker: JobWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add(jobs)
    lost = worker._store.take(job, "of a lost worker")
    assert lost is not None
    clock = Clock()
    monkeypatch.setattr(worker_module, "time", clock)
    assert not worker.look()
    clock.now_s += 1.9
    assert not worker.look()
    # A heartbeat renews the lease.
    assert worker._store.report(job.id, "of a lost worker", None, 0)
    clock.now_s += 1.9
    assert not worker.look()
    clock.now_s += 1.9
    assert not worker.look()
    clock.now_s += 0.2
    taken: list[str] = []
    monkeypatch.setattr(worker, "_run", lambda seen: taken.append(seen.id) or True)
    assert worker.look()
    assert taken == [job.id]


def test_a_jump_of_the_wall_clock_takes_no_job_early(
    jobs: Jobs, worker: JobWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker._store.take(add(jobs), "of a living worker")
    assert not worker.look()
    real = time.time
    for jump_s in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: real() + jump_s)
        assert not worker.look()


def test_a_job_in_a_folder_that_another_process_writes_is_left_alone(jobs: Jobs, worker: JobWorker) -> None:
    job = add(jobs)
    with jobs.folders.locked(job.id):
        assert not worker.look()
    assert now(jobs, job).state == QUEUED
    assert worker.look()
    assert now(jobs, job).state == DONE


class SlowRun:
    """A fake run of a job: it continues until it is cancelled, or is told to end."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ends = threading.Event()

    def run(self, job: ScoringJob, on_progress: Callable[[Progress], None], is_cancelled: Callable[[], bool]) -> Scored:
        self.began.set()
        on_progress(Progress(1, 4, 1000, 1, 0.25, 1.0))
        Path(job.output).write_text("half")
        until_s = time.monotonic() + ENDS_WITHIN_S
        while not self.ends.is_set():
            if is_cancelled():
                raise ScoringCancelled
            assert time.monotonic() < until_s
            time.sleep(0.01)
        return Scored("penguins", 1, 1000, 1, job.output, "", 1.0)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowRun:
    made = SlowRun()

    def run(*arguments: Any) -> Scored:
        return made.run(*arguments)

    monkeypatch.setattr(ScoringJob, "run", run)
    return made


def in_thread(worker: JobWorker) -> threading.Thread:
    thread = threading.Thread(target=worker.look)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_running_job_that_is_cancelled_stops_and_leaves_nothing(jobs: Jobs, worker: JobWorker, slow: SlowRun) -> None:
    job = add(jobs)
    thread = in_thread(worker)
    waits_for(lambda: now(jobs, job).rows == 1000)
    told = now(jobs, job)
    assert (told.state, told.parts, told.rejected, told.fraction) == (RUNNING, 4, 1, 0.25)
    cancelled = jobs.delete(job.id, "")
    assert cancelled is not None
    assert cancelled.state == CANCELLED
    thread.join(ENDS_WITHIN_S)
    assert not thread.is_alive()
    assert now(jobs, job).state == CANCELLED
    assert jobs.folders.ids() == []


@pytest.mark.slow
def test_a_job_that_is_deleted_while_it_is_stopped_leaves_nothing(jobs: Jobs, worker: JobWorker, slow: SlowRun) -> None:
    job = add(jobs)
    thread = in_thread(worker)
    assert slow.began.wait(ENDS_WITHIN_S)
    jobs.delete(job.id, "")
    jobs.delete(job.id, "")
    thread.join(ENDS_WITHIN_S)
    with pytest.raises(JobNotFound):
        now(jobs, job)
    assert jobs.folders.ids() == []


@pytest.mark.slow
def test_a_worker_that_is_stopped_gives_its_job_back(jobs: Jobs, worker: JobWorker, slow: SlowRun) -> None:
    job = add(jobs)
    thread = in_thread(worker)
    assert slow.began.wait(ENDS_WITHIN_S)
    worker.stop()
    thread.join(ENDS_WITHIN_S)
    told = now(jobs, job)
    assert (told.state, told.lease, told.takes, told.rows) == (QUEUED, None, 0, 1000)


@pytest.mark.slow
def test_a_job_that_uses_up_the_room_fails(jobs: Jobs, at: Settings, slow: SlowRun) -> None:
    job = add(jobs)
    small = JobWorker(replace(at, jobs_bytes=10), processes=1)
    thread = in_thread(small)
    thread.join(ENDS_WITHIN_S)
    small._queue.close()
    small._store.close()
    told = now(jobs, job)
    assert (told.state, told.error) == (FAILED, "there was no room: the files of all jobs may take 10 bytes")


def test_a_job_that_ends_its_workers_fails_at_last(jobs: Jobs, worker: JobWorker) -> None:
    job = add(jobs)
    for _ in range(MOST_TAKES):
        assert worker._store.take(now(jobs, job), "of a lost worker") is not None
    assert worker._run(now(jobs, job))
    told = now(jobs, job)
    assert told.state == FAILED
    assert told.error == f"its worker ended {MOST_TAKES} times at its beginning: perhaps it lacks memory"


def test_an_error_names_the_file_as_the_client_does(jobs: Jobs, worker: JobWorker) -> None:
    job = add(jobs, penguins(10) + b'"11,Dream\n')
    assert worker.look()
    told = now(jobs, job)
    assert told.state == FAILED
    assert (told.error or "").startswith("rows.csv: the quote on line 12 is never closed")


def test_an_internal_error_fails_the_job_and_is_hidden(
    jobs: Jobs, worker: JobWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Scored:
        raise RuntimeError("secret")

    monkeypatch.setattr(ScoringJob, "run", fail)
    job = add(jobs)
    assert worker.look()
    told = now(jobs, job)
    assert told.state == FAILED
    assert "secret" not in (told.error or "")
    assert "secret" in caplog.text


def test_a_run_that_cannot_be_resumed_begins_again(
    jobs: Jobs, worker: JobWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add(jobs)
    old = jobs.folders.of(job.id) / WORK
    old.mkdir()
    (old / "journal.ndjson").write_text('{"input": []}\n')
    assert worker.look()
    assert now(jobs, job).state == DONE


class Birds(BaseHTTPRequestHandler):
    """Serve a table of penguins."""

    def do_GET(self) -> None:
        content = penguins(20)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.mark.slow
def test_an_allowed_file_of_a_web_server_is_scored(at: Settings) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Birds) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        root = f"http://127.0.0.1:{server.server_address[1]}"
        allowed = replace(at, jobs_urls=(f"{root}/birds/",))
        jobs = Jobs(allowed)
        job = add(jobs, input=f"{root}/birds/all.csv?day=1", output="result.ndjson")
        work(allowed)
        told = now(jobs, job)
        assert (told.state, told.rows, told.error) == (DONE, 20, None)
        assert len(jobs.result(told).read_bytes().splitlines()) == 20
        assert [path.name for path in jobs.folders.of(job.id).iterdir()] == ["result.ndjson"]
        jobs.close()
        server.shutdown()
        thread.join()


def test_an_input_url_that_is_not_allowed_any_more_is_not_read(at: Settings, jobs: Jobs, worker: JobWorker) -> None:
    job = add(jobs, input="https://data.example.org/rows.csv")
    assert worker.look()
    assert now(jobs, job).error == "https://data.example.org/rows.csv: jobs may not use this URL"


@pytest.mark.slow
def test_a_message_wakes_the_worker_and_it_stops(at: Settings, jobs: Jobs) -> None:
    worker = JobWorker(at, processes=1)
    thread = threading.Thread(target=worker.work)
    thread.start()
    try:
        waits_for(jobs.folders.has_worker)
        job = add(jobs)
        waits_for(lambda: now(jobs, job).state == DONE)
    finally:
        worker.stop()
        thread.join(ENDS_WITHIN_S)
    assert not jobs.folders.has_worker()


def test_a_redis_that_does_not_answer_delays_jobs_and_loses_none(
    at: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "LOOK_EVERY_S", 0.0)
    lost = replace(at, redis_url="redis://127.0.0.1:1")
    jobs, worker = Jobs(lost), JobWorker(lost, processes=1)
    worker._store.prepare()
    job = add(jobs)
    assert not worker._work_once()
    assert worker.look()
    assert now(jobs, job).state == DONE
    assert caplog.text.count("the queue of jobs does not answer") == 2
    worker._queue.close()
    worker._store.close()
    jobs.close()


def test_the_command_works_until_it_is_told_to_stop(at: Settings, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    job = add(jobs)

    def clean(worker: JobWorker) -> None:  # called after the first check
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(JobWorker, "clean", clean)
    before = signal.getsignal(signal.SIGTERM)
    ran = create_app(at).test_cli_runner().invoke(args=["jobs", "work", "--processes", "1"])
    assert (ran.exit_code, ran.output) == (0, "")
    assert signal.getsignal(signal.SIGTERM) is before
    assert now(jobs, job).state == DONE


def test_the_command_says_what_to_install(at: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "find_spec", lambda name: None)
    ran = create_app(at).test_cli_runner().invoke(args=["jobs", "work"])
    assert ran.exit_code == 1
    assert "pip install huey sqlalchemy alembic" in ran.output
