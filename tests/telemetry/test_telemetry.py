"""Request ids and phase timings."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import telemetry
from app.errors import DeadlineExceeded
from app.telemetry import (
    RequestScope,
    Timings,
    check_deadline,
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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(telemetry, "time", clock)
    return clock


@pytest.mark.parametrize("sent", ["a", "A-1_b.C", "0" * 128])
def test_a_fit_request_id_is_echoed(sent: str) -> None:
    assert request_id_from(sent) == sent


@pytest.mark.parametrize("sent", [None, "", "0" * 129, "a b", "a\n", "\na", "é", "a/b", '"', "a\r\nSet-Cookie: x"])
@pytest.mark.fault("X10")
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
