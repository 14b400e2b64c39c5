"""Tests of reading the output of wrk and files of /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.measure import Launch, Load, MeasureError, ProcessStat, core_busy_ticks, pss_bytes, tree, wrk_script

WRK = """\
Running 2s test @ http://127.0.0.1:8000
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.06ms  540.11us  12.37ms   92.61%
Requests/sec:   5210.11
wrk-summary {"requests":10420,"duration_us":2000000,"p50_us":2950.0,"p99_us":4410.5,"refused":0,"broken":0,"late":0}
"""


def stat_line(pid: int, parent: int, session: int, name: str = "gunicorn: worker (a b)", ticks: str = "5 6 7 8") -> str:
    return f"{pid} ({name}) S {parent} 1 {session} 0 -1 4194560 1 2 3 4 {ticks} 20 0 1 0 {pid * 10} 100 200\n"


def test_wrk_summary_is_read() -> None:
    load = Load.parsed(WRK)
    assert (load.requests, load.p50_us, load.p99_us, load.refused) == (10420, 2950.0, 4410.5, 0)
    assert load.throughput == 5210


@pytest.mark.parametrize(
    ("text", "message"), [("unable to connect to 127.0.0.1\n", "unable to connect"), ("", "nothing")]
)
def test_wrk_without_a_summary_is_an_error(text: str, message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        Load.parsed(text)


def test_wrk_script_holds_each_body_as_it_is() -> None:
    script = wrk_script("/predict", [b'{"a":"]]"}', b'{"b":"\\u00e9"}'])
    assert '[===[{"a":"]]"}]===],\n[===[{"b":"\\u00e9"}]===]' in script
    assert 'wrk.format("POST", "/predict", headers, body)' in script


def test_stat_of_a_process_whose_name_has_spaces_and_parentheses() -> None:
    assert ProcessStat.parsed(stat_line(7, 3, 3)) == ProcessStat(
        7, parent=3, session=3, ticks=26, started=70, state="S"
    )


def test_tree_is_the_session_and_every_descendant() -> None:
    lines = [stat_line(1, 0, 1), stat_line(10, 1, 10), stat_line(11, 10, 10), stat_line(12, 11, 12)]
    lines += [stat_line(13, 1, 10), stat_line(20, 1, 20)]
    everyone = {stat.pid: stat for stat in map(ProcessStat.parsed, lines)}
    assert [stat.pid for stat in tree(10, everyone)] == [10, 11, 12, 13]


def test_this_process_has_its_own_stat() -> None:
    assert measure.processes()[os.getpid()].parent == os.getppid()


def test_pss_is_in_bytes() -> None:
    assert pss_bytes("5560-7ffe ---p 00000000 00:00 0    [rollup]\nRss:  9000 kB\nPss:  1234 kB\n") == 1234 * 1024


def test_busy_ticks_of_a_core_leave_out_waiting() -> None:
    assert (
        core_busy_ticks("cpu 1 1 1 1 1 1 1 1 0 0\ncpu0 10 20 30 999 999 1 2 3 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n", 0) == 66
    )


def test_the_error_for_a_server_that_ends_at_start_has_its_last_output(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    launch = Launch([sys.executable, "-c", "raise SystemExit('no such model')"], tmp_path)
    with measure.running(launch, tmp_path / "log", core) as server, pytest.raises(MeasureError, match="no such model"):
        server.await_answer("/predict", b"{}")


def test_stop_ends_children_that_do_not_listen(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    log = tmp_path / "log"
    with measure.running(Launch([sys.executable, "-c", code], tmp_path), log, min(os.sched_getaffinity(0))) as server:
        while not log.read_text().strip():
            subprocess.run(["sleep", "0.01"], check=True)
        child = int(log.read_text())
        assert child in {stat.pid for stat in server.tree()}
    assert child not in measure.processes() or measure.processes()[child].state == "Z"
