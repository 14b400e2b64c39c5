"""Print the sweep's table when the run is over, and write it as a page if `--estimators` asks for one."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.packing.moments import time_for_a_moment
from tests.sweep.packed import Packed

from .report import BATCHED, LINES, Line, page, table, title


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--estimators PAGE`, which writes the table."""
    parser.addoption("--estimators", type=Path, help="write the sweep's table as a Markdown page to this file")


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Line], None]:
    """Return a function that adds a line to the table."""
    return request.config.stash.setdefault(LINES, []).append


@pytest.fixture
def report_batched(request: pytest.FixtureRequest) -> Callable[[str, bool], None]:
    """Return a function that records whether a batched estimator gave every client the notebook's answers."""
    return request.config.stash.setdefault(BATCHED, {}).__setitem__


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Packed]:
    """Return repositories with one estimator each. Graph and artifact are timed exactly only for the page."""
    is_timed = pytestconfig.getoption("--estimators", default=None) is not None
    prepare = None if is_timed else time_for_a_moment
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), prepare) as processes:
        processes.submit(os.getpid).result()  # start its own thread now, before the tests that look for new threads
        yield Packed(tmp_path_factory.mktemp("packed"), processes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table if the sweep ran."""
    batched = config.stash.get(BATCHED, {})
    lines = [replace(line, batched=batched.get(line.estimator)) for line in config.stash.get(LINES, [])]
    if lines:
        terminalreporter.section(title(lines))
        terminalreporter.write_line(table(lines))
        target = config.getoption("--estimators", default=None)
        if target is not None:
            target.parent.mkdir(exist_ok=True)
            target.write_text(page(lines), "utf-8")
