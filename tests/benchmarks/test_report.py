"""Ratios with their spread, the report and the charts, from figures that are known."""

# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import charts, report
from benchmarks.cases import (
    BARE_FLASK,
    BARE_WSGI,
    BARS,
    CASES,
    FLASK,
    OURS,
    OURS_LOGGED,
    OURS_UNBATCHED,
    OURS_WITHOUT,
    TUTORIAL,
)
from benchmarks.figures import Figures, Side, of_bar, our_failures
from benchmarks.spread import Spread, difference, ratio


def side(*cpu_us: float) -> Side:
    rounds = [
        {"cpu_us": us, "throughput": 1e6 / us, "p50_us": us * 16, "p99_us": us * 20, "requests": 1e6 / us}
        | {"others_share": 0.01}
        for us in cpu_us
    ]
    return {"rounds": rounds, "differing": 0, "asked": 32}


def figures() -> Figures:
    return {
        "machine": {
            "cpu": "A CPU",
            "cores": 2,
            "memory_gb": 24,
            "system": "Linux 6",
            "python": "3.11.7",
            "server_core": 0,
            "client_core": 1,
        },
        "run": {
            "date": "2026-11-23 04:00 UTC",
            "command": "make bench",
            "revision": "abc",
            "worker_class": "gthread",
            "wrk": "wrk 4.1.0",
            "rounds": 3,
            "seconds": 2.0,
            "minutes": 9.5,
        },
        "versions": {OURS: {"flask": "3.1.3"}},
        "cases": {
            "linear": {
                OURS: side(100, 110, 120),
                TUTORIAL: side(400, 410, 360),
                FLASK: {"failure": "it could not be installed: no route"},
                "fastapi_onnx": side(150, 160, 170),
                "mlserver": side(700, 700, 700),
                "litserve": side(900, 900, 900),
            },
            "layers": {BARE_WSGI: side(40), BARE_FLASK: side(70), OURS: side(110)},
        },
        "memory": {OURS: {"1": 400.0, "4": 480.0}, TUTORIAL: {"1": 500.0, "4": 2000.0}},
        "start": {OURS: {"seconds": [1.0, 1.1]}, TUTORIAL: {"seconds": [2.0, 2.4]}},
        "timings": {"linear": {"parse": 4.0, "validate": 6.0, "queue": 0.0, "run": 15.0, "encode": 3.0, "rest": 8.0}},
    }


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio([400, 410, 360], [100, 110, 120]) == Spread(410 / 110, 3, 4)


def test_a_difference_is_taken_round_by_round_and_has_its_unit() -> None:
    assert difference([108, 119, 117, 1], [100, 110, 112]) == Spread(8, 5, 9)
    found = figures()
    found["cases"]["gateway"] = {OURS_LOGGED: side(108, 119, 117), OURS_WITHOUT: side(100, 110, 112)}
    line = next(line for line in report.bars_table(found).splitlines() if "access log" in line)
    assert line.endswith("| ≤ 10 µs | 8.00 µs (5.00–9.00) | yes |")


def test_a_round_that_one_side_lacks_is_left_out() -> None:
    assert ratio([400, 410], [100]) == Spread(4, 4, 4)


@pytest.mark.parametrize(
    ("figure", "shown"), [(0.5, "0.50"), (12.34, "12.3"), (123.4, "123"), (4200.0, "4,200"), (0.0, "0.00")]
)
def test_figures_have_about_three_digits(figure: float, shown: str) -> None:
    assert report.number(figure) == shown


@pytest.mark.parametrize(("us", "shown"), [(105.2, "105 µs"), (4200, "4.2 ms"), (123_000, "123 ms")])
def test_durations_are_readable(us: float, shown: str) -> None:
    assert charts.duration(us) == shown


