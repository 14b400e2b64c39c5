"""The memory of this process as the system reports it."""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.telemetry.process_state import ROLLUP, memory_bytes, watch

WRITTEN = """55d0-7ffc ---p 00000000 00:00 0    [rollup]
Rss:               100 kB
Pss:                40 kB
Shared_Clean:       30 kB
Shared_Dirty:       20 kB
Private_Clean:      10 kB
Private_Dirty:       5 kB
"""


def test_the_figures_are_sums_of_fields_of_the_system(tmp_path: Path) -> None:
    rollup = tmp_path / "smaps_rollup"
    rollup.write_text(WRITTEN)
    assert memory_bytes(rollup) == {"shared": 50 * 1024, "private": 15 * 1024, "proportional": 40 * 1024}


def test_without_the_file_there_are_no_figures(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path / "none") == {}


@pytest.mark.skipif(not ROLLUP.exists(), reason="only Linux has it")
def test_the_memory_of_this_process_is_measured() -> None:
    found = memory_bytes()
    assert found["private"] > 2**20
    assert found["private"] <= found["proportional"] <= found["private"] + found["shared"]


def test_a_watch_continues_after_a_failure_and_ends_at_the_stop(caplog: pytest.LogCaptureFixture) -> None:
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


HOLDING = """
from app.telemetry.process_state import give_large_blocks_back, memory_bytes

{first}
kept = []
for _ in range(3):  # the first that are freed make glibc keep the next ones of their size
    large = [bytearray(15 * 2**20) for _ in range(4)]
    kept.append(bytearray(500_000))  # above them, so that they are not at the top of the heap
    del large
print(memory_bytes()["private"])
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_blocks_are_returned_to_the_system() -> None:
    def held(first: str) -> int:
        ran = subprocess.run([sys.executable, "-c", HOLDING.format(first=first)], capture_output=True, check=True)
        return int(ran.stdout)

    kept = held("")
    assert kept > 40 * 2**20, "glibc keeps nothing any more: the call is not needed"
    assert held("give_large_blocks_back()") < kept / 2


TAKING = """
import resource
from app.telemetry.process_state import keep_freed_blocks

{first}
for _ in range(10):
    [bytearray(30 * 2**20) for _ in range(3)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_blocks_that_are_taken_again_are_kept() -> None:
    def faults(first: str) -> int:
        ran = subprocess.run([sys.executable, "-c", TAKING.format(first=first)], capture_output=True, check=True)
        return int(ran.stdout)

    assert faults("keep_freed_blocks()") < faults("") / 2
