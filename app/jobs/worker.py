"""The worker of jobs: takes one job after the other, scores it, and removes the files of old ones."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from app.errors import (
    SERVER_FAILED,
    DatabaseUnavailable,
    JobNotFound,
    NotResumable,
    RetortError,
    ScoringCancelled,
    ScoringRefused,
    TooManyRejects,
)
from app.jobs.formats import format_of
from app.jobs.job import ScoringJob
from app.jobs.job_folders import JobFolders
from app.jobs.job_queue import JobQueue
from app.jobs.job_record import CANCELLED, DONE, FAILED, QUEUED, JobRecord
from app.jobs.job_store import JobStore
from app.jobs.job_urls import download, is_permitted, is_url, is_web
from app.jobs.progress import Progress
from app.jobs.run_folder import REJECTS as REJECTS_OF_RUN
from app.jobs.service import REJECTS, database_name, open_store
from app.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""How often the database is asked for jobs that no message has named."""
CLEAN_EVERY_S = 60.0
POLL_EVERY_S = 0.25
BEATS_OF_A_LEASE = 5
LONGEST_BETWEEN_BEATS_S = 1.0
MOST_TAKES = 5
"""Workers that may end one after the other without a part of the job being finished."""
WORK = "work"
"""The folder of an unfinished run, below the job's."""


class JobRun:
    """One run of one job by this process. A thread says all the time that it lives."""

    def __init__(
        self,
        job: JobRecord,
        lease: str,
        store: JobStore,
        folders: JobFolders,
        settings: Settings,
        processes: int | None,
    ) -> None:
        self.job = job
        self._lease = lease
        self._store = store
        self._folders = folders
        self._folder = folders.of(job.id)
        self._settings = settings
        self._processes = processes
        self._progress: Progress | None = None
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._is_full = False

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Score the job, and store how it ended. It goes back to the queue if the worker stops."""
        beats = threading.Thread(target=self._beat, name="retort-job", daemon=True)
        beats.start()
        try:
            self._score(lambda: is_stopping() or self._lost.is_set() or self._is_full)
        except ScoringCancelled:
            self._leave()
        except TooManyRejects as error:
            with suppress(OSError):
                (self._folder / WORK / REJECTS_OF_RUN).replace(self._folder / REJECTS)
            detail = f"{error.rejected} rows were rejected, more than max_rejects allows, {error.limit}"
            self._end(FAILED, error=f"{detail}; GET /jobs/{self.job.id}/rejects has them")
        except RetortError as error:
            self._end(FAILED, error=self._told(error.detail))
        except Exception:
            log.exception("job %s failed", self.job.id)
            self._end(FAILED, error=SERVER_FAILED.replace("request", "job"))
        else:
            self._end(DONE, fraction=1.0)
        finally:
            self._ended.set()
            beats.join()

    def _score(self, is_cancelled: Callable[[], bool]) -> None:
        job, folder = self.job, self._folder
        if job.takes > MOST_TAKES:
            place = f"after row {job.rows}" if job.rows else "at its beginning"
            raise ScoringRefused(f"its worker ended {MOST_TAKES} times {place}: perhaps it lacks memory")
        for url in (each for each in (job.input, job.output) if is_url(each)):
            if not is_permitted(url, self._settings.jobs_urls):  # the operator may have changed it since
                raise ScoringRefused(f"{url}: jobs may not use this URL")
        output = job.output if is_url(job.output) else str(folder / job.output)
        run = ScoringJob(
            job.model,
            str(job.version),
            self._input(is_cancelled),
            output,
            keep=job.keep,
            max_rejects=job.max_rejects,
            resume=True,
            processes=self._processes,
            settings=self._settings,
            work_dir=folder / WORK,
        )
        try:
            scored = run.run(self._note, is_cancelled)
        except NotResumable as error:
            log.warning("job %s begins anew: %s", job.id, error.detail)
            shutil.rmtree(folder / WORK)
            scored = run.run(self._note, is_cancelled)
        if scored.rejects and not is_url(scored.rejects):
            Path(scored.rejects).replace(folder / REJECTS)

    def _input(self, is_cancelled: Callable[[], bool]) -> str:
        """Return where the input is. A file of a web server is stored first."""
        job = self.job
        if not is_url(job.input):
            return str(self._folder / job.input)
        if not is_web(job.input):
            return job.input
        target = self._folder / f"input{format_of(job.input.partition('?')[0]).suffix}"
        if not target.exists():
            room_bytes = max(0, self._settings.jobs_bytes - self._store.stored_bytes())
            if not download(job.input, target, room_bytes, self._settings.jobs_urls, is_cancelled):
                raise ScoringCancelled
        return str(target)

    def _note(self, progress: Progress) -> None:
        self._progress = progress

    def _beat(self) -> None:
        """Tell the database that this run lives, until it ends or is not its own any more."""
        lease_s = self._settings.jobs_lease_s
        every_s = min(LONGEST_BETWEEN_BEATS_S, lease_s / BEATS_OF_A_LEASE)
        told_s = time.monotonic()
        while not self._ended.wait(every_s):
            try:
                stored_bytes = self._folders.size_bytes(self.job.id)
                if not self._store.report(self.job.id, self._lease, self._progress, stored_bytes):
                    self._lost.set()
                    return
                self._is_full = self._store.stored_bytes() > self._settings.jobs_bytes
                told_s = time.monotonic()
            except DatabaseUnavailable as error:
                log.warning("job %s cannot be reported: %s", self.job.id, error.detail)
                if time.monotonic() - told_s > lease_s:  # another worker may have taken it
                    self._lost.set()
                    return

    def _leave(self) -> None:
        """End a run that was not finished."""
        if self._is_full:
            limit_bytes = self._settings.jobs_bytes
            self._end(FAILED, error=f"there was no room: the files of all jobs may take {limit_bytes} bytes")
        elif not self._lost.is_set():
            self._store.report(self.job.id, self._lease, self._progress, self._folders.size_bytes(self.job.id))
            self._store.give_back(self.job.id, self._lease)
            log.info("job %s was given back", self.job.id)
        else:
            self._remove_if_ended()

    def _remove_if_ended(self) -> None:
        """Remove the files of a job that was cancelled, or deleted."""
        try:
            if self._store.job(self.job.id).is_open:
                return
            self._store.forget_files(self.job.id)
        except JobNotFound:
            pass
        self._folders.remove(self.job.id)
        log.info("job %s was cancelled", self.job.id)

    def _end(self, state: str, **values: object) -> None:
        """Store how the job ended. After that, remove all its files but the result and the rejects."""
        kept = files_of(self.job.output, state)
        stored_bytes = sum(path.stat().st_size for name in kept if (path := self._folder / name).is_file())
        facts: dict[str, object] = {"stored_bytes": stored_bytes}
        if (progress := self._progress) is not None:
            facts |= {"rows": progress.rows, "rejected": progress.rejected, "rows_per_s": progress.rows_per_s}
            facts |= {"parts": progress.parts_done, "parts_done": progress.parts_done}
        if self._store.end(self.job.id, self._lease, state, **facts, **values):
            remove_others(self._folder, kept)
            log.info("job %s is %s", self.job.id, state)
        else:
            self._remove_if_ended()

    def _told(self, detail: str) -> str:
        """Return an error without the folders of this machine."""
        for folder in (self._folder, self._settings.models_dir.resolve()):
            detail = detail.replace(f"{folder}/", "").replace(str(folder), folder.name)
        return detail


def files_of(output: str, state: str) -> tuple[str, ...]:
    """Return the names of the files that an ended job keeps."""
    return (output, REJECTS) if state == DONE else (REJECTS,)


def remove_others(folder: Path, kept: Collection[str]) -> None:
    """Remove all files of a job's folder but some."""
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


