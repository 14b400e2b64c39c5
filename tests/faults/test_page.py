"""The page of faults: a fault passed only if each of its tests has, with all parameters."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults import page
from tests.faults.page import Outcome, happened
from tests.faults.plugin import Recorder
from tests.faults.rows import FAULTS, Fault

FAULT = Fault("P99", "the lights go out", "somebody brings a candle")
TESTS = ["tests/a.py::test_candle", "tests/b.py::test_match"]
PASSED = {"tests/a.py::test_candle[wax]": "passed", "tests/a.py::test_candle[oil]": "passed"}
PASSED |= {"tests/b.py::test_match": "passed"}


def outcomes(**changed: str) -> dict[str, Outcome]:
    return {test: Outcome(outcome, "2026-11-29 20:00") for test, outcome in (PASSED | changed).items()}


def test_a_fault_passed_if_all_of_its_tests_have() -> None:
    assert happened(FAULT, TESTS, outcomes()) == "passed: somebody brings a candle"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tests/a.py::test_candle[oil]": "failed"}, "**failed**: `test_candle`"),
        ({"tests/b.py::test_match": "skipped"}, "**skipped**: `test_match`"),
    ],
)
def test_the_page_names_the_tests_that_have_not_passed(changed: dict[str, str], message: str) -> None:
    assert happened(FAULT, TESTS, outcomes(**changed)) == message


def test_a_test_that_was_not_run_has_not_passed() -> None:
    told = happened(FAULT, [*TESTS, "tests/c.py::test_torch"], outcomes())
    assert told == "**not run**: `test_torch`"


def test_a_fault_without_a_test_has_a_reason() -> None:
    fault = Fault("P98", "the moon goes out", "", untested="no test: it is too far away")
    assert happened(fault, [], {}) == "no test: it is too far away"


def test_the_outcome_of_a_test_is_the_worst_of_its_phases(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "page.md")
    phases: list[Any] = [
        SimpleNamespace(nodeid=test, outcome=outcome)
        for test, outcome in (("a", "passed"), ("a", "failed"), ("a", "passed"), ("b", "skipped"), ("b", "passed"))
    ]
    for phase in phases:
        recorder.pytest_runtest_logreport(phase)
    assert recorder.found == {"a": "failed", "b": "skipped"}


@pytest.mark.slow
def test_a_run_adds_to_the_outcomes_of_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "OUTCOMES", tmp_path / "build" / "faults.json")
    page.write(tmp_path / "faults.md", {"a": "passed", "b": "failed"})
    page.write(tmp_path / "faults.md", {"b": "passed"})
    assert {test: found.outcome for test, found in page.read_outcomes().items()} == {"a": "passed", "b": "passed"}
    text = (tmp_path / "faults.md").read_text("utf-8")
    assert f"0 of {sum(not fault.untested for fault in FAULTS.values())} faults with tests passed" in text
