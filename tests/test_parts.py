"""The parts of the tests leave out no test that they should run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts import PARTS, marks_of_all_tests, names_marker


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
