"""Jobs in a database: SQLite here, PostgreSQL if it is installed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import IdempotencyKeyReused, JobNotFound, JobsFull, TooManyJobs
from app.jobs.job_record import CANCELLED, DONE, QUEUED, RUNNING, JobRecord, new_id
from app.jobs.job_store import JobStore
from app.jobs.progress import Progress
from app.storage.database import VERSION_TABLE, blocking_url
from tests.storage.postgresql import postgresql

LIMITS = 3, 1000


def job(**changes: object) -> JobRecord:
    made = JobRecord(new_id(), "me", QUEUED, "iris", 1, "input.csv", "rows.csv", "result.csv", ("id",), None, "d", 100)
    return replace(made, **changes)  # type: ignore[arg-type]


@contextlib.contextmanager
def opened(url: str) -> Iterator[JobStore]:
    store = JobStore(blocking_url(url))
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with opened(f"sqlite:///{tmp_path}/instance/retort.db") as made:
        yield made


def check_all(store: JobStore) -> None:
    """Add, take, report, give back, end, cancel and remove jobs."""
    assert (store.of_owner("me", 10), store.open_jobs(), store.stored_bytes()) == ([], [], 0)
    first, second = job(stored_bytes=400, idempotency_key="k"), job(created_at=101, max_rejects=7)
    assert store.add(first, *LIMITS) == first
    assert store.add(second, *LIMITS) == second
    assert store.open_jobs() == [first, second]
    assert store.of_owner("me", 1) == [second]
    assert store.job(first.id, "me") == first
    with pytest.raises(JobNotFound):
        store.job(first.id, "you")

    # The same request, another one, and the limits.
    assert store.add(job(idempotency_key="k"), *LIMITS) == first
    with pytest.raises(IdempotencyKeyReused, match=first.id):
        store.add(job(idempotency_key="k", digest="other"), *LIMITS)
    with pytest.raises(TooManyJobs):
        store.add(job(), 2, 1000)
    with pytest.raises(JobsFull):
        store.add(job(stored_bytes=601), *LIMITS)
    assert store.add(job(owner="you", idempotency_key="k", digest="other"), *LIMITS).owner == "you"

    # One worker works on a job.
    taken = store.take(first, "lease")
    assert taken is not None
    assert (taken.state, taken.lease, taken.takes) == (RUNNING, "lease", 1)
    assert store.take(first, "late") is None
    progress = Progress(1, 4, 1000, 2, 0.25, 2.0)
    assert store.report(first.id, "lease", progress, 500)
    assert not store.report(first.id, "late", progress, 500)
    told = store.job(first.id)
    assert (told.rows, told.rejected, told.parts, told.rows_per_s, told.takes) == (1000, 2, 4, 500.0, 0)
    assert told.beat > taken.beat
    assert told.left_s == pytest.approx(6.0)

    # Its rows are charged once, alone or with the owner's other jobs.
    assert (store.charge("you"), store.charge("me", second.id)) == (0, 0)
    assert [store.charge("me") for _ in range(2)] == [1000, 0]
    assert store.report(first.id, "lease", replace(progress, rows=1500), 500)
    assert [store.charge("me", first.id) for _ in range(2)] == [500, 0]
    assert store.job(first.id).charged_rows == 1500
    told = store.job(first.id)

    # Another worker takes the job over, as it was last seen; the first has lost it.
    assert store.take(told, "new") is not None
    assert not store.report(first.id, "lease", progress, 500)
    assert not store.end(first.id, "lease", DONE)
    assert store.give_back(first.id, "new")
    assert store.job(first.id).state == QUEUED
    again = store.take(store.job(first.id), "newest")
    assert again is not None
    assert store.end(first.id, "newest", DONE, fraction=1.0)
    assert store.job(first.id).ended_at == pytest.approx(time.time(), abs=60)
    assert not store.cancel(first.id)

    assert store.cancel(second.id)
    assert store.job(second.id).state == CANCELLED
    assert {each.id for each in store.ended_before(2**40)} == {first.id, second.id}
    store.forget_files(first.id)
    assert store.stored_bytes() == 0
    store.remove(first.id)
    with pytest.raises(JobNotFound):
        store.job(first.id)


def test_jobs_are_stored_taken_and_ended(store: JobStore) -> None:
    check_all(store)


def test_two_equal_requests_at_once_make_one_job(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.add(job(idempotency_key="k"), *LIMITS)
    look, looked = store._earlier_job, []

    def earlier(asked: JobRecord) -> JobRecord | None:
        looked.append(asked)
        return look(asked) if len(looked) > 1 else None  # the other request comes after the first look-up

    monkeypatch.setattr(store, "_earlier_job", earlier)
    assert store.add(job(idempotency_key="k"), *LIMITS) == first
    assert len(looked) == 2


def test_looking_makes_no_file(store: JobStore, tmp_path: Path) -> None:
    assert store.of_owner("me", 10) == []
    assert not list(tmp_path.iterdir())


def test_a_table_of_an_earlier_release_is_brought_up_to_date_by_looking(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/retort.db"
    with opened(url) as store:
        made = store.add(job(), *LIMITS)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("alter table retort_jobs drop column charged_rows")
            connection.exec_driver_sql(f"update {VERSION_TABLE} set version_num = '0002'")
    with opened(url) as store:
        assert store.job(made.id) == made


def test_an_open_job_is_not_removed(store: JobStore) -> None:
    waiting = store.add(job(), *LIMITS)
    store.remove(waiting.id)
    assert store.job(waiting.id) == waiting


@pytest.mark.slow
@pytest.mark.needs_program("pg_ctlcluster")
def test_jobs_are_stored_in_postgresql_too() -> None:
    with postgresql() as url, opened(url) as store:
        check_all(store)
