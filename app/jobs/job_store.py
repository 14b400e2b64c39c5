"""The jobs in one database. Importing this module needs the extra `database`.

A worker takes a job with a lease, a random text, and increases the job's `beat` while it works. If the beat stays the
same for too long, measured by another worker's monotonic clock, that worker may take the job. So the clocks of hosts
need not be correct.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    exc,
    func,
    inspect,
    select,
)

from app.errors import IdempotencyKeyReused, JobNotFound, JobsFull, TooManyJobs
from app.jobs.job_record import CANCELLED, OPEN, QUEUED, RUNNING, JobRecord
from app.jobs.progress import Progress
from app.storage.database import LOCK_TIMEOUT_MS, TABLES, database_errors, make_engine, migrate, sqlite_file

JOBS = Table(
    "retort_jobs",
    TABLES,
    Column("id", String(32), primary_key=True),
    Column("owner", String(500), nullable=False),
    Column("state", String(16), nullable=False),
    Column("model", String(200), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("input", Text, nullable=False),
    Column("input_name", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("keep", Text, nullable=False),
    Column("max_rejects", BigInteger),
    Column("idempotency_key", String(255)),
    Column("digest", String(64), nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("lease", String(64)),
    Column("beat", BigInteger, nullable=False),
    Column("takes", Integer, nullable=False),
    Column("parts_done", BigInteger, nullable=False),
    Column("parts", BigInteger),
    Column("rows", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("fraction", Double, nullable=False),
    Column("rows_per_s", Double, nullable=False),
    Column("left_s", Double),
    Column("error", Text),
    Column("charged_rows", BigInteger, nullable=False),
    UniqueConstraint("owner", "idempotency_key", name="retort_jobs_idempotency"),
    Index("retort_jobs_by_state", "state"),
)
"""`keep` is a JSON list. The other columns are the fields of `JobRecord`."""
ADD_LOCK = 7_264_173_002
"""The number of the advisory lock in PostgreSQL. One process at a time adds a job, so that limits hold."""


class JobStore:
    """The jobs in one database. The first use opens the connection. Safe to call from many threads.

    All methods raise `DatabaseUnavailable` if the database does not answer.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._file = sqlite_file(url)
        self._engine = make_engine(url)
        self._is_ready = False

    def prepare(self) -> None:
        """Create the table, or migrate it to the current schema."""
        if not self._is_ready:
            with database_errors(self._url):
                migrate(self._engine)
            self._is_ready = True

    def add(self, job: JobRecord, most_open: int, most_bytes: int) -> JobRecord:
        """Store a new job and return it. If an earlier request used its idempotency key, return the earlier job.

        Raises:
            IdempotencyKeyReused: The earlier request was different.
            TooManyJobs, JobsFull: The owner has too many open jobs, or the files exceed the limit of all jobs.
        """
        self.prepare()
        if (earlier := self._earlier_job(job)) is not None:
            return earlier
        try:
            with database_errors(self._url), self._engine.connect() as connection:
                _take_add_lock(connection)
                is_open_of_owner = and_(JOBS.c.owner == job.owner, JOBS.c.state.in_(OPEN))
                if connection.execute(select(func.count()).where(is_open_of_owner)).scalar_one() >= most_open:
                    raise TooManyJobs(most_open)
                if _stored_bytes(connection) + job.stored_bytes > most_bytes:
                    raise JobsFull(most_bytes)
                try:
                    connection.execute(JOBS.insert().values(_row(job)))
                    connection.commit()
                except exc.IntegrityError:  # another request with this key was faster
                    connection.rollback()
                    raise _KeyTaken from None
        except _KeyTaken:
            earlier = self._earlier_job(job)
            if earlier is None:
                raise JobNotFound(job.id) from None
            return earlier
        return job

    def _earlier_job(self, job: JobRecord) -> JobRecord | None:
        if job.idempotency_key is None:
            return None
        is_same = and_(JOBS.c.owner == job.owner, JOBS.c.idempotency_key == job.idempotency_key)
        job_with_key = next(iter(self._select(select(JOBS).where(is_same))), None)
        if job_with_key is not None and job_with_key.digest != job.digest:
            raise IdempotencyKeyReused(job_with_key.id)
        return job_with_key

    def job(self, job_id: str, owner: str | None = None) -> JobRecord:
        """Return a job. If `owner` is not None, the job must belong to that owner.

        Raises:
            JobNotFound: There is no such job.
        """
        query = select(JOBS).where(JOBS.c.id == job_id)
        jobs = self._select(query if owner is None else query.where(JOBS.c.owner == owner))
        if not jobs:
            raise JobNotFound(job_id)
        return jobs[0]

    def of_owner(self, owner: str, most: int) -> list[JobRecord]:
        """Return the newest `most` jobs of an owner."""
        query = select(JOBS).where(JOBS.c.owner == owner)
        return self._select(query.order_by(JOBS.c.created_at.desc(), JOBS.c.id).limit(most))

    def open_jobs(self) -> list[JobRecord]:
        """Return the jobs that wait or run, the oldest first."""
        return self._select(select(JOBS).where(JOBS.c.state.in_(OPEN)).order_by(JOBS.c.created_at, JOBS.c.id))

    def ended_before(self, at_s: int) -> list[JobRecord]:
        """Return the jobs that ended before `at_s`, in seconds since 1970."""
        return self._select(select(JOBS).where(JOBS.c.ended_at < at_s))

    def stored_bytes(self) -> int:
        """Return the size of all files of jobs."""
        if not self._has_table():
            return 0
        with self._transaction() as connection:
            return _stored_bytes(connection)

    def take(self, job: JobRecord, lease: str) -> JobRecord | None:
        """Lease a job, and return it. Return None if another worker was faster, or the job has ended."""
        is_unchanged = and_(JOBS.c.id == job.id, JOBS.c.state == job.state, JOBS.c.beat == job.beat)
        values = {"state": RUNNING, "lease": lease, "beat": JOBS.c.beat + 1, "takes": JOBS.c.takes + 1}
        is_taken = self._update(is_unchanged, {**values, "started_at": func.coalesce(JOBS.c.started_at, _now())})
        return self.job(job.id) if is_taken else None

    def report(self, job_id: str, lease: str, progress: Progress | None, stored_bytes: int) -> bool:
        """Report that a run is alive, and its progress. Return False if the run no longer has the lease."""
        values: dict[str, Any] = {"beat": JOBS.c.beat + 1, "stored_bytes": stored_bytes}
        if progress is not None:
            values |= {
                "parts_done": progress.parts_done,
                "parts": progress.parts,
                "rows": progress.rows,
                "rejected": progress.rejected,
                "fraction": progress.fraction,
                "rows_per_s": progress.rows_per_s,
                "left_s": progress.left_s,
            }
            if progress.rows > progress.earlier_rows:
                values["takes"] = 0
        return self._update(_has_lease(job_id, lease), values)

    def give_back(self, job_id: str, lease: str) -> bool:
        """Return a job to the queue. Return False if the run does not have the lease."""
        return self._update(
            _has_lease(job_id, lease), {"state": QUEUED, "lease": None, "beat": JOBS.c.beat + 1, "takes": 0}
        )

    def end(self, job_id: str, lease: str, state: str, **values: Any) -> bool:
        """Store the final state of a job. Return False if the run does not have the lease."""
        return self._update(
            _has_lease(job_id, lease), {"state": state, "lease": None, "ended_at": _now(), "left_s": None, **values}
        )

    def cancel(self, job_id: str) -> bool:
        """Cancel a job. Return False if it has already ended."""
        is_open = and_(JOBS.c.id == job_id, JOBS.c.state.in_(OPEN))
        return self._update(is_open, {"state": CANCELLED, "lease": None, "ended_at": _now(), "left_s": None})

    def forget_files(self, job_id: str) -> None:
        """Record that the files of a job were removed."""
        self._update(JOBS.c.id == job_id, {"stored_bytes": 0})

    def charge(self, owner: str, job_id: str | None = None) -> int:
        """Return the number of an owner's scored rows that were not charged yet, and mark them as charged.

        Args:
            owner: The owner.
            job_id: The only job to count; None for all jobs of the owner.
        """
        query = select(JOBS).where(JOBS.c.owner == owner, JOBS.c.rows > JOBS.c.charged_rows)
        jobs = self._select(query if job_id is None else query.where(JOBS.c.id == job_id))
        return sum(
            job.rows - job.charged_rows
            for job in jobs
            if self._update(
                and_(JOBS.c.id == job.id, JOBS.c.charged_rows == job.charged_rows), {"charged_rows": job.rows}
            )
        )

    def remove(self, job_id: str) -> None:
        """Remove an ended job."""
        with self._transaction() as connection:
            connection.execute(JOBS.delete().where(JOBS.c.id == job_id, JOBS.c.state.not_in(OPEN)))

    def close(self) -> None:
        """Close the connection. The next use opens a new one."""
        self._engine.dispose()

    def _select(self, query: Any) -> list[JobRecord]:
        if not self._has_table():
            return []
        with self._transaction() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def _update(self, where: Any, values: Mapping[str, Any]) -> bool:
        with self._transaction() as connection:
            return connection.execute(JOBS.update().where(where).values(values)).rowcount > 0

    def _has_table(self) -> bool:
        """Return whether the table exists. A search creates neither a database nor a table."""
        if not self._is_ready and (self._file is None or self._file.exists()):
            with database_errors(self._url), self._engine.connect() as connection:
                has_table = inspect(connection).has_table(JOBS.name)
            if has_table:  # perhaps with the schema of an earlier release
                self.prepare()
        return self._is_ready

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with database_errors(self._url), self._engine.begin() as connection:
            yield connection


class _KeyTaken(Exception):
    """Another request has just stored a job with the same idempotency key."""


def _take_add_lock(connection: Connection) -> None:
    """Wait until no other process adds a job, so that counts of jobs and bytes are correct."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"set local lock_timeout = {LOCK_TIMEOUT_MS}")
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({ADD_LOCK})")
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("begin immediate")


def _stored_bytes(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.sum(JOBS.c.stored_bytes), 0))).scalar_one())


def _has_lease(job_id: str, lease: str) -> Any:
    return and_(JOBS.c.id == job_id, JOBS.c.lease == lease, JOBS.c.state == RUNNING)


def _now() -> int:
    return int(time.time())


def _job(row: Any) -> JobRecord:
    return JobRecord(**{**row, "keep": tuple(json.loads(row["keep"]))})


def _row(job: JobRecord) -> dict[str, Any]:
    values = {column.name: getattr(job, column.name) for column in JOBS.columns}
    return {**values, "keep": json.dumps(job.keep)}
