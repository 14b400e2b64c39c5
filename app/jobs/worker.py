"""The worker of jobs: take one job after the other, score it, and remove old jobs."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import suppress

from app.errors import DatabaseUnavailable, JobNotFound
from app.jobs.job_folders import JobFolders
from app.jobs.job_queue import JobQueue
from app.jobs.job_record import CANCELLED, QUEUED, JobRecord
from app.jobs.job_run import JobRun, files_of, remove_others
from app.jobs.service import database_name, open_store
from app.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""Interval between searches of the database for jobs without a message."""
CLEAN_EVERY_S = 60.0
POLL_EVERY_S = 0.25


class JobWorker:
    """A worker that runs jobs until it is stopped.

    It takes a job that waits, or whose `beat` has not changed for `RETORT_JOBS_LEASE_S` seconds by the monotonic clock
    of this process. On the same host, it also waits for the lock of the job's folder, which the other worker holds
    until its process ends.

    Args:
        settings: The database, the queue, the folders and the models.
        processes: The number of scoring processes; None for one per core.
    """

    def __init__(self, settings: Settings, processes: int | None = None) -> None:
        self._settings = settings
        self._processes = processes
        self._folders = JobFolders(settings.jobs_folder)
        self._store = open_store(settings)
        self._stopping = threading.Event()
        self._beats: dict[str, tuple[int, float]] = {}
        """The beat of each open job, and the monotonic time when this worker first read it."""
        self._queue = JobQueue(settings.redis_url, self._folders.root, database_name(settings), self._run_by_id)

    def stop(self) -> None:
        """Stop after the current part. Return the job to the queue."""
        self._stopping.set()

    def work(self) -> None:
        """Work until `stop` is called."""
        self._store.prepare()
        looked_s = cleaned_s = float("-inf")
        logging.getLogger("huey").setLevel(logging.WARNING)  # huey logs each message; this worker logs each job
        with self._folders.working():
            log.info("the worker of jobs is ready; files are in %s", self._folders.root)
            try:
                while not self._stopping.is_set():
                    has_worked, now_s = self._work_once(), time.monotonic()
                    try:
                        if now_s - looked_s >= LOOK_EVERY_S:
                            looked_s = now_s
                            has_worked = self.look() or has_worked
                        if now_s - cleaned_s >= CLEAN_EVERY_S:
                            cleaned_s = now_s
                            self.clean()
                    except DatabaseUnavailable as error:
                        log.warning("%s", error.detail)
                    if not has_worked and not self._queue.waits:
                        self._stopping.wait(POLL_EVERY_S)
            finally:
                self._queue.close()
                self._store.close()

    def _work_once(self) -> bool:
        """Run the job of one message. Return False if there is no message."""
        try:
            return self._queue.work()
        except Exception as error:  # noqa: BLE001 - from huey, Redis or SQLite
            log.warning("the queue of jobs does not answer (%s); jobs are looked up in the database", error)
            self._stopping.wait(LOOK_EVERY_S)
            return False

    def look(self) -> bool:
        """Run a job that waits, or whose worker has ended. Return False if there is no such job."""
        jobs, now_s = self._store.open_jobs(), time.monotonic()
        beats = {job.id: self._beats.get(job.id, (job.beat, now_s)) for job in jobs}
        self._beats = {job.id: beats[job.id] if beats[job.id][0] == job.beat else (job.beat, now_s) for job in jobs}
        for job in jobs:
            is_abandoned = now_s - self._beats[job.id][1] >= self._settings.jobs_lease_s
            if (job.state == QUEUED or is_abandoned) and self._run(job):
                return True
        return False

    def _run_by_id(self, job_id: str) -> None:
        with suppress(JobNotFound, DatabaseUnavailable):  # the job was deleted, or `look` finds it later
            job = self._store.job(job_id)
            if job.state == QUEUED:
                self._run(job)

    def _run(self, candidate: JobRecord) -> bool:
        """Run a job. Return False if another process runs it."""
        self._folders.make(candidate.id)  # a job without an upload may have no folder on this host
        with self._folders.locked(candidate.id) as is_mine:
            lease = secrets.token_hex(16)
            job = self._store.take(candidate, lease) if is_mine else None
            if job is None:
                return False
            log.info("job %s: %s version %s", job.id, job.model, job.version)
            JobRun(job, lease, self._store, self._folders, self._settings, self._processes).run(self._stopping.is_set)
            return True

    def clean(self) -> None:
        """Remove jobs that ended long ago, and the files that killed processes left behind."""
        for job in self._store.ended_before(int(time.time()) - self._settings.jobs_keep_s):
            with self._folders.locked(job.id):
                self._store.remove(job.id)
                self._folders.remove(job.id)
        for job_id in self._folders.ids():
            with self._folders.locked(job_id) as is_mine:
                if is_mine:
                    self._remove_leftovers(job_id)

    def _remove_leftovers(self, job_id: str) -> None:
        """Remove the files of a job that a killed process left behind."""
        try:
            job = self._store.job(job_id)
        except JobNotFound:
            self._folders.remove(job_id)
            return
        if job.state == CANCELLED:
            self._folders.remove(job_id)
        elif not job.is_open:
            remove_others(self._folders.of(job_id), files_of(job.output, job.state))
