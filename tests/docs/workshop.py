"""A copy of the repository in which the commands of the pages run, in the order of the pages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import Block
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, environment

COPIED = ("docs", "benchmarks/RESULTS.md", "benchmarks/__init__.py", "benchmarks/quotes.py", "wsgi.py")
COPIED += ("README.md", "Makefile", "setup.cfg", ".gitignore")
LINKED = ("app", "examples")
MAKE = """#!/bin/sh
# In place of make, whose commands have tests of their own: there has to be such a command; settings are checked.
set -eu
grep -q "^$1:" Makefile || { echo "make has no command $1" >&2; exit 2; }
[ "$1" != serve ] || exec .venv/bin/python -m app.start true
"""
ENDS_WITHIN_S = 180


@dataclass(frozen=True)
class Ran:
    """The exit status and the output of a block."""

    status: int
    printed: str
    errors: str


@dataclass
class Workshop:
    """The folder, and the result of each block that ran in it."""

    folder: Path
    ran: dict[Block, Ran] = field(default_factory=dict)

    @classmethod
    def made_in(cls, folder: Path) -> Workshop:
        """Copy the files that commands change, and link the files that they only read."""
        for name in COPIED:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, folder / name)
        shutil.copytree(EXAMPLE_MODELS, folder / "models")
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "bin").mkdir()
        (folder / "bin" / "make").write_text(MAKE)
        (folder / "bin" / "make").chmod(0o755)
        workshop = cls(folder)
        heroku = folder.parent / f"{folder.name}-heroku.git"
        for command in (("init", "-qb", "main"), ("init", "-q", "--bare", str(heroku))):
            workshop.run("git", *command)
        workshop.run("git", "remote", "add", "heroku", str(heroku))
        return workshop

    def run(self, *command: str) -> Ran:
        """Run a command in the folder."""
        person = {
            f"GIT_{role}_{what}": "someone@example.org"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        variables = environment(HOME=self.folder, GIT_CONFIG_NOSYSTEM=1, **person)
        variables["RETORT_INSTANCE_DIR"] = str(self.folder / "instance")
        variables["PATH"] = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{variables['PATH']}"
        ran = subprocess.run(
            command,
            cwd=self.folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=ENDS_WITHIN_S,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def take(self, block: Block) -> None:
        """Run a block, or write it to the file of its title.

        A block that is on several pages runs once. Files of the repository itself stay unchanged.
        """
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text(block.text, "utf-8")
        elif (same := next((each for each in self.ran if each.text == block.text), None)) is not None:
            self.ran[block] = self.ran[same]
        elif block.language == "sh":
            self.ran[block] = self.run("sh", "-ec", block.text)
        else:
            self.ran[block] = self.run(sys.executable, "-c", block.text)


def is_taken(block: Block) -> bool:
    """Return whether a block is run, or written, before a server starts."""
    if block.title:
        return True
    if block.language == "python":
        return "localhost:8000" not in block.text
    return block.language == "sh" and not block.is_request


def shown_in(shown: str, printed: str) -> bool:
    """Return whether a page shows this output. `…` stands for any text, on a line of its own for any lines."""
    pattern = re.escape(shown.strip()).replace(re.escape("…"), "…")
    pattern = re.sub(r"\n(\\ )*…(?=\n|$)", "(\n.*)*?", pattern).replace("…", ".*")
    return re.fullmatch(pattern, printed.strip()) is not None
