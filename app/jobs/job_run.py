"""One run of one job by a worker process."""

from __future__ import annotations

import logging
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
from app.jobs.job_record import DONE, FAILED, JobRecord
from app.jobs.job_store import JobStore
from app.jobs.job_urls import download, is_permitted, is_web
from app.jobs.locations import is_url
from app.jobs.progress import Progress
from app.jobs.run_folder import REJECTS as REJECTS_OF_RUN
from app.jobs.service import REJECTS
from app.settings import Settings

log = logging.getLogger(__name__)

BEATS_OF_A_LEASE = 5
LONGEST_BETWEEN_BEATS_S = 1.0
MOST_TAKES = 5
"""A job fails if more workers than this number take it in a row without finishing a part."""
WORK = "work"
"""The folder of an unfinished run, in the job's folder."""


class JobRun:
    """One run of one job by this process. A thread reports to the database that the run is alive."""

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
        """Score the job, and store its final state. If the worker stops, return the job to the queue."""
        beats = threading.Thread(target=self._report_until_end, name="retort-job", daemon=True)
        beats.start()
        try:
            self._score(lambda: is_stopping() or self._lost.is_set() or self._is_full)
        except ScoringCancelled:
            self._stop()
        except TooManyRejects as error:
            with suppress(OSError):
                (self._folder / WORK / REJECTS_OF_RUN).replace(self._folder / REJECTS)
            count = "1 row was" if error.rejected == 1 else f"{error.rejected} rows were"
            detail = f"{count} rejected, more than max_rejects allows, {error.limit}"
            self._end(FAILED, error=f"{detail}; GET /jobs/{self.job.id}/rejects has them")
        except RetortError as error:
            self._end(FAILED, error=self._client_detail(error.detail))
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
        for url in filter(is_url, (job.input, job.output)):
            if not is_permitted(url, self._settings.jobs_urls):  # the operator may have changed the setting
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
            scored = run.run(self._keep_progress, is_cancelled)
        except NotResumable as error:
            log.warning("job %s begins anew: %s", job.id, error.detail)
            shutil.rmtree(folder / WORK)
            scored = run.run(self._keep_progress, is_cancelled)
        if scored.rejects and not is_url(scored.rejects):
            Path(scored.rejects).replace(folder / REJECTS)

    def _input(self, is_cancelled: Callable[[], bool]) -> str:
        """Return the location of the input. Download it first if it is on a web server."""
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

    def _keep_progress(self, progress: Progress) -> None:
        self._progress = progress

    def _report_until_end(self) -> None:
        """Report to the database that this run is alive, until it ends or loses its lease."""
        lease_s = self._settings.jobs_lease_s
        every_s = min(LONGEST_BETWEEN_BEATS_S, lease_s / BEATS_OF_A_LEASE)
        reported_s = time.monotonic()
        while not self._ended.wait(every_s):
            try:
                stored_bytes = self._folders.size_bytes(self.job.id)
                if not self._store.report(self.job.id, self._lease, self._progress, stored_bytes):
                    self._lost.set()
                    return
                self._is_full = self._store.stored_bytes() > self._settings.jobs_bytes
                reported_s = time.monotonic()
            except DatabaseUnavailable as error:
                log.warning("job %s cannot be reported: %s", self.job.id, error.detail)
                if time.monotonic() - reported_s > lease_s:  # another worker may have taken the job
                    self._lost.set()
                    return

    def _stop(self) -> None:
        """Store the state of a job whose run stopped early."""
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
        """Remove the files of a job that was cancelled or deleted."""
        try:
            if self._store.job(self.job.id).is_open:
                return
            self._store.forget_files(self.job.id)
        except JobNotFound:
            pass
        self._folders.remove(self.job.id)
        log.info("job %s was cancelled", self.job.id)

    def _end(self, state: str, **values: object) -> None:
        """Store the final state of the job. Then remove all its files except the result and the rejects."""
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

    def _client_detail(self, detail: str) -> str:
        """Remove paths of this machine from an error, and use the client's name for the uploaded file."""
        if not is_url(self.job.input):
            detail = detail.replace(str(self._folder / self.job.input), self.job.input_name)
        for folder in (self._folder, self._settings.models_dir.resolve()):
            detail = detail.replace(f"{folder}/", "").replace(str(folder), folder.name)
        return detail


def files_of(output: str, state: str) -> tuple[str, ...]:
    """Return the names of the files to keep after a job has ended."""
    return (output, REJECTS) if state == DONE else (REJECTS,)


def remove_others(folder: Path, kept: Collection[str]) -> None:
    """Remove all files of a job's folder except `kept`."""
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
