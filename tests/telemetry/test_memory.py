"""What the system says of this process's memory."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from app.telemetry.memory import ROLLUP, memory_bytes, watch

WRITTEN = """55d0-7ffc ---p 00000000 00:00 0    [rollup]
Rss:               100 kB
Pss:                40 kB
Shared_Clean:       30 kB
Shared_Dirty:       20 kB
Private_Clean:      10 kB
Private_Dirty:       5 kB
"""


def test_the_figures_are_sums_of_the_systems(tmp_path: Path) -> None:
    rollup = tmp_path / "smaps_rollup"
    rollup.write_text(WRITTEN)
    assert memory_bytes(rollup) == {"shared": 50 * 1024, "private": 15 * 1024, "proportional": 40 * 1024}


def test_where_there_is_no_such_file_nothing_is_said(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path / "none") == {}


@pytest.mark.skipif(not ROLLUP.exists(), reason="only Linux has it")
def test_of_this_process() -> None:
    found = memory_bytes()
    assert found["private"] > 2**20
    assert found["private"] <= found["proportional"] <= found["private"] + found["shared"]


def test_a_watch_goes_on_after_a_failure_and_ends_when_told(caplog: pytest.LogCaptureFixture) -> None:
    stop, looked = threading.Event(), []

    def look() -> None:
        looked.append(1)
        if len(looked) == 3:
            stop.set()
        raise OSError("once more")

    with caplog.at_level(logging.ERROR):
        watch(look, 0.0, stop).join(10)
    assert len(looked) == 3
    assert len(caplog.records) == 3
