"""Jobs as people read them: the page of one job, and the list of a caller's jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

OPEN: Final = ("queued", "running")
LOOKS: Final[Mapping[str, str]] = {"done": "ok", "failed": "bad", "cancelled": "bad"}
UNKNOWN: Final = "-"


@dataclass(frozen=True, slots=True)
class JobView:
    """One job, its numbers as texts. `static/site/job.js` writes the same texts."""

    id: str
    state: str
    look: str
    is_open: bool
    model: str
    version: int
    input: str
    output: str
    fraction: float
    percent: str
    rows: str
    rejected: str
    rate: str
    left: str
    waits_for: str
    error: str
    result: bool
    rejects: bool


def job_view(document: Mapping[str, Any]) -> JobView:
    """Return the view of a job, from its JSON."""
    state, rate = document["state"], document["rows_per_s"]
    return JobView(
        document["id"],
        state,
        LOOKS.get(state, "wait"),
        state in OPEN,
        document["model"],
        document["version"],
        document["input"],
        document["output"],
        document["fraction"],
        f"{math.floor(document['fraction'] * 100)} %",
        f"{document['rows']:,}",
        f"{document['rejected']:,}",
        f"{round(rate):,}" if rate else UNKNOWN,
        duration(document["left_s"]) if state in OPEN else UNKNOWN,
        document["waits_for"] or "",
        document["error"] or "",
        "result" in document["links"],
        "rejects" in document["links"],
    )


def duration(seconds: float | None) -> str:
    """Return a time as a person says it."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(math.ceil(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
