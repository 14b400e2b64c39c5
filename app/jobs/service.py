"""Jobs of the server: create, look up, cancel. `app.jobs.worker` runs them."""

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
    """Return the name of a library that jobs need and that is not installed; empty if all are installed."""
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
    """Return a name for the jobs' database that differs between installations."""
    return settings.database_url or str(settings.instance_dir.absolute())


@dataclass(frozen=True, slots=True)
class Order:
    """A client's request for a job.

    Attributes:
        model: The name of the model; empty for the default one.
        version: A number or an alias; None for the version that serves requests.
        input: The name of the stored file in the job's folder, or a URL.
        input_name: The name that the client gave the file, or the URL.
        input_digest: The hash of the stored file; empty for a URL.
        output: The name of the result, or a URL.
        keep: The columns of the input that are also written to the output.
        max_rejects: The most rows that may be rejected; None for any number.
        rows: The rows of an uploaded text, which are charged at once; 0 if the number is unknown.
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
        """A hash of the whole order."""
        facts = (self.model, self.version, self.input, self.input_digest, self.output, self.keep, self.max_rejects)
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


class Jobs:
    """The jobs for one server process. Connections open on first use. Safe to call from many threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folders = JobFolders(settings.jobs_folder)
        self._opening = threading.Lock()
        self._store: JobStore | None = None
        self._queue: JobQueue | None = None

    def require_worker(self) -> None:
        """Check that a worker runs.

        Raises:
            JobsNotInstalled: A library is missing.
            JobsUnavailable: No worker runs, or the folder of jobs cannot be read.
        """
        if missing := missing_library():
            raise JobsNotInstalled(missing)
        if reason := self.why_waiting():
            raise JobsUnavailable(reason)

    def why_waiting(self) -> str:
        """Return the reason why no worker runs jobs; empty if one does."""
        try:
            return "" if self.folders.has_worker() else NO_WORKER
        except OSError as error:
            log.error("cannot check whether a worker of jobs runs: %s", error)
            return NO_FILES

    def create(
        self,
        read: Callable[[Path], Order],
        owner: str,
        idempotency_key: str | None = None,
        permitted: frozenset[str] | None = None,
    ) -> JobRecord:
        """Store a new job and notify the workers. Return the earlier job if the same request was sent before.

        Args:
            read: Stores the input in the given folder, and returns the order.
            owner: The id of the caller.
            idempotency_key: The value of `Idempotency-Key`.
            permitted: The models that the caller may use; None for all.

        Raises:
            ModelNotFound, VersionNotFound: The model or the version does not exist.
            ModelNotPermitted: The caller may not use the model.
            InvalidInstances: The file lacks columns.
            ScoringRefused: The model cannot be used in bulk, or the file cannot be read.
            IdempotencyKeyReused, TooManyJobs, JobsFull, JobsUnavailable: The job was not accepted.
        """
        job_id = new_id()
        try:
            folder = self.folders.make(job_id)
            with self.folders.locked(job_id):  # so that workers neither run nor remove it
                order = read(folder)
                job = self._add(job_id, order, owner, idempotency_key, permitted)
                if job.id != job_id:
                    self.folders.remove(job_id)
        except OSError as error:
            self.folders.remove(job_id)
            log.error("a job cannot be stored: %s", error)
            raise JobsUnavailable(NO_FILES) from None
        except BaseException:
            self.folders.remove(job_id)
            raise
        if job.id == job_id:
            self._notify_workers(job_id)
        return job

    def _add(
        self, job_id: str, order: Order, owner: str, idempotency_key: str | None, permitted: frozenset[str] | None
    ) -> JobRecord:
        from app.jobs.order_check import check_columns  # imports the readers of files
        from app.jobs.versions import choose  # imports the loaders of models

        files, manifest = choose(self.settings, order.model, order.version)
        if permitted is not None and files.model not in permitted:
            raise ModelNotPermitted(files.model, permitted)
        path = None if is_url(order.input) else self.folders.of(job_id) / order.input
        check_columns(path, order.input_name, order.keep, manifest)
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
        return self._query(lambda store: store.add(job, *limits))

    def job(self, job_id: str, owner: str) -> JobRecord:
        """Return a job of a caller.

        Raises:
            JobNotFound: The caller has no job with this id.
        """
        return self._query(lambda store: store.job(job_id, owner))

    def charge(self, job: JobRecord) -> int:
        """Return the number of rows to charge to the caller: the rows that workers scored since the last charge.

        With API keys, all jobs of the key count. Without keys, only this job counts.
        """
        return self._query(lambda store: store.charge(job.owner, None if job.owner else job.id))

    def of_owner(self, owner: str, most: int) -> list[JobRecord]:
        """Return the newest `most` jobs of a caller."""
        return self._query(lambda store: store.of_owner(owner, most))

    def delete(self, job_id: str, owner: str) -> JobRecord | None:
        """Cancel an open job and return it. Remove a job that has ended and return None."""
        job = self.job(job_id, owner)
        if job.is_open and self._query(lambda store: store.cancel(job_id)):
            with self.folders.locked(job_id) as is_mine:
                if is_mine:  # otherwise the worker that runs the job removes its files
                    self._remove_files(job_id)
            return self.job(job_id, owner)
        with self.folders.locked(job_id):
            self._query(lambda store: store.remove(job_id))
            self.folders.remove(job_id)
        return None

    def _remove_files(self, job_id: str) -> None:
        self.folders.remove(job_id)
        self._query(lambda store: store.forget_files(job_id))

    def result(self, job: JobRecord) -> Path:
        """Return the file with the result of a job.

        Raises:
            JobUnfinished: The job has not ended.
            JobFileMissing: The job has no result, or the result is not on this server.
        """
        if job.is_open:
            raise JobUnfinished(job.id, job.state)
        if job.state != DONE:
            raise JobFileMissing(f"the job was {job.state}, so that there is no result; GET /jobs/{job.id} says why")
        if is_url(job.output):
            raise JobFileMissing(f"the result of the job was written to {job.output}")
        return self._existing_file(self.folders.of(job.id) / job.output)

    def rejects(self, job: JobRecord) -> Path:
        """Return the file with the rejected rows of a job. Raise the same errors as `result`."""
        if job.is_open:
            raise JobUnfinished(job.id, job.state)
        if is_url(job.output) and job.state == DONE and job.rejected:
            raise JobFileMissing(f"the rejects of the job were written beside {job.output}")
        return self._existing_file(self.folders.of(job.id) / REJECTS)

    def _existing_file(self, path: Path) -> Path:
        if not path.is_file():
            rejects = "no row of the job was rejected, so that there are no rejects"
            raise JobFileMissing(rejects if path.name == REJECTS else "the result of the job is not on this server")
        return path

    def _query(self, ask: Callable[[JobStore], T]) -> T:
        """Call a function with the store.

        Raises:
            JobsUnavailable: The database does not answer.
        """
        try:
            with self._opening:
                store = self._store = self._store or open_store(self.settings)
            return ask(store)
        except DatabaseUnavailable as error:
            log.error("jobs cannot be looked up: %s", error.detail)
            raise JobsUnavailable(NO_DATABASE) from None

    def _notify_workers(self, job_id: str) -> None:
        """Notify the workers of a job. If that fails, they find the job in the database a few seconds later."""
        try:
            self._open_queue().put(job_id)
        except Exception as error:  # noqa: BLE001 - from huey, Redis or SQLite
            log.warning("the queue of jobs does not answer (%s); workers find new jobs a little later", error)

    def _open_queue(self) -> JobQueue:
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
