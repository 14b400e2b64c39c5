"""The record of a job in the database. Clients create jobs over HTTP."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
OPEN = (QUEUED, RUNNING)
STATES = (*OPEN, DONE, FAILED, CANCELLED)
ID_BYTES = 10


def new_id() -> str:
    """Return the id of a new job. It cannot be guessed."""
    return secrets.token_hex(ID_BYTES)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job. Times are whole seconds since 1970.

    Attributes:
        id: The last part of its URL.
        owner: The id of the API key that created it; empty if no key was required.
        state: One of `STATES`.
        model: The name of the model.
        version: The version that the client requested, or that served requests when the job was created.
        input: The name of the uploaded file in the job's folder, or a URL.
        input_name: The name that the client gave the file, or the URL.
        output: The name of the result in the job's folder, or a URL.
        keep: The columns of the input that are also written to the output.
        max_rejects: The most rows that may be rejected; None for any number.
        digest: A hash of the request. It detects a different request with the same idempotency key.
        idempotency_key: The value of `Idempotency-Key`; None without one.
        stored_bytes: The size of its files on the server.
        lease: A random text that identifies the current run; None if no worker runs the job.
        beat: A number that the worker increases while it is alive.
        takes: The number of workers that took it since a part was last finished.
        error: The reason of a failure, in one sentence.
        charged_rows: The rows already counted towards the limits of its owner.
    """

    id: str
    owner: str
    state: str
    model: str
    version: int
    input: str
    input_name: str
    output: str
    keep: tuple[str, ...]
    max_rejects: int | None
    digest: str
    created_at: int
    idempotency_key: str | None = None
    stored_bytes: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    lease: str | None = None
    beat: int = 0
    takes: int = 0
    parts_done: int = 0
    parts: int | None = None
    rows: int = 0
    rejected: int = 0
    fraction: float = 0.0
    rows_per_s: float = 0.0
    left_s: float | None = None
    error: str | None = None
    charged_rows: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the job waits or runs."""
        return self.state in OPEN
