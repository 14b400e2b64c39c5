"""Clients of other servers, unmodified, each in a venv of its own: none of what they need is ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.server.process import ROOT, environment

HERE = Path(__file__).parent
BUILT = ROOT / "build" / "clients"
ANSWERS_WITHIN_S = 120


def client_python(name: str) -> Path:
    """The Python of the venv with what `<name>.txt` lists; built once, and anew when the list changes."""
    wanted, folder = HERE / f"{name}.txt", BUILT / name
    installed, python = folder / "installed.txt", folder / "bin" / "python"
    if not installed.exists() or installed.read_bytes() != wanted.read_bytes():
        BUILT.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install"]
        subprocess.run([*pip, "--requirement", wanted], check=True)
        installed.write_bytes(wanted.read_bytes())
    return python


def said(name: str, script: str, *arguments: object) -> Any:
    """What a script prints, as JSON, in the venv of a client."""
    command = [client_python(name), HERE / script, *map(str, arguments)]
    ended = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=ANSWERS_WITHIN_S
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])
