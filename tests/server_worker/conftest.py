"""Gunicorn's own corpus of requests: in its source release, not in this repository."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

FETCH_WITHIN_S = 300.0


@pytest.fixture(scope="session")
def gunicorn_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source release of the Gunicorn that is installed."""
    folder = tmp_path_factory.mktemp("gunicorn")
    version = importlib.metadata.version("gunicorn")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", "gunicorn", f"gunicorn=={version}", "--dest", str(folder)]
    fetched = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_WITHIN_S, check=False)
    if fetched.returncode:
        pytest.skip(f"Gunicorn's source release could not be fetched: {fetched.stderr.strip()[-300:]}")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())
