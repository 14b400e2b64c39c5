"""Tests of the soak: its figures and bounds, its trends, its rows, and a short run against a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.process import ROOT, environment
from tests.soak import __main__ as soak
from tests.soak.rows import Bounds, Row
from tests.soak.sheet import Sheet, table, write_report
from tests.soak.steady import _tell_pace
from tests.soak.trend import Sample, Watch, best_cpu_us, best_p99_s, slope, wait_share


def sheet(value: float) -> Sheet:
    one = Sheet("n01", "few | none")
    one.tell("asked", 12_345)
    one.below("took", value, 0.5, "s")
    return one


def test_a_figure_is_compared_with_its_bound() -> None:
    assert sheet(0.4).verdict == "passes"
    assert not sheet(0.5).holds
    assert not sheet(float("nan")).holds
    one = Sheet("a", "b")
    assert not one.holds  # nothing was measured
    one.at_least("goodput", 85, 85, "%")
    one.exactly("mixed", 0, 0)
    one.none_of({})
    assert one.holds
    one.none_of({"hung": 2, "reset": 0})
    assert one.measured.endswith("other outcomes 2 (= 0) FAILS; hung 2")
    assert not one.holds


def test_the_table_and_the_reports(tmp_path: Path) -> None:
    sheets = [sheet(0.4), sheet(float("inf")), Sheet("p03", "0 errors", stopped="nginx is not installed")]
    lines = table(sheets).splitlines()
    assert lines[2] == r"| n01 | few \| none | asked 12,345; took 0.4 s (< 0.5) | passes |"
    assert lines[3].endswith("took inf s (< 0.5) FAILS | FAILS |")
    assert lines[4].endswith("| stopped: nginx is not installed |")
    write_report(tmp_path / "soak.md", sheets)
    assert (tmp_path / "soak.md").read_text("utf-8").splitlines() == lines
    write_report(tmp_path / "soak.json", sheets)
    told = json.loads((tmp_path / "soak.json").read_text("utf-8"))
    assert [one["holds"] for one in told] == [True, False, False]
    assert told[0]["figures"][1] == {"name": "took", "value": 0.4, "unit": "s", "bound": "< 0.5", "holds": True}
    assert told[1]["figures"][1]["value"] is None


def test_the_line_through_samples() -> None:
    assert slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)
    assert slope([0, 1, 2, 3], [4, 4, 4, 4]) == 0
    assert slope([1], [5]) == slope([2, 2], [5, 6]) == 0


def test_growth_is_measured_after_the_warm_up() -> None:
    watch = Watch(0)
    for at in range(21):
        rss_mb = 10.0 * at if at < 10 else 100 + 0.3 * (at - 10)
        told = {"cpu_s": at * 0.5, "p99_s": 0.01 * (1 + at % 3), "core_wait_s": 0.3 * at}
        watch.samples.append(Sample(10_000 * at, at, rss_mb, 20, 9, **told))
    assert watch.slope("rss_mb") == pytest.approx(3)
    assert watch.growth("rss_mb") == pytest.approx(3)
    assert watch.slope("threads") == watch.growth("descriptors") == 0
    assert watch.has_thirds
    first, last = watch.thirds()
    assert best_p99_s(first) == best_p99_s(last) == pytest.approx(0.01)
    assert best_cpu_us(last) == pytest.approx(50)
    assert wait_share(last) == pytest.approx(0.3)


def test_a_run_that_is_over_within_a_tick_has_no_thirds() -> None:
    watch = Watch(0)
    assert not watch.has_thirds
    watch.samples += [Sample(2000, 1, 60, 20, 9, 0.5, 0.1, 0)]
    assert not watch.has_thirds
    assert watch.slope("rss_mb") == watch.growth("rss_mb") == 0


def pace(wait_share: float, slower: float, cpu: float) -> bool:
    """Return the verdict on a last third with this much more p99 and CPU per request than the first."""
    first, last = (
        [Sample(at * 1000, at, 60, 20, 9, at * 0.5 * by[1], 0.1 * by[0], at * wait_share) for at in range(10)]
        for by in ((1, 1), (slower, cpu))
    )
    one = Sheet("r01", "flat")
    _tell_pace(first, last, one)
    return one.holds


def test_a_slower_end_fails_by_p99_or_on_a_busy_machine_by_cpu() -> None:
    assert pace(0.05, slower=1.05, cpu=1.5)
    assert not pace(0.05, slower=1.5, cpu=1.0)
    assert pace(0.4, slower=1.5, cpu=1.05)
    assert not pace(0.4, slower=1.0, cpu=1.5)


def test_rows_are_chosen_by_the_beginnings_of_their_names() -> None:
    names = [row.name for row in soak.ROWS]
    assert len(set(names)) == len(names)
    assert [row.name for row in soak.chosen(soak.ROWS, "r01,P04")] == ["p04", "r01-predict", "r01-mix", "r01-artifact"]
    assert soak.chosen(soak.ROWS, "") == list(soak.ROWS)
    with pytest.raises(ValueError, match="no row is called x9"):
        soak.chosen(soak.ROWS, "p02,x9")


def test_the_error_that_stops_a_row_is_on_its_sheet() -> None:
    def run(bounds: Bounds, sheet: Sheet) -> None:
        assert list(bounds.folder.iterdir()) == []
        raise OSError("no descriptors")

    assert soak.run_row(Row("x", "y", 1, run), 1, 1).verdict == "stopped: OSError: no descriptors"
    assert "nowhere-to-be-found is not" in soak.run_row(Row("x", "y", 1, run, "nowhere-to-be-found"), 1, 1).verdict


def run_soak(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.soak", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.server
@pytest.mark.alone
@pytest.mark.own_worker("it counts nothing")
@pytest.mark.fault("R01")
def test_a_short_soak(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    rows = "o06,n04,r01-mix,b01-bad,b02,b03"
    ran = run_soak("--rows", rows, "--minutes", "0.4", "--requests", "2000", "--report", str(report))
    told = {sheet["row"]: sheet for sheet in json.loads(report.read_text("utf-8"))}
    assert set(told) == set(rows.split(",")), ran.stderr
    assert not any(sheet["stopped"] for sheet in told.values()), told
    figures = {row: {figure["name"]: figure for figure in sheet["figures"]} for row, sheet in told.items()}
    assert figures["o06"]["answers of another"]["value"] == 0
    assert figures["r01-mix"]["other outcomes"]["value"] == 0
    assert figures["n04"]["not closed"]["value"] == 0
    assert figures["b01-bad"]["streams begun"]["holds"]
    assert figures["b02"]["told 429"]["holds"]
    assert figures["b02"]["wrong answers"]["value"] == figures["b03"]["wrong answers"]["value"] == 0
    for row in ("b01-bad", "b02"):
        assert figures[row]["workers replaced"]["value"] == figures[row]["other outcomes"]["value"] == 0
    # The speed depends on the machine, and the exit status on all figures.
    assert ran.returncode == (0 if all(sheet["holds"] for sheet in told.values()) else 1)


@pytest.mark.slow
def test_unknown_rows_are_refused_with_a_reason() -> None:
    ran = run_soak("--rows", "z")
    assert ran.returncode == 2
    assert "there are p02, p03" in ran.stderr
