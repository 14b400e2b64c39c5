"""The folders with the files of jobs, one for each job, and locks between the processes of a host.

A process that writes into a job's folder holds the lock of the folder. All workers hold another, shared lock, so that
the server can check whether a worker runs. The system releases a lock when its process ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WORKERS = ".workers"


class JobFolders:
    """The folders of jobs below one root folder, which is created on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def of(self, job_id: str) -> Path:
        """Return the folder of a job, which may not exist."""
        return self.root / job_id

    def make(self, job_id: str) -> Path:
        """Create the folder of a job. Other users of the system cannot read it."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self.of(job_id)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def ids(self) -> list[str]:
        """Return the ids of the jobs that have a folder."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def size_bytes(self, job_id: str) -> int:
        """Return the size of a job's files."""
        total = 0
        for path in self.of(job_id).rglob("*"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def remove(self, job_id: str) -> None:
        """Remove the folder of a job if it exists."""
        shutil.rmtree(self.of(job_id), ignore_errors=True)

    @contextmanager
    def locked(self, job_id: str) -> Iterator[bool]:
        """Hold the lock of a job's folder. Yield False if another process holds it or the folder does not exist."""
        try:
            descriptor = os.open(self.of(job_id), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            yield False
            return
        try:
            yield _try_lock(descriptor, fcntl.LOCK_EX)
        finally:
            os.close(descriptor)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the shared lock that tells the server that a worker runs."""
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root / WORKERS, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def has_worker(self) -> bool:
        """Return whether a worker runs on this host."""
        try:
            descriptor = os.open(self.root / WORKERS, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_EX)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
