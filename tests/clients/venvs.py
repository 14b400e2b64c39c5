"""One virtual environment for each real client, from its pinned requirements; made again only when those change.

They stand in `build/clients/`, not in `.venv`: a client's dependencies are no concern of the service's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
VENVS = HERE.parents[1] / "build" / "clients"
STAMP = "installed"
INSTALLED_WITHIN_S = 900
ANSWERED_WITHIN_S = 120


def python_of(client: str) -> Path:
    """The Python of a client's environment, which is made first where it is not there; skips where it cannot be."""
    folder, requirements = VENVS / client, HERE / "requirements" / f"{client}.txt"
    python, stamp = folder / "bin" / "python", folder / STAMP
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text("ascii") == wanted and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    pip = (str(python), "-m", "pip")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", "--requirement", str(requirements)],
    ):
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALLED_WITHIN_S)
        if ran.returncode:
            pytest.skip(f"{client} cannot be installed: {(ran.stderr or ran.stdout).strip()[-300:]}")
    stamp.write_text(wanted, "ascii")
    return python


def said_by(client: str, script: str, *arguments: str) -> Any:
    """What a script of `scripts/`, run by the client's Python, printed as JSON in its last line."""
    command = [str(python_of(client)), str(HERE / "scripts" / f"{script}.py"), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=ANSWERED_WITHIN_S, env=environment
    )
    assert ran.returncode == 0, ran.stderr[-5000:]
    return json.loads(ran.stdout.splitlines()[-1])
