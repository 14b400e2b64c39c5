"""Read the Dockerfile, and run its steps in folders: the same commands without a container."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILT_WITHIN_S = 600


@dataclass
class Stage:
    """One stage: its instructions in order, and its name if it has one."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        return [text for word, text in self.instructions if word == instruction][-1]

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of its ENV instructions."""
        texts = [text for word, text in self.instructions if word == "ENV"]
        return dict(pair.split("=", 1) for text in texts for pair in text.split())

    @property
    def command(self) -> list[str]:
        words: list[str] = json.loads(self.last("CMD"))
        return words

    @property
    def healthcheck(self) -> list[str]:
        words: list[str] = json.loads(self.last("HEALTHCHECK").partition("CMD ")[2])
        return words


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the word and the rest of each instruction; lines that end with a backslash go on."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        yield word, re.sub(r"\s+", " ", rest).strip() if word != "HEALTHCHECK" else rest.strip()


def stages() -> tuple[dict[str, str], list[Stage]]:
    """Return the build arguments with their defaults, and the stages."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for word, rest in instructions((ROOT / "Dockerfile").read_text("utf-8")):
        if word == "ARG":
            name, _, default = rest.partition("=")
            arguments[name] = default
        elif word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].instructions.append((word, rest))
    return arguments, found


def ignored(path: Path) -> bool:
    """Return whether .dockerignore leaves out a path below the root: all of its patterns are simple ones."""
    relative = path.relative_to(ROOT)
    for pattern in (ROOT / ".dockerignore").read_text("utf-8").split("\n"):
        if not pattern or pattern.startswith("#"):
            continue
        if pattern.startswith("**/"):
            if any(fnmatch(part, pattern[3:]) for part in relative.parts):
                return True
        elif fnmatch(relative.parts[0], pattern):
            return True
    return False


class Build:
    """The folders of a build. Each stage runs at the same place, as in a container.

    The last stage stays there; those before it are moved aside.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "image"
        self.files: set[Path] = set()
        """All paths of the last stage, when it was made."""
        self._aside = folder
        self._base = folder / "base"
        """A wrapper that makes the Python of this machine available as `python` with pip, like the base image's."""
        self._arguments, self.stages = stages()

    def run(self) -> None:
        """Run all steps."""
        venv.create(self._base, with_pip=True)
        for stage in self.stages:
            if self.folder.exists():
                shutil.move(self.folder, self._aside / self.stages[0].name)
            for word, rest in stage.instructions:
                if word == "COPY":
                    self._copy(rest)
                elif word == "RUN":
                    self._shell(stage, rest)
        self.files = set(self.folder.rglob("*"))

    @property
    def home(self) -> Path:
        """The working directory of the server."""
        return self._here(self.stages[-1].last("WORKDIR"))

    def environment(self, stage: Stage) -> dict[str, str]:
        """Return the variables of a stage's commands. Other programs of the base image are this machine's."""
        base = f"{self._base}/bin:/usr/bin:/bin"
        made = {"PATH": base} | {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        for name, value in stage.environment.items():
            made[name] = value.replace("/srv/", f"{self.folder}/srv/").replace("$PATH", base)
        return made

    def _here(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def _filled(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda match: self._arguments[match[1]], text)

    def _copy(self, rest: str) -> None:
        words = self._filled(rest).split()
        home = self._here(self.stages[0].last("WORKDIR"))
        if words[0].startswith("--from="):
            stage, source, target = words[0].partition("=")[2], words[1], words[2]
            shutil.copytree(self._aside / stage / source.lstrip("/"), home / target, symlinks=True)
        elif words == [".", "."]:
            for path in sorted(ROOT.iterdir()):
                if path.is_dir() and not ignored(path):
                    shutil.copytree(path, home / path.name, ignore=_left_out)
                elif not ignored(path):
                    shutil.copy2(path, home)
        else:
            assert not ignored(ROOT / words[0])
            home.mkdir(parents=True)
            shutil.copy2(ROOT / words[0], home / words[1])

    def _shell(self, stage: Stage, command: str) -> None:
        ran = subprocess.run(
            ["sh", "-c", command],
            cwd=self._here(stage.last("WORKDIR")),
            env=self.environment(stage),
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILT_WITHIN_S,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def _left_out(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if ignored(Path(folder) / name)]


def size_mb(folder: Path) -> float:
    """Return the size of a folder on the disk, as `du` reports it, in units of 1,000,000 bytes."""
    ran = subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True)
    return int(ran.stdout.split()[0]) * 1024 / 1e6
