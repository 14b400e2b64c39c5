"""The parts of the tests: those that `make unit` runs, and the runs of `make test`. `pytest --part NAME` chooses one.

Tests that need servers, browsers or long fixtures are marked by their place. Modules of other parts are not imported,
because importing all of them takes longer than many parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARKED = {
    "browser": "browser",
    "clients": "server",
    "end_to_end": "server",
    "packing/exporters": "graphs",
    "sweep": "sweep",
}
"""Markers of all tests in a folder."""

MOST_CASES = 4
"""Cases of one test that `make unit` runs. The other parts run all."""


@dataclass(frozen=True)
class Part:
    """The tests that an expression of markers chooses. The other fields name places with such tests, or without them.

    A module has no such tests if it gives the marker `without_modules` to all its tests, or does not name the marker
    `only_modules`.
    """

    expression: str
    within: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    without_modules: str = ""
    only_modules: str = ""

    def has_none_in(self, path: Path) -> bool:
        if any(path == HERE / place for place in self.without):
            return True
        if self.without_modules and self.without_modules in marks_of_all_tests(path):
            return True
        if self.only_modules and path.match("test_*.py") and not names_marker(path, self.only_modules):
            return True
        return bool(self.within) and path.parent == HERE and path.name not in self.within


PARTS = {
    "unit": Part(
        "not (alone or browser or graphs or server or slow or sweep)", without=tuple(MARKED), without_modules="slow"
    ),
    "in_process": Part(
        "not (alone or browser or early or server or sweep)", without=("browser", "clients", "end_to_end", "sweep")
    ),
    "lowest": Part(
        "not (alone or browser or early or pinned or server or sweep)",
        without=("browser", "clients", "end_to_end", "sweep"),
    ),
    "shared": Part("not alone"),
    "alone": Part("alone", within=("server", "signature", "soak", "wire"), only_modules="alone"),
    "both_workers": Part(
        "server and not (alone or any_worker or browser or sweep)", within=("end_to_end", "server", "soak")
    ),
    "both_workers_alone": Part(
        "server and alone and not (any_worker or browser or sweep)",
        within=("end_to_end", "server", "soak"),
        only_modules="alone",
    ),
}
"""`in_process`: tests that call the application without a server, with coverage. `lowest`: the same, without tests that
hold only for the locked versions. `shared`: several processes run these at once. `alone`: tests that measure time or
load. `both_workers`: tests that depend on the worker class; Gunicorn's own class runs them too. `both_workers_alone`:
such tests that measure time or load."""


def marks_of_all_tests(path: Path) -> set[str]:
    """Return the markers that a module gives all its tests, read without importing it."""
    if not path.match("test_*.py"):
        return set()
    line = re.search(r"^pytestmark = .+(?:\n +.+)*", path.read_text("utf-8"), re.MULTILINE)
    return set(re.findall(r"pytest\.mark\.(\w+)", line[0])) if line else set()


def names_marker(path: Path, marker: str) -> bool:
    """Return whether a module names a marker, read without importing it."""
    return re.search(rf"\bmark\.{marker}\b", path.read_text("utf-8")) is not None


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--part", choices=sorted(PARTS), help="only the tests of this part")


def part_of(config: pytest.Config) -> Part | None:
    return PARTS.get(config.getoption("--part", default=None) or "")


def mark_by_place(tests: list[pytest.Item]) -> None:
    for test in tests:
        for marker in _markers_at(test.path):
            test.add_marker(marker)


@cache
def _markers_at(path: Path) -> list[str]:
    return [marker for folder, marker in MARKED.items() if path.is_relative_to(HERE / folder)]


def check_places(tests: list[pytest.Item]) -> None:
    """Refuse tests outside the places where their part looks for tests: nothing would run them.

    Raises:
        pytest.UsageError: there is one.
    """
    for name, marker in (("alone", "alone"), ("both_workers", "server")):
        places = [HERE / place for place in (*PARTS[name].within, *MARKED, "own")]
        for test in tests:
            if test.get_closest_marker(marker) and not any(test.path.is_relative_to(place) for place in places):
                raise pytest.UsageError(f"{test.nodeid} is marked {marker}: move it, or tell PARTS in tests/parts.py")
    for path in {test.path for test in tests if test.get_closest_marker("alone")}:
        if not names_marker(path, "alone"):
            raise pytest.UsageError(f"{path} has tests that are marked alone: name pytest.mark.alone in it")


def begin_with_the_longest(tests: list[pytest.Item]) -> None:
    """Move the tests with the marker `early` to the front: if they began last, they would outlast all others."""
    tests.sort(key=lambda test: test.get_closest_marker("early") is None)


def runs_a_sample(config: pytest.Config) -> bool:
    """Return whether this run is all of `unit`, and not some tests by name."""
    is_all = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    return part_of(config) is PARTS["unit"] and is_all


def sample(tests: list[pytest.Item]) -> list[pytest.Item]:
    """Return the first and the last case of each test, and some evenly spaced between them, in their order."""
    cases: dict[str, list[pytest.Item]] = {}
    for test in tests:
        cases.setdefault(test.nodeid.partition("[")[0], []).append(test)
    chosen = {
        id(some[number * (len(some) - 1) // (MOST_CASES - 1)])
        for some in cases.values()
        for number in range(MOST_CASES)
    }
    return [test for test in tests if id(test) in chosen]


def scope_of(test_id: str) -> str:
    """Return the file of a test, or its folder if the folder's tests share an expensive fixture.

    The tests of one scope run in one process, one after another.
    """
    file = test_id.partition("::")[0]
    if file.startswith("tests/wire/codecs/") and not file.endswith("test_hostile.py"):  # long, with other fixtures
        return "tests/wire/codecs"
    return "tests/sweep" if file.endswith(("test_batched.py", "test_fidelity.py")) else file
