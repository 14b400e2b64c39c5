"""The queue by which the server wakes a worker: huey, in an SQLite file or in Redis.

A message names a job, and is only a hint: the database says what there is to do. A message that is lost costs a few
seconds, and one that comes twice does nothing. Messages are JSON, because huey's own are pickles, by which everybody
who can write into the queue could run code in the worker.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from huey import RedisHuey, SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

log = logging.getLogger(__name__)

FILE_NAME = ".queue.db"
TASK = "score"
CONNECT_TIMEOUT_S = 2.0
SILENT_TIMEOUT_S = 5.0
"""Longest silence of Redis. A worker waits for a message for a second."""


class JsonSerializer(Serializer):  # type: ignore[misc]  # huey ships no types
    """Writes messages as JSON."""

    def _serialize(self, message: Any) -> bytes:
        return msgspec.json.encode(list(message))

    def _deserialize(self, content: bytes) -> Any:
        return Message(*msgspec.json.decode(content))


class JobQueue:
    """The queue of one installation.

    Args:
        redis_url: The Redis server; empty for a file in `folder`.
        folder: The folder of that file.
        database: The address of the database of the jobs, which tells installations on one Redis server apart.
        run: Called by `work` with the id of a job.
    """

    def __init__(
        self, redis_url: str, folder: Path, database: str, run: Callable[[str], None] = lambda job_id: None
    ) -> None:
        name = f"retort-jobs-{hashlib.sha256(database.encode()).hexdigest()[:12]}"
        options: dict[str, Any] = {"results": False, "serializer": JsonSerializer()}
        self.waits = bool(redis_url) and find_spec("redis") is not None
        """Whether `work` waits up to a second for a message."""
        if redis_url and not self.waits:
            log.warning("the queue of jobs is a file, because REDIS_URL needs a library: pip install redis")
        if self.waits:
            from redis import ConnectionPool

            waits = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": SILENT_TIMEOUT_S}
            self._huey = RedisHuey(name, connection_pool=ConnectionPool.from_url(redis_url, **waits), **options)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._huey = SqliteHuey(name, filename=str(folder / FILE_NAME), **options)

        def score(job_id: str) -> None:  # huey names tasks by the module of their function
            run(job_id)

        self._score = self._huey.task(name=TASK)(score)

    def put(self, job_id: str) -> None:
        """Name a job to the workers."""
        self._huey.enqueue(self._score.s(job_id))

    def work(self) -> bool:
        """Take a message and run what it names. Return False if there is none."""
        task = self._huey.dequeue()
        if task is None:
            return False
        self._huey.execute(task)
        return True

    def close(self) -> None:
        """Close the connection. The next use opens another one."""
        storage = self._huey.storage
        storage.pool.disconnect() if self.waits else storage.close()
