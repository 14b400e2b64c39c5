"""One virtual environment for each real client, from its pinned requirements, and one folder of packages for Node.js.

They are in `build/clients/`, not in `.venv`, because the service does not need the clients' dependencies. They are made
again only when the pinned requirements change.
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
NPM = HERE / "npm"
VENVS = HERE.parents[1] / "build" / "clients"
STAMP = "installed"
INSTALLED_WITHIN_S = 900
ANSWERED_WITHIN_S = 120
UV = (sys.executable, "-m", "uv")
"""uv installs in a fifth of the time that pip takes."""


def python_of(client: str) -> Path:
    """Return the Python of a client's environment. Make the environment if necessary; skip the test if that fails."""
    return python_with(client, HERE / "requirements" / f"{client}.txt")


def python_with(name: str, requirements: Path) -> Path:
    """Return the Python of an environment with these requirements. Make it or skip like `python_of`."""
    folder = VENVS / name
    python = folder / "bin" / "python"
    make = [*UV, "venv", "--quiet", "--python", sys.executable, str(folder)]
    install = [*UV, "pip", "install", "--quiet", "--python", str(python), "--requirement", str(requirements)]
    _install(folder, requirements.read_bytes() + sys.version.encode(), make, install)
    return python


def node_modules(pinned: Path = NPM) -> Path:
    """Return the installed packages of a folder's `package-lock.json`. Install them or skip like `python_of`."""
    folder = VENVS / pinned.name
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    lock = pinned / "package-lock.json"
    copy = ["cp", str(pinned / "package.json"), str(lock), str(folder)]
    _install(folder, lock.read_bytes(), ["mkdir", "--parents", str(folder)], copy, install)
    return folder / "node_modules"


def _install(folder: Path, pinned: bytes, *commands: list[str]) -> None:
    """Run the commands that fill a folder, unless it already has the pinned requirements."""
    stamp, wanted = folder / STAMP, hashlib.sha256(pinned).hexdigest()
    if stamp.is_file() and stamp.read_text("ascii") == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALLED_WITHIN_S)
        if ran.returncode:
            pytest.skip(f"{folder.name} cannot be installed: {(ran.stderr or ran.stdout).strip()[-300:]}")
    stamp.write_text(wanted, "ascii")


def said_by(client: str, script: str, *arguments: str, path: Path | None = None) -> Any:
    """Run a script of `scripts/` with the client's Python, and return the JSON that it prints in its last line.

    `path` is a folder of modules that it imports.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    command = [str(python_of(client)), str(HERE / "scripts" / f"{script}.py"), *arguments]
    return json.loads(ran(command, environment).splitlines()[-1])


def ran(command: list[str], environment: dict[str, str], folder: Path | None = None) -> str:
    """Return the output of a command; fail if the command fails."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=ANSWERED_WITHIN_S, env=environment
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout
