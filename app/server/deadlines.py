"""What a client says of its patience, and what the log says of a thread that has gone beyond all."""

from __future__ import annotations

import logging
import math
import re
import sys
import traceback

from app.server.dispatch import Job

log = logging.getLogger(__name__)

TIMEOUT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s)?", re.ASCII)


def timeout_s(asked: str) -> float:
    """What a client asked for, in seconds (`1.5`, `1.5s`) or milliseconds (`50ms`); infinity where it is neither."""
    match = TIMEOUT.fullmatch(asked.strip())
    return math.inf if match is None else float(match[1]) / (1000.0 if match[2] == "ms" else 1.0)


def log_stack(job: Job, now_s: float) -> None:
    """Writes to the log where the thread of a job hangs."""
    frame = sys._current_frames().get(job.thread_id)
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "(it has just ended)"
    log.error(
        "a request thread is stuck since %.1f s in %s %r; this worker will be replaced. Its stack:\n%s",
        now_s - job.started_s,
        job.environ["REQUEST_METHOD"],
        job.environ["RAW_URI"],
        stack,
    )
