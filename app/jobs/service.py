"""Jobs as the server offers them: made, looked up, cancelled. The work itself is done by `app.jobs.worker`."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from app.errors import (
    DatabaseUnavailable,
    JobFileMissing,
    JobsNotInstalled,
    JobsUnavailable,
    JobUnfinished,
    ModelNotPermitted,
)
from app.jobs.job_folders import JobFolders
from app.jobs.job_record import DONE, QUEUED, JobRecord, new_id
from app.jobs.locations import is_url
from app.settings import Settings
from app.storage import keys

if TYPE_CHECKING:
    from app.jobs.job_queue import JobQueue
    from app.jobs.job_store import JobStore

log = logging.getLogger(__name__)
T = TypeVar("T")

LIBRARIES = ("huey", "sqlalchemy", "alembic")
REJECTS = "rejects.ndjson"
NO_WORKER = (
    "no worker of jobs runs on this server: its operator starts one with `flask jobs work`, the worker line of the"
    " Procfile"
)
NO_FILES = "the file of the job cannot be stored now; the server's log says why"
NO_DATABASE = "the database of the jobs does not answer"


def missing_library() -> str:
    """Return a library that jobs need and that is not installed; empty if all are there."""
    return next((name for name in LIBRARIES if find_spec(name) is None), "")


def open_store(settings: Settings) -> JobStore:
    """Return the jobs in the database of the settings.

    Raises:
        JobsNotInstalled: A library is missing.
        DatabaseUnavailable: The URL cannot be used.
    """
    if missing := missing_library():
        raise JobsNotInstalled(missing)
    from app.jobs.job_store import JobStore
    from app.storage.database import own_url

    return JobStore(own_url(settings.database_url, settings.instance_dir.absolute() / keys.FILE_NAME))


def database_name(settings: Settings) -> str:
    """Return what tells the database of this installation from others."""
    return settings.database_url or str(settings.instance_dir.absolute())


@dataclass(frozen=True, slots=True)
class Order:
    """A client's request for a job.

    Attributes:
        model: The name of the model; empty for the default one.
        version: A number or an alias; None for the version that answers.
        input: The name of the file that was stored in the job's folder, or a URL.
        input_name: The name that the client gave the file, or the URL.
        input_digest: The hash of the stored file; empty for a URL.
        output: The name of the result, or a URL.
        keep: The columns of the input that are written too.
        max_rejects: The most rows that may be rejected; None for any number.
        rows: The rows that are charged at once, those of an uploaded text; 0 if they are not known yet.
    """

    model: str
    version: str | None
    input: str
    input_name: str
    input_digest: str
    output: str
    keep: Sequence[str] = ()
    max_rejects: int | None = None
    rows: int = 0

    @property
    def digest(self) -> str:
        """A hash of everything that is asked for."""
        facts = (self.model, self.version, self.input, self.input_digest, self.output, self.keep, self.max_rejects)
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


class Jobs:
    """The jobs of one process. Nothing is opened before it is used; safe to call from many threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folders = JobFolders(settings.jobs_folder)
        self._opening = threading.Lock()
        self._store: JobStore | None = None
        self._queue: JobQueue | None = None

    def require_worker(self) -> None:
        """Check that a job can be taken.

        Raises:
            JobsNotInstalled: A library is missing.
            JobsUnavailable: No worker runs, or the folder of jobs cannot be read.
        """
        if missing := missing_library():
            raise JobsNotInstalled(missing)
        if reason := self.why_waiting():
            raise JobsUnavailable(reason)

    def why_waiting(self) -> str:
        """Return why no job is done now; empty if a worker runs."""
        try:
            return "" if self.folders.has_worker() else NO_WORKER
        except OSError as error:
            log.error("whether a worker of jobs runs cannot be told: %s", error)
            return NO_FILES

    def create(
        self,
        read: Callable[[Path], Order],
        owner: str,
        idempotency_key: str | None = None,
        permitted: frozenset[str] | None = None,
    ) -> JobRecord:
        """Store a new job and name it to the workers; or return the job that the same request has made before.

        Args:
            read: Stores the input in the folder that it gets, and returns the order.
            owner: The caller.
            idempotency_key: The value of `Idempotency-Key`.
            permitted: The models that the caller may use; None for all.

        Raises:
            ModelNotFound, VersionNotFound: There is no such model or version.
            ModelNotPermitted: The caller may not use the model.
            InvalidInstances: The file lacks columns.
            ScoringRefused: The model cannot be used in bulk, or the file cannot be read.
            IdempotencyKeyReused, TooManyJobs, JobsFull, JobsUnavailable: The job is not taken.
        """
        job_id = new_id()
        try:
            folder = self.folders.make(job_id)
            with self.folders.locked(job_id):  # workers and their cleaning leave it alone
                order = read(folder)
                made = self._add(job_id, order, owner, idempotency_key, permitted)
                if made.id != job_id:
                    self.folders.remove(job_id)
        except OSError as error:
            self.folders.remove(job_id)
            log.error("a job cannot be stored: %s", error)
            raise JobsUnavailable(NO_FILES) from None
        except BaseException:
            self.folders.remove(job_id)
            raise
        if made.id == job_id:
            self._wake(job_id)
        return made

    def _add(
        self, job_id: str, order: Order, owner: str, idempotency_key: str | None, permitted: frozenset[str] | None
    ) -> JobRecord:
        from app.jobs.order_check import check_columns  # with what reads files
        from app.jobs.versions import choose  # with what loads models

        files, manifest = choose(self.settings, order.model, order.version)
        if permitted is not None and files.model not in permitted:
            raise ModelNotPermitted(files.model, permitted)
        stored = None if is_url(order.input) else self.folders.of(job_id) / order.input
        check_columns(stored, order.input_name, order.keep, manifest)
        job = JobRecord(
            job_id,
            owner,
            QUEUED,
            files.model,
            files.version,
            order.input,
            order.input_name,
            order.output,
            tuple(order.keep),
            order.max_rejects,
            order.digest,
            int(time.time()),
            idempotency_key,
            self.folders.size_bytes(job_id),
            charged_rows=order.rows,
        )
        limits = self.settings.jobs_open, self.settings.jobs_bytes
        return self._looked_up(lambda store: store.add(job, *limits))

    def job(self, job_id: str, owner: str) -> JobRecord:
        """Return a job of a caller.

        Raises:
            JobNotFound: The caller has none with this id.
        """
        return self._looked_up(lambda store: store.job(job_id, owner))

    def charge(self, job: JobRecord) -> int:
        """Return the rows to charge to the caller: those that workers have scored since the last time.

        They are those of all jobs of a key. Without keys a job belongs to everybody, and the caller pays for it alone.
        """
        return self._looked_up(lambda store: store.charge(job.owner, None if job.owner else job.id))

    def of_owner(self, owner: str, most: int) -> list[JobRecord]:
        """Return the newest jobs of a caller."""
        return self._looked_up(lambda store: store.of_owner(owner, most))

    def delete(self, job_id: str, owner: str) -> JobRecord | None:
        """Cancel a job that waits or runs, and return it; remove one that has ended, and return None."""
        job = self.job(job_id, owner)
        if job.is_open and self._looked_up(lambda store: store.cancel(job_id)):
            with self.folders.locked(job_id) as is_mine:
                if is_mine:  # else the worker that runs it removes its files
                    self._forget(job_id)
            return self.job(job_id, owner)
        with self.folders.locked(job_id):
            self._looked_up(lambda store: store.remove(job_id))
            self.folders.remove(job_id)
        return None

    def _forget(self, job_id: str) -> None:
        self.folders.remove(job_id)
        self._looked_up(lambda store: store.forget_files(job_id))

    def result(self, job: JobRecord) -> Path:
        """Return the file with the result of a job.

        Raises:
            JobUnfinished: It is not there yet.
            JobFileMissing: It will not be there.
        """
        if job.is_open:
            raise JobUnfinished(job.id, job.state)
        if job.state != DONE:
            raise JobFileMissing(f"the job was {job.state}, so that there is no result; GET /jobs/{job.id} says why")
        if is_url(job.output):
            raise JobFileMissing(f"the result of the job was written to {job.output}")
        return self._there(self.folders.of(job.id) / job.output)

    def rejects(self, job: JobRecord) -> Path:
        """Return the file with the rejected rows of a job. Raises the errors of `result`."""
        if job.is_open:
            raise JobUnfinished(job.id, job.state)
        if is_url(job.output) and job.state == DONE and job.rejected:
            raise JobFileMissing(f"the rejects of the job were written beside {job.output}")
        return self._there(self.folders.of(job.id) / REJECTS)

    def _there(self, path: Path) -> Path:
        if not path.is_file():
            rejects = "no row of the job was rejected, so that there are no rejects"
            raise JobFileMissing(rejects if path.name == REJECTS else "the result of the job is not on this server")
        return path

    def _looked_up(self, ask: Callable[[JobStore], T]) -> T:
        """Ask the database.

        Raises:
            JobsUnavailable: It does not answer.
        """
        try:
            with self._opening:
                store = self._store = self._store or open_store(self.settings)
            return ask(store)
        except DatabaseUnavailable as error:
            log.error("jobs cannot be looked up: %s", error.detail)
            raise JobsUnavailable(NO_DATABASE) from None

    def _wake(self, job_id: str) -> None:
        """Name a job to the workers. One that hears nothing finds the job in the database a little later."""
        try:
            self._required_queue().put(job_id)
        except Exception as error:  # noqa: BLE001 - of huey, of Redis, or of SQLite
            log.warning("the queue of jobs does not answer (%s); workers find new jobs a little later", error)

    def _required_queue(self) -> JobQueue:
        from app.jobs.job_queue import JobQueue

        with self._opening:
            if self._queue is None:
                name = database_name(self.settings)
                self._queue = JobQueue(self.settings.redis_url, self.folders.root, name)
            return self._queue

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            if self._store is not None:
                self._store.close()
            if self._queue is not None:
                self._queue.close()