class JobWorker:
    """Works until it is stopped.

    A job is taken if it waits, or if its worker gave no sign of life for `RETORT_JOBS_LEASE_S` seconds, by the
    monotonic clock of this process. On one host, the lock of the job's folder also holds until the other process has
    ended.

    Args:
        settings: The database, the queue, the folders and the models.
        processes: The number of processes that score; None for one for each core.
    """

    def __init__(self, settings: Settings, processes: int | None = None) -> None:
        self._settings = settings
        self._processes = processes
        self._folders = JobFolders(settings.jobs_folder)
        self._store = open_store(settings)
        self._stopping = threading.Event()
        self._seen: dict[str, tuple[int, float]] = {}
        """The beat of each running job, and the monotonic time when it was first seen."""
        self._queue = JobQueue(settings.redis_url, self._folders.root, database_name(settings), self._run_named)

    def stop(self) -> None:
        """Stop after the part that is being scored. The job is given back."""
        self._stopping.set()

    def work(self) -> None:
        """Work until `stop` is called."""
        self._store.prepare()
        looked_s = cleaned_s = float("-inf")
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
        """Run the job of one message. Return False if there is none."""
        try:
            return self._queue.work()
        except Exception as error:  # noqa: BLE001 - of huey, of Redis, or of SQLite
            log.warning("the queue of jobs does not answer (%s); jobs are looked up in the database", error)
            self._stopping.wait(LOOK_EVERY_S)
            return False

    def look(self) -> bool:
        """Run a job that waits, or that another worker has left. Return False if there is none."""
        jobs, now_s = self._store.open_jobs(), time.monotonic()
        seen = {job.id: self._seen.get(job.id, (job.beat, now_s)) for job in jobs}
        self._seen = {job.id: seen[job.id] if seen[job.id][0] == job.beat else (job.beat, now_s) for job in jobs}
        for job in jobs:
            is_left = now_s - self._seen[job.id][1] >= self._settings.jobs_lease_s
            if (job.state == QUEUED or is_left) and self._run(job):
                return True
        return False

    def _run_named(self, job_id: str) -> None:
        with suppress(JobNotFound, DatabaseUnavailable):  # it was deleted; or `look` finds it later
            job = self._store.job(job_id)
            if job.state == QUEUED:
                self._run(job)

    def _run(self, seen: JobRecord) -> bool:
        """Run a job. Return False if another process has it."""
        self._folders.make(seen.id)  # a job without an upload may have none on this host
        with self._folders.locked(seen.id) as is_mine:
            lease = secrets.token_hex(16)
            job = self._store.take(seen, lease) if is_mine else None
            if job is None:
                return False
            log.info("job %s: %s version %s", job.id, job.model, job.version)
            JobRun(job, lease, self._store, self._folders, self._settings, self._processes).run(self._stopping.is_set)
            return True

    def clean(self) -> None:
        """Remove the jobs that ended long ago, and folders that belong to no job."""
        for job in self._store.ended_before(int(time.time()) - self._settings.jobs_keep_s):
            with self._folders.locked(job.id):
                self._store.remove(job.id)
                self._folders.remove(job.id)
        for job_id in self._folders.ids():
            with self._folders.locked(job_id) as is_mine:
                if is_mine:
                    self._tidy(job_id)

    def _tidy(self, job_id: str) -> None:
        """Remove what a killed process has left in the folder of a job."""
        try:
            job = self._store.job(job_id)
        except JobNotFound:
            self._folders.remove(job_id)
            return
        if job.state == CANCELLED:
            self._folders.remove(job_id)
        elif not job.is_open:
            remove_others(self._folders.of(job_id), files_of(job.output, job.state))
