"""One virtual environment for each side, from its pinned requirements, rebuilt only when these change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.cases import OURS

HERE = Path(__file__).resolve().parent
VENVS = HERE / ".venvs"
STAMP = "installed"


def requirements_of(peer: str) -> Path:
    """Return the requirements of a side: for Retort those of `make install`, without requirements of tests."""
    if peer == OURS:
        return HERE.parent / "requirements.txt"
    return HERE / "peers" / peer / "requirements.txt"


def python_of(peer: str) -> Path:
    return VENVS / peer / "bin" / "python"


def install(peer: str) -> str | None:
    """Make the peer's environment. Return None on success, else the reason for the failure in one line."""
    folder, requirements = VENVS / peer, requirements_of(peer)
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wanted and python_of(peer).exists():
        return None
    print(f"Setting up {peer} in {folder}: this once.", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(python_of(peer)), "-m", "pip", "install"]
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "--quiet", "--disable-pip-version-check", "--no-input", "--requirement", str(requirements)],
    ]
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            return reason(ran.stdout + ran.stderr)
    stamp.write_text(wanted)
    return None


def reason(output: str) -> str:
    """Return why pip failed: the first line with ERROR, or the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip said nothing"])[0 if errors else -1][:200]
