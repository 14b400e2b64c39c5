"""Fixtures of the tests of the worker: turns without an end, and Gunicorn's own corpus of requests."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from app.server import fairness

FETCH_WITHIN_S = 300.0


@pytest.fixture(autouse=True)
def long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a turn of the loop do all that waits, however slow this machine is. A test may set less."""
    monkeypatch.setattr(fairness, "WORK_S", 60.0)


@pytest.fixture(scope="session")
def gunicorn_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source release of the installed Gunicorn."""
    folder = tmp_path_factory.mktemp("gunicorn")
    version = importlib.metadata.version("gunicorn")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", "gunicorn", f"gunicorn=={version}", "--dest", str(folder)]
    fetched = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_WITHIN_S, check=False)
    if fetched.returncode:
        pytest.skip(f"Gunicorn's source release could not be fetched: {fetched.stderr.strip()[-300:]}")
    # Not tarfile: its filters came with 3.11.4, and without them newer Pythons warn.
    subprocess.run(["tar", "--extract", "--file", next(folder.glob("*.tar.gz")), "--directory", folder], check=True)
    return next(path for path in folder.iterdir() if path.is_dir())
