"""The parts of the tests leave out no test that they should run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.parts import MOST_CASES, PARTS, marks_of_all_tests, names_marker, sample, scope_of


@pytest.mark.parametrize(
    ("source", "marks"),
    [
        ("pytestmark = pytest.mark.slow\n", {"slow"}),
        ('pytestmark = [pytest.mark.slow, pytest.mark.needs_program("git")]\n', {"slow", "needs_program"}),
        ("pytestmark = [\n    pytest.mark.slow,\n    pytest.mark.early,\n]\n", {"slow", "early"}),
        ("@pytest.mark.slow\ndef test() -> None: ...\n", set()),
        ("class Tests:\n    pytestmark = pytest.mark.slow\n", set()),
    ],
)
def test_the_markers_of_a_module_are_read_without_importing_it(source: str, marks: set[str], tmp_path: Path) -> None:
    path = tmp_path / "test_module.py"
    path.write_text(source)
    assert marks_of_all_tests(path) == marks
    assert PARTS["unit"].has_none_in(path) is ("slow" in marks)
    assert not PARTS["shared"].has_none_in(path)
    path = path.rename(tmp_path / "other.py")
    assert marks_of_all_tests(path) == set()


@pytest.mark.parametrize(
    ("source", "is_named"),
    [
        ("pytestmark = [pytest.mark.server, pytest.mark.alone]\n", True),
        ("alone = pytest.mark.alone  # only what measures time\n", True),
        ("@pytest.mark.alone\ndef test() -> None: ...\n", True),
        ("@pytest.mark.alone_or_not\ndef test() -> None: ...\n", False),
        ("def test_alone() -> None: ...\n", False),
    ],
)
def test_modules_without_a_marker_are_not_imported_for_it(source: str, is_named: bool, tmp_path: Path) -> None:
    path = tmp_path / "test_module.py"
    path.write_text(source)
    assert names_marker(path, "alone") is is_named
    for part in ("alone", "both_workers_alone"):
        assert PARTS[part].has_none_in(path) is not is_named
        assert not PARTS[part].has_none_in(path.parent)
    assert not PARTS["shared"].has_none_in(path)
    assert not PARTS["both_workers"].has_none_in(path)


@pytest.mark.parametrize("count", [1, 2, MOST_CASES, MOST_CASES + 1, 5 * MOST_CASES])
def test_a_sample_has_the_first_and_the_last_case_of_each_test(count: int) -> None:
    tests: list[Any] = [SimpleNamespace(nodeid=f"a.py::test_many[{case}-::]") for case in range(count)]
    other: Any = SimpleNamespace(nodeid="a.py::test_one")
    chosen = sample([*tests, other])
    assert len(chosen) == min(count, MOST_CASES) + 1
    assert (chosen[0], chosen[-2], chosen[-1]) == (tests[0], tests[-1], other)


def test_tests_that_share_a_long_fixture_run_in_one_process() -> None:
    scopes = {scope_of(f"tests/wire/codecs/{name}.py::test") for name in ("test_bad_values", "test_every_kind")}
    assert scopes == {"tests/wire/codecs"}
    assert scope_of("tests/wire/codecs/test_hostile.py::test") == "tests/wire/codecs/test_hostile.py"
    assert scope_of("tests/wire/test_keys.py::test_one[a::b]") == "tests/wire/test_keys.py"
