"""`pytest --faults=PAGE`: run only the tests with the marker `fault`, and write their outcomes to the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import page


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=Path, help="run the tests that inject faults, and write their outcomes here")


def configure(config: pytest.Config) -> str:
    """Record the outcomes if the option is given, and return the expression of markers that chooses the tests."""
    target = config.getoption("--faults", default=None)
    if target is None:
        return ""
    if not hasattr(config, "workerinput"):  # a process of pytest-xdist reports to the first one
        config.pluginmanager.register(Recorder(target), "faults")
    return "fault"


class Recorder:
    """Collect the outcome of each test, the worst of its three phases."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.found.get(report.nodeid) in (None, "passed"):
            self.found[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        if self.found:
            page.write(self.target, self.found)
