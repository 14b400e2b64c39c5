"""The numbers that processes share."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.board import MOST_CELLS, SCRATCH_BYTES, MetricBoard, Sheet

SMALL_BYTES = 4096


@given(st.dictionaries(st.text(max_size=40), st.lists(st.floats(allow_nan=False), min_size=1, max_size=5), max_size=9))
def test_what_is_written_is_read(blocks: dict[str, list[float]]) -> None:
    board = MetricBoard(2, SMALL_BYTES)
    sheet = board.sheet(1)
    for key, values in blocks.items():
        place = sheet.place(key, len(values))
        for at, value in enumerate(values):
            sheet.cells[place + at] = value
    assert sheet.names() == list(blocks)
    assert {r.number: r.values for r in board.read()} == (
        {1: {key: tuple(values) for key, values in blocks.items()}} if blocks else {}
    )


def test_the_next_with_a_number_goes_on_from_its_counts() -> None:
    board = MetricBoard(2, SMALL_BYTES)
    number = board.take()
    first = board.sheet(number)
    first.begin(101)
    first.cells[first.place("seen")] += 2.0
    assert number == 0
    board.release(number)
    assert [(r.pid, r.values) for r in board.read()] == [(0, {"seen": (2.0,)})]
    assert board.take() == number
    second = board.sheet(number)
    second.begin(102)
    second.cells[second.place("seen")] += 1.0
    assert [(r.pid, r.values) for r in board.read()] == [(102, {"seen": (3.0,)})]


def test_numbers_are_the_lowest_that_are_free() -> None:
    board = MetricBoard(3, SMALL_BYTES)
    assert [board.take() for _ in range(4)] == [0, 1, 2, None]
    board.release(1)
    board.release(0)
    assert [board.take() for _ in range(3)] == [0, 1, None]


def test_without_a_number_nobody_sees_it() -> None:
    board = MetricBoard(1, SMALL_BYTES)
    alone = board.sheet(None)
    alone.begin(1)
    alone.cells[alone.place("seen")] += 1.0
    assert board.read() == []


def test_a_full_sheet_says_so_once_and_loses_only_what_is_new(caplog: pytest.LogCaptureFixture) -> None:
    sheet = Sheet(memoryview(bytearray(SCRATCH_BYTES + 128)))
    kept = sheet.place("kept")
    sheet.cells[kept] = 1.0
    with caplog.at_level(logging.ERROR):
        lost = [sheet.place(f"lost {number}", MOST_CELLS) for number in range(3)]
    for place in lost:
        for at in range(MOST_CELLS):
            sheet.cells[place + at] += 5.0
    assert len(caplog.records) == 1
    assert sheet.read(0).values == {"kept": (1.0,)}


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child touches nothing that they hold
@pytest.mark.parametrize("shared", [True, False])
def test_a_child_writes_where_its_parent_reads_only_if_it_is_shared(shared: bool) -> None:
    board = MetricBoard(1, SMALL_BYTES, shared)
    place = board.sheet(0).place("seen")
    child = os.fork()
    if not child:
        board.sheet(0).cells[place] += 7.0
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert board.read()[0].values == {"seen": (7.0 * shared,)}
