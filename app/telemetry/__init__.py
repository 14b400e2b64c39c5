"""Request ids, phase timings and log lines; knows neither Flask nor models."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from contextvars import ContextVar
from datetime import UTC, datetime

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
PHASES = ("parse", "validate", "queue", "run", "encode")
STEP_PHASES = ("prepare", "finish")
"""Only where a model has steps."""
ALL_PHASES = ("parse", "validate", "queue", "prepare", "run", "finish", "encode")
SERVER_TIMING = ", ".join(f"{phase};dur=%.3f" for phase in PHASES)

NO_REQUEST = "-"

request_id: ContextVar[str] = ContextVar("request_id", default=NO_REQUEST)


def request_id_from(sent: str | None) -> str:
    """The client's request id where it is fit to be echoed and logged, else a new one of 128 random bits."""
    return sent if sent is not None and REQUEST_ID.fullmatch(sent) else secrets.token_hex(16)


class Timings:
    """How long each phase of one request took, that of waiting for a thread before it was begun. Not thread-safe."""

    __slots__ = ("_began_s", "_last_s", "_seconds")

    def __init__(self, queued_s: float = 0.0) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._seconds["queue"] = queued_s
        self._began_s = self._last_s = time.perf_counter()

    @property
    def total_s(self) -> float:
        """From the start to the end of the last phase."""
        return self._last_s - self._began_s

    def ended(self, phase: str) -> None:
        """Counts the time since the end of the last phase, or since the start, to this one."""
        now_s = time.perf_counter()
        if phase in STEP_PHASES:
            self._seconds.setdefault(phase, 0.0)
        self._seconds[phase] += now_s - self._last_s
        self._last_s = now_s

    def ns(self, phase: str) -> int:
        """How long a phase took so far, in nanoseconds."""
        return int(self._seconds[phase] * 1e9)

    def header(self) -> str:
        """The value of `Server-Timing` (W3C Server Timing), durations in milliseconds."""
        if len(self._seconds) > len(PHASES):  # steps have phases of their own
            seconds = self._seconds
            return ", ".join(f"{phase};dur={seconds.get(phase, 0.0) * 1e3:.3f}" for phase in ALL_PHASES)
        return SERVER_TIMING % tuple(each * 1e3 for each in self._seconds.values())


class JsonLines(logging.Formatter):
    """One event, one line, valid JSON: what log collectors of a PaaS read."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders time (UTC), level, logger, message, request id, and the traceback where there is one."""
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event)


class ReadableLines(logging.Formatter):
    """What a person at a terminal reads; control characters are escaped, so that one event stays one line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Renders the line without its traceback, which the base class puts below."""
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().formatMessage(record))


def configure_logging(level: str, readable: bool) -> None:
    """Sends every log line of this process to standard error in the one form; calling it again changes nothing else."""
    root = logging.getLogger()
    stream = next((h for h in root.handlers if getattr(h, "_retort", False)), None)
    if stream is None:
        stream = logging.StreamHandler()
        stream._retort = True  # type: ignore[attr-defined]
        root.addHandler(stream)
    stream.setFormatter(ReadableLines() if readable else JsonLines())
    root.setLevel(level)
    logging.captureWarnings(True)  # else they stand between the lines, in no form at all
