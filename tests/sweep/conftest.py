"""Prints the sweep's table when the run is over, and writes it as a page where asked."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import joblib
import pytest

from app.packing.spawn import PackRequest
from app.packing.write import pack

from .cases import Case
from .report import BATCHED, LINES, Line, page, table, title


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--estimators PAGE` writes the table."""
    parser.addoption("--estimators", type=Path, help="write the sweep's table as a Markdown page to this file")


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Line], None]:
    """Adds a line to the table."""
    return request.config.stash.setdefault(LINES, []).append


@pytest.fixture
def report_batched(request: pytest.FixtureRequest) -> Callable[[str, bool], None]:
    """Notes whether an estimator, batched, gave every client the notebook's answers."""
    return request.config.stash.setdefault(BATCHED, {}).__setitem__


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """A repository with the case's estimator alone in it, packed once as `flask models add` does."""

    @cache
    def packed_once(asked: Case) -> Path:
        folder = tmp_path_factory.mktemp(asked.name)
        artifact, models = folder / "model.joblib", folder / "models"
        joblib.dump(asked.estimator, artifact)
        sample = None
        if asked.sample is not None:
            sample = str(folder / "sample.csv")
            asked.sample.to_csv(sample, index=False)
        with warnings.catch_warnings():
            # Packing runs with warnings ignored, in a process of its own; here it runs in this one, for speed.
            warnings.simplefilter("ignore")
            pack(PackRequest(str(artifact), asked.name, str(models), sample))
        return models

    return packed_once


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table, where the sweep ran."""
    batched = config.stash.get(BATCHED, {})
    lines = [replace(line, batched=batched.get(line.estimator)) for line in config.stash.get(LINES, [])]
    if lines:
        terminalreporter.section(title(lines))
        terminalreporter.write_line(table(lines))
        target = config.getoption("--estimators", default=None)
        if target is not None:
            target.parent.mkdir(exist_ok=True)
            target.write_text(page(lines), "utf-8")