def test_bars_are_held_against_the_figures() -> None:
    by_title = {bar.title: of_bar(figures(), bar) for bar in BARS}
    assert by_title["2-feature logistic regression, against the FastAPI tutorial"] == Spread(410 / 110, 3, 4)
    assert by_title["memory of 4 workers, 300 MB model, against 1 worker"] == Spread(1.2, 1.2, 1.2)
    assert by_title["30-feature forest, against the FastAPI tutorial"] == "not measured in this run"


def test_the_table_of_bars_distinguishes_met_with_gthread_and_not_measured() -> None:
    found = figures()
    found["cases"]["linear"][TUTORIAL] = side(200, 220, 240)
    lines = report.bars_table(found).splitlines()
    assert lines[2].endswith("| ≥ 4 ×, ≥ 1.7 × with gthread | 2.00 × (2.00–2.00) | yes, with gthread |")
    assert not [line for line in lines if "forest, against the FastAPI" in line], "the case forest was not run"
    found["run"]["worker_class"] = "app.server.RetortWorker"
    assert report.bars_table(found).splitlines()[2].endswith("| **no** |")


def test_the_report_says_what_failed_in_words() -> None:
    text = report.markdown(figures())
    assert "| Flask, the tutorial | not measured: it could not be installed: no route |" in text
    assert "CPU, of Retort's" in text
    assert "| answering together, and the rest | 34 |" in text


def test_the_report_says_what_one_core_answers_in_requests_and_rows() -> None:
    found = figures()
    sides = next(case.sides for case in CASES if case.name == "table")
    found["cases"]["table"] = {key: {"failure": "not run"} for key in sides} | {OURS: side(1000, 2000, 4000)}
    text = report.markdown(found)
    assert "| logistic regression | 1 | 9,091 | 9,091 | 110 | 2.20 |" in text
    assert "| forest, 30 numbers a row | 1,000 | 500 | 500,000 | 2,000 | 40.0 |" in text
    assert "| Retort | 400 | 480 | 27 | 1.20 × |" in text
    assert "What one core answers" not in report.markdown(found | {"cases": {}})


def test_a_busy_machine_is_reported() -> None:
    found = figures()
    assert "quiet machine" not in report.markdown(found)
    for side in found["cases"]["linear"].values():
        for one in side.get("rounds", []):
            one["others_share"] = 0.5
    assert "it had 50% of the servers' core" in report.markdown(found)


def test_a_bar_on_a_side_that_failed_has_a_reason() -> None:
    found = figures()
    found["cases"]["batching"] = {OURS: side(100), OURS_UNBATCHED: {"failure": "no such setting"}}
    bar = next(bar for bar in BARS if bar.case == "batching")
    assert of_bar(found, bar) == "no such setting"


def test_only_our_own_failure_fails_the_run() -> None:
    found = figures()
    assert our_failures(found) == []
    found["cases"]["linear"][OURS] = {"failure": "1 of 32 predictions are not the notebook's"}
    assert our_failures(found) == ["Logistic regression, 2 features: 1 of 32 predictions are not the notebook's"]


def test_everything_is_written(tmp_path: Path) -> None:
    report.write(figures(), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == figures()
    for chart in report.CHARTS:
        root = ElementTree.fromstring((tmp_path / chart).read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert f"]({chart})" in (tmp_path / "RESULTS.md").read_text()


def test_the_longest_bar_fills_its_room_and_ours_is_marked() -> None:
    chart = charts.svg("t", [charts.Panel("p", [charts.Row("a", 50, "50", True), charts.Row("b", 100, "100", False)])])
    root = ElementTree.fromstring(chart)
    bars = {
        bar.get("class"): float(bar.get("width", ""))
        for bar in root.iter("{http://www.w3.org/2000/svg}rect")
        if bar.get("class") != "page"
    }
    assert bars["peer"] == pytest.approx(2 * bars["ours"], abs=0.1)


def test_a_run_without_any_figures_still_makes_charts() -> None:
    ElementTree.fromstring(charts.cost({"cases": {}}))
    ElementTree.fromstring(charts.memory_and_start({}))
