"""Prints the sweep's table when the run is over, and writes it as a page where asked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .report import LINES, Line, page, table, title


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--estimators PAGE` writes the table."""
    parser.addoption("--estimators", type=Path, help="write the sweep's table as a Markdown page to this file")


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
        target = config.getoption("--estimators", default=None)
        if target is not None:
            target.parent.mkdir(exist_ok=True)
            target.write_text(page(lines), "utf-8")
