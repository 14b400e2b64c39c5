"""The tests that the pages about promises and faults name exist, and the pages agree with the markers."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.docs.pages import rows, text_of
from tests.end_to_end.process import ROOT, environment
from tests.faults.page import PASSED, marked
from tests.faults.rows import FAULTS, SECTIONS

PROMISES = {promise: re.findall(r"`([^`]+)`", tests) for promise, _, tests in rows("docs/promises.md", "promise")}


def test_the_page_has_the_known_promises() -> None:
    assert len(PROMISES) == 8
    assert all(len(tests) >= 3 for tests in PROMISES.values())


@pytest.mark.parametrize("promise", PROMISES)
def test_each_named_test_exists(promise: str) -> None:
    for test in PROMISES[promise]:
        path, _, name = test.partition("::")
        functions = ast.parse((ROOT / path).read_text("utf-8")).body
        assert name in [function.name for function in functions if isinstance(function, ast.FunctionDef)], test


@pytest.mark.slow
def test_pytest_collects_each_of_them() -> None:
    named = sorted({test for tests in PROMISES.values() for test in tests})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", *named]
    variables = environment(RETORT_WORKER="retort")
    collected = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout[-3000:] + collected.stderr[-3000:]


@pytest.mark.slow
def test_each_fault_has_a_test_or_a_reason_and_every_marker_names_a_fault() -> None:
    tests = marked()
    assert tests.keys() == FAULTS.keys()
    assert len(FAULTS) == sum(map(len, SECTIONS.values()))
    assert {id_ for id_, fault in FAULTS.items() if bool(tests[id_]) is bool(fault.untested)} == set()
    assert all(fault.expected or fault.untested for fault in FAULTS.values())


@pytest.mark.slow
def test_the_page_of_faults_has_the_faults_and_the_tests_that_are_marked() -> None:
    """The results may differ: comparing the rest needs no run."""
    tests, told = marked(), rows("docs/faults.md", "id")
    written = {row[0]: row for row in told}
    assert len(written) == len(told)
    assert list(written) == list(FAULTS), "`make faults` writes docs/faults.md"
    for id_, fault in FAULTS.items():
        _, what, happened, named_there, *peers = written[id_]
        assert (what, "".join(peers)) == (fault.fault, fault.peers), id_
        assert re.findall(r"`([^`]+)`", named_there) == tests[id_], id_
        assert happened in (f"{PASSED}: {fault.expected}", fault.untested) or happened.startswith("**"), id_


def test_the_page_of_faults_has_its_date_and_is_not_edited() -> None:
    text = text_of("docs/faults.md")
    assert "Do not edit this page" in text
    assert re.search(r"Generated (from )?20\d\d-\d\d-\d\d \d\d:\d\d", text)
