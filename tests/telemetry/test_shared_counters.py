"""Counters that processes share."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.shared_counters import MOST_CELLS, SCRATCH_BYTES, SharedCounters, WorkerPage

SMALL_BYTES = 4096


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=40), st.lists(st.floats(allow_nan=False), min_size=1, max_size=5), max_size=9))
def test_written_cells_are_read(blocks: dict[str, list[float]]) -> None:
    counters = SharedCounters(2, SMALL_BYTES)
    page = counters.page(1)
    for key, values in blocks.items():
        place = page.place(key, len(values))
        for at, value in enumerate(values):
            page.cells[place + at] = value
    assert page.names() == list(blocks)
    assert {r.number: r.values for r in counters.read()} == (
        {1: {key: tuple(values) for key, values in blocks.items()}} if blocks else {}
    )


def test_the_next_process_with_a_number_continues_its_counts() -> None:
    counters = SharedCounters(2, SMALL_BYTES)
    number = counters.take()
    first = counters.page(number)
    first.begin(101)
    first.cells[first.place("seen")] += 2.0
    assert number == 0
    counters.release(number)
    assert [(r.pid, r.values) for r in counters.read()] == [(0, {"seen": (2.0,)})]
    assert counters.take() == number
    second = counters.page(number)
    second.begin(102)
    second.cells[second.place("seen")] += 1.0
    assert [(r.pid, r.values) for r in counters.read()] == [(102, {"seen": (3.0,)})]


def test_the_lowest_free_number_is_taken() -> None:
    counters = SharedCounters(3, SMALL_BYTES)
    assert [counters.take() for _ in range(4)] == [0, 1, 2, None]
    counters.release(1)
    counters.release(0)
    assert [counters.take() for _ in range(3)] == [0, 1, None]


def test_a_page_without_a_number_is_private() -> None:
    counters = SharedCounters(1, SMALL_BYTES)
    alone = counters.page(None)
    alone.begin(1)
    alone.cells[alone.place("seen")] += 1.0
    assert counters.read() == []


def test_a_full_page_is_logged_once_and_loses_only_new_blocks(caplog: pytest.LogCaptureFixture) -> None:
    page = WorkerPage(memoryview(bytearray(SCRATCH_BYTES + 128)))
    kept = page.place("kept")
    page.cells[kept] = 1.0
    with caplog.at_level(logging.ERROR):
        lost = [page.place(f"lost {number}", MOST_CELLS) for number in range(3)]
    for place in lost:
        for at in range(MOST_CELLS):
            page.cells[place + at] += 5.0
    assert len(caplog.records) == 1
    assert page.read(0).values == {"kept": (1.0,)}


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded:DeprecationWarning"
)  # the child uses nothing that other threads lock
@pytest.mark.parametrize("shared", [True, False])
def test_a_parent_reads_what_its_child_writes_only_if_shared(shared: bool) -> None:
    counters = SharedCounters(1, SMALL_BYTES, shared)
    place = counters.page(0).place("seen")
    child = os.fork()
    if not child:
        counters.page(0).cells[place] += 7.0
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert counters.read()[0].values == {"seen": (7.0 * shared,)}
