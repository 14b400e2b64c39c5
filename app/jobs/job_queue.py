"""The queue by which the server notifies workers of new jobs: huey, in an SQLite file or in Redis.

A message contains the id of a job, and is only a hint: the state of the job is in the database. A lost message delays a
job by a few seconds. A repeated message has no effect. Messages are JSON, not huey's pickles: with pickles, anyone who
can write into the queue could run code in the worker.
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
"""Timeout for a response of Redis. It must exceed the second for which a worker waits for a message."""


class JsonSerializer(Serializer):  # type: ignore[misc]  # huey ships no types
    """Serializer of huey's messages as JSON."""

    def _serialize(self, message: Any) -> bytes:
        return msgspec.json.encode(list(message))

    def _deserialize(self, content: bytes) -> Any:
        return Message(*msgspec.json.decode(content))


class JobQueue:
    """The queue of jobs of one installation.

    Args:
        redis_url: The Redis server; empty for an SQLite file in `folder`.
        folder: The folder of that file.
        database: The address of the jobs' database. It distinguishes installations that share a Redis server.
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

            timeouts = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": SILENT_TIMEOUT_S}
            self._huey = RedisHuey(name, connection_pool=ConnectionPool.from_url(redis_url, **timeouts), **options)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._huey = SqliteHuey(name, filename=str(folder / FILE_NAME), **options)

        def score(job_id: str) -> None:  # huey names tasks by the module of their function
            run(job_id)

        self._score = self._huey.task(name=TASK)(score)

    def put(self, job_id: str) -> None:
        """Notify the workers of a job."""
        self._huey.enqueue(self._score.s(job_id))

    def work(self) -> bool:
        """Take a message and run its job. Return False if there is no message."""
        task = self._huey.dequeue()
        if task is None:
            return False
        self._huey.execute(task)
        return True

    def close(self) -> None:
        """Close the connection. The next use opens a new one."""
        storage = self._huey.storage
        storage.pool.disconnect() if self.waits else storage.close()
