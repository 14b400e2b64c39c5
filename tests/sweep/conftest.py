"""Prints the sweep's table when the run is over."""

from collections.abc import Callable

import pytest

from .report import LINES, Line, table, title


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Line], None]:
    """Adds a line to the table."""
    return request.config.stash.setdefault(LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table, where the sweep ran."""
    lines = config.stash.get(LINES, [])
    if lines:
        terminalreporter.section(title(lines))
        terminalreporter.write_line(table(lines))
