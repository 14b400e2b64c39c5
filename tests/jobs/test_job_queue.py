"""The queue of jobs: in an SQLite file, and in Redis if it is installed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.jobs import job_queue
from app.jobs.job_queue import FILE_NAME, JobQueue
from tests.gateway.redis_server import redis_in


@contextlib.contextmanager
def queues(redis_url: str, folder: Path) -> Iterator[tuple[JobQueue, JobQueue, list[str]]]:
    """Yield the queue of a server, the queue of a worker, and the list of jobs that the worker ran."""
    ran: list[str] = []
    server, worker = JobQueue(redis_url, folder, "db"), JobQueue(redis_url, folder, "db", ran.append)
    try:
        yield server, worker, ran
    finally:
        server.close()
        worker.close()


def check_messages(redis_url: str, folder: Path) -> None:
    with queues(redis_url, folder) as (server, worker, ran):
        server.put("a")
        server.put("b")
        assert worker.work()
        assert worker.work()
        assert not worker.work()
        assert ran == ["a", "b"]


def test_a_worker_gets_what_the_server_puts(tmp_path: Path) -> None:
    check_messages("", tmp_path)


def test_messages_are_no_pickles(tmp_path: Path) -> None:
    with queues("", tmp_path) as (server, _, _):
        server.put("abc")
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        ((content,),) = connection.execute("select data from task").fetchall()
    assert content.startswith(b"[")
    assert b'"abc"' in content


def test_without_the_library_of_redis_the_queue_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(job_queue, "find_spec", lambda name: None)
    with queues("redis://127.0.0.1:1", tmp_path) as (server, worker, ran):
        server.put("a")
        assert worker.work()
    assert ran == ["a"]
    assert "pip install redis" in caplog.text


@pytest.mark.slow
@pytest.mark.needs_program("redis-server")
def test_a_worker_gets_a_job_through_redis(tmp_path: Path) -> None:
    with redis_in(tmp_path) as redis:
        check_messages(redis.url, tmp_path)
    assert not (tmp_path / FILE_NAME).exists()


def test_a_missing_library_for_redis_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(job_queue, "find_spec", lambda name: None)
    JobQueue("redis://127.0.0.1:1/0", tmp_path, "db").close()
    assert caplog.messages == ["the queue of jobs is a file, because REDIS_URL needs a library: pip install redis"]
