"""Commands that tests run in a repository of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.end_to_end.process import environment

PERSON = {f"GIT_{role}_{what}": "someone@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def run(folder: Path, *command: str, **variables: object) -> subprocess.CompletedProcess[str]:
    environ = environment(GIT_CONFIG_NOSYSTEM=1, HOME=folder.parent, **PERSON) | {
        k: str(v) for k, v in variables.items()
    }
    environ.pop("PYTHONPATH", None)  # the copy tests its own code
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def done(folder: Path, *command: str, **variables: object) -> str:
    """Run a command that has to succeed, and return its output."""
    ran = run(folder, *command, **variables)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout
