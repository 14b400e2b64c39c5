"""Request ids, phase timings and log lines."""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import telemetry
from app.errors import DeadlineExceeded
from app.telemetry import (
    JsonLines,
    LineHandler,
    ReadableLines,
    RequestScope,
    Timings,
    check_deadline,
    configure_logging,
    current_request,
    mark_progress,
    request_id_from,
    scope_of,
)

ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s


class Collector(logging.Handler):
    """A handler of another library."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError("nothing is logged here")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(telemetry, "time", clock)
    return clock


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger without our handler, restored after the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers[:] = [handler for handler in handlers if not isinstance(handler, LineHandler)]
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("app.test", logging.WARNING, __file__, 1, message, arguments, exc_info)


@pytest.mark.parametrize("sent", ["a", "A-1_b.C", "0" * 128])
def test_a_fit_request_id_is_echoed(sent: str) -> None:
    assert request_id_from(sent) == sent


@pytest.mark.parametrize("sent", [None, "", "0" * 129, "a b", "a\n", "\na", "é", "a/b", '"', "a\r\nSet-Cookie: x"])
def test_an_unfit_request_id_is_replaced(sent: str | None) -> None:
    made = request_id_from(sent)
    assert made != sent
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert request_id_from(sent) != made


def test_forked_processes_make_different_ids_also_if_a_model_seeds_the_common_generator() -> None:
    program = (
        "import os, random\n"
        "from app.telemetry import request_id_from\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        random.seed(0)\n"
        "        os.write(1, request_id_from(None).encode() + b' ')\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert len(set(made)) == 3


@pytest.mark.slow
@given(st.text())
def test_every_request_id_is_fit_for_headers_and_logs(sent: str) -> None:
    assert ID.fullmatch(request_id_from(sent))


def test_server_timing_has_every_phase_in_order(clock: Clock) -> None:
    timings = Timings()
    clock.now_s += 0.0015
    timings.ended("parse")
    clock.now_s += 0.25
    timings.ended("run")
    assert timings.header() == "parse;dur=1.500, validate;dur=0.000, queue;dur=0.000, run;dur=250.000, encode;dur=0.000"


def test_the_wait_before_a_request_counts_as_queue_and_not_in_the_total(clock: Clock) -> None:
    timings = Timings(queued_s=0.25)
    clock.now_s += 0.5
    timings.ended("run")
    assert (timings.ns("queue"), timings.total_s) == (250_000_000, 0.5)


def test_a_phase_that_ends_twice_adds_up(clock: Clock) -> None:
    timings = Timings()
    for seconds in (1.0, 2.0):
        clock.now_s += seconds
        timings.ended("run")
    assert "run;dur=3000.000" in timings.header()


def test_an_unknown_phase_is_an_error() -> None:
    with pytest.raises(KeyError):
        Timings().ended("lunch")


def test_a_json_line_is_one_line_with_the_facts() -> None:
    token = current_request.set(RequestScope("r-1"))
    try:
        line = JsonLines().format(record("two\nlines %s \ud800", "é"))
    finally:
        current_request.reset(token)
    assert "\n" not in line
    assert line.isascii()
    event = json.loads(line)
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "level": "WARNING",
        "logger": "app.test",
        "message": "two\nlines é \ud800",
        "request_id": "r-1",
    }


def test_a_json_line_says_when_in_utc() -> None:
    event = record("now")
    said = datetime.fromisoformat(json.loads(JsonLines().format(event))["time"])
    assert said.utcoffset() == timedelta(0)
    assert abs(said.timestamp() - event.created) < 0.001


def test_a_json_line_holds_its_traceback() -> None:
    try:
        raise ValueError("what the model said")
    except ValueError as error:
        line = JsonLines().format(record("failed", error=error))
    assert "\n" not in line
    assert json.loads(line)["traceback"].splitlines()[-1] == "ValueError: what the model said"


def test_outside_a_request_the_id_is_a_dash() -> None:
    assert json.loads(JsonLines().format(record("at start")))["request_id"] == "-"


def test_a_readable_line_stays_one_line() -> None:
    line = ReadableLines().format(record("%s", "a\nb\x1b[31m\u202eé\u2028 'quoted' \\"))
    assert line.endswith("WARNING a\\nb\\x1b[31m\\u202eé\\u2028 'quoted' \\")
    assert line.isprintable()


def test_a_readable_line_has_its_traceback_below() -> None:
    try:
        raise ValueError("what the model said")
    except ValueError as error:
        first, *below = ReadableLines().format(record("failed", error=error)).splitlines()
    assert first.endswith("failed")
    assert below[-1] == "ValueError: what the model said"


def test_the_last_configuration_of_logging_applies(root_logger: logging.Logger) -> None:
    theirs = Collector()
    root_logger.addHandler(theirs)
    before = list(root_logger.handlers)
    configure_logging("DEBUG", readable=True)
    configure_logging("ERROR", readable=False)
    [ours] = [handler for handler in root_logger.handlers if handler not in before]
    assert theirs in root_logger.handlers
    assert isinstance(ours, logging.StreamHandler)
    assert ours.stream is sys.stderr
    assert isinstance(ours.formatter, JsonLines)
    assert root_logger.level == logging.ERROR
    configure_logging("ERROR", readable=True)
    assert isinstance(ours.formatter, ReadableLines)


def test_requests_that_run_together_progress_together_and_have_the_latest_deadline() -> None:
    one, other = RequestScope("one", deadline_s=1.0), RequestScope("other", deadline_s=math.inf)
    scope = scope_of([one, other])
    assert (scope.id, scope.deadline_s) == ("one,other", math.inf)
    token = current_request.set(scope)
    try:
        began_s = time.monotonic()
        check_deadline()
        assert one.progressed_s == other.progressed_s >= began_s
    finally:
        current_request.reset(token)


def test_a_look_past_the_deadline_marks_progress_and_ends_the_work() -> None:
    late = RequestScope("late", deadline_s=-math.inf)
    assert scope_of([late]) is late
    token = current_request.set(late)
    try:
        with pytest.raises(DeadlineExceeded):
            check_deadline()
        marked_s = late.progressed_s
        assert marked_s > -math.inf
        mark_progress()
        assert late.progressed_s >= marked_s
    finally:
        current_request.reset(token)
