"""A job in words."""

from __future__ import annotations

import pytest

from app.web.pages import duration, job_view

JOB = {
    "id": "abc",
    "state": "running",
    "model": "penguins",
    "version": 1,
    "input": "rows.csv",
    "output": "csv",
    "fraction": 0.999,
    "rows": 1_234_567,
    "rejected": 0,
    "rows_per_s": 98_765.4,
    "left_s": 12.2,
    "waits_for": None,
    "error": None,
    "links": {"self": "/jobs/abc"},
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (12.2, "13 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")],
)
def test_times_are_readable(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_are_texts() -> None:
    view = job_view(JOB)
    texts = [view[name] for name in ("percent", "rows", "rate", "left")]
    assert texts == ["99 %", "1,234,567", "98,765", "13 s"]
    assert (view["is_open"], view["look"]) == (True, "wait")


def test_an_ended_job_has_no_time_left() -> None:
    view = job_view(JOB | {"state": "failed", "error": "no room"})
    assert (view["is_open"], view["look"], view["left"], view["error"]) == (False, "bad", "-", "no room")
