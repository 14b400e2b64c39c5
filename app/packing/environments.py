"""The Python that packs an artifact: this one, one with the libraries of the training environment, or the user's own.

pip, or uv if it is installed, makes an environment once, from wheels alone. It is kept in the user's cache folder under
the hash of its requirements.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec
from packaging.specifiers import SpecifierSet

from app.errors import PackingRefused
from app.packing.spawn import Interpreter
from app.packing.stages import Progress, Stage
from app.packing.trained_with import (
    LIBRARIES,
    PACKING,
    SCIKIT_LEARN,
    Training,
    is_installed,
    pinned_as_here,
    requirements_of,
)
from app.runtime.environment import installed_version

OLDEST_PYTHON = (3, 11)
COMPLETE = "complete"
"""The file that marks a folder of the cache as complete."""

ISOLATED = ("-s",)
"""Options of Python: without the libraries that its user has installed for all environments."""

READERS = {".skops": "skops", ".parquet": "pyarrow", ".feather": "pyarrow", ".arrow": "pyarrow", ".xlsx": "openpyxl"}
"""The library that reads a file with this suffix, artifact or sample."""

UNREACHABLE = "the package index cannot be reached"
PROBE = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class _InstallFailed(Exception):
    """pip or uv failed; the text is the reason, as the end of a sentence."""


def interpreter_for(
    training: Training, files: Sequence[str], user_python: str | None, progress: Progress
) -> Interpreter | None:
    """Return the Python that packs an artifact with this training environment; None if this one does.

    `files` are the artifact, the sample and other files to read. `user_python`, the user's own Python, takes
    precedence. Refuse it if it does not meet the requirements, and refuse the artifact if no environment can be made.
    """
    readers = [library for suffix, library in READERS.items() if any(f.lower().endswith(suffix) for f in files)]
    if user_python is not None:
        return _user_interpreter(user_python, training, readers, progress)
    if all(is_installed(name, specifier) for name, specifier in training.requirements.items()):
        return None
    tested = sorted({*requirements_of(training), *readers})
    loose = sorted({*requirements_of(training, tested_only=False), *readers})
    reasons = []
    for python, requirements in itertools.product(_pythons(), (tested, loose)):
        try:
            return Interpreter(str(_environment(python, requirements, training, progress)), ISOLATED)
        except _InstallFailed as failed:
            reasons.append(str(failed))
            if reasons[-1] == UNREACHABLE:
                break
    raise PackingRefused(_instructions(training, tested, reasons[0]))


def _pythons() -> list[str]:
    """Return this Python, and those on PATH that are new enough for Retort."""
    pythons = {sys.version_info[:2]: sys.executable}
    for minor in range(OLDEST_PYTHON[1], OLDEST_PYTHON[1] + 10):
        other = shutil.which(f"python{OLDEST_PYTHON[0]}.{minor}")
        if other is not None:
            pythons.setdefault((OLDEST_PYTHON[0], minor), other)
    return list(pythons.values())


def _environment(python: str, requirements: Sequence[str], training: Training, progress: Progress) -> Path:
    """Return the Python of an environment with these requirements; make the environment if it is not in the cache."""
    label = re.sub(r"[^A-Za-z0-9.]+", "-", training.shown())[:40].strip("-")
    version = platform.python_version() if python == sys.executable else python
    folder = _cache() / f"{label}-{_digest([version, *requirements])}"
    python_file = folder / "bin" / "python"

    def make() -> None:
        of = "" if python == sys.executable else f" of {python}"
        progress.line(f"making an environment{of} with {training.shown()}, once, in {folder}")
        _run([python, "-m", "venv", *(["--without-pip"] if _has_pip() else []), str(folder)], progress)
        _run([*_installer(python_file), *requirements], progress)
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")

    _make_once(folder, python_file, make)
    return python_file


def _user_interpreter(python: str, training: Training, readers: Sequence[str], progress: Progress) -> Interpreter:
    """Return the user's own Python, with a folder of the libraries that it lacks for packing."""
    versions = _probe_versions(python, [*LIBRARIES, "joblib", *PACKING, *readers, *training.requirements])
    if tuple(map(int, versions["python"].split(".")[:2])) < OLDEST_PYTHON:
        raise PackingRefused(f"--python {python} is Python {versions['python']}; packing needs 3.11 or newer")
    for name, specifier in training.requirements.items():
        installed = versions.get(name)
        if installed is None or not SpecifierSet(specifier).contains(installed, prereleases=True):
            raise PackingRefused(
                f"--python {python} has {f'{name} {installed}' if installed else f'no {name}'}, and the artifact was "
                f"trained with {training.shown()} (says {training.source}); if that is not so, "
                "say it with --trained-with"
            )
    lacking = [
        pinned_as_here(name) for name in PACKING if name not in versions or versions[name] != installed_version(name)
    ]
    lacking += [name for name in ("pandas", *readers) if name not in versions]
    if not lacking:
        return Interpreter(python)
    return Interpreter(python, folders=(str(_libraries_beside(python, lacking, versions, progress)),))


def _probe_versions(python: str, names: Sequence[str]) -> dict[str, str]:
    """Return the versions of a Python and of these libraries, as far as it has them."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        printed = subprocess.run(
            [python, "-c", PROBE, *names], capture_output=True, env=environ, timeout=60, check=True
        ).stdout
        return msgspec.json.decode(printed, type=dict[str, str])
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        raise PackingRefused(f"--python {python} is not a Python that runs here") from None


def _libraries_beside(python: str, lacking: Sequence[str], found: Mapping[str, str], progress: Progress) -> Path:
    """Return a folder with the libraries that the user's environment lacks; the environment itself is not changed."""
    numpy = f"numpy=={found['numpy']}" if "numpy" in found else "numpy"
    folder = _cache() / f"beside-{_digest([found['python'], numpy, *lacking])}"

    def make() -> None:
        progress.line(f"installing {', '.join(lacking)} beside {python}, once, in {folder}")
        _run([*_installer(python), "--target", str(folder), *lacking, numpy], progress)
        # Use the libraries of the user's environment: another build of the same version may round otherwise.
        for library in (*LIBRARIES, "sklearn", "joblib"):
            for path in folder.glob(f"{library.replace('-', '_')}*"):
                if library in found or library == "sklearn":
                    shutil.rmtree(path, ignore_errors=True)

    try:
        _make_once(folder, folder, make)
    except _InstallFailed as failed:
        install = shlex.join([python, "-m", "pip", "install", *lacking])
        raise PackingRefused(
            f"--python {python} lacks {', '.join(lacking)}, which packing needs, and they could not be installed "
            f"beside it: {failed}; install them there: `{install}`"
        ) from None
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retort" / "environments"


def _digest(parts: Sequence[str]) -> str:
    whole = "\n".join([*parts, sysconfig.get_platform()])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _make_once(folder: Path, needed: Path, make: Callable[[], None]) -> None:
    """Fill a folder by `make`, unless it is complete and has the needed file.

    One process at a time fills a folder; the others wait. A folder that could not be filled is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / COMPLETE).exists() and needed.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        try:
            make()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / COMPLETE).touch()  # last, so that a folder is filled again if this process is killed before


def _uv() -> str | None:
    return shutil.which("uv")


def _has_pip() -> bool:
    return find_spec("pip") is not None


def _installer(python: Path | str) -> list[str]:
    """Return the command that installs wheels for a Python."""
    uv = _uv()
    if uv is not None:
        return [uv, "pip", "install", "--python", str(python), "--only-binary", ":all:"]
    pip = [sys.executable, "-m", "pip", "--python", str(python)] if _has_pip() else [str(python), "-m", "pip"]
    options = ["--no-input", "--disable-pip-version-check", "--retries", "2", "--progress-bar", "off"]
    return [*pip, "install", *options, "--only-binary", ":all:"]


def _run(command: Sequence[str], progress: Progress) -> None:
    """Run a command and show each line that it prints.

    Raises:
        _InstallFailed: The command failed.
    """
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    printed = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    ) as process:
        for line in process.stdout or ():
            printed.append(line.strip())
            progress.stage(Stage(line.strip()))
    if process.returncode != 0:
        raise _InstallFailed(_reason(printed))


def _reason(printed: Sequence[str]) -> str:
    """Return why pip or uv failed, from the lines that it printed."""
    text = "\n".join(printed)
    lacking = re.search(
        r"(?:satisfies the requirement|No matching distribution found for|there is no version of) (\S+)", text
    ) or re.search(r"Because (\S+) has no (?:usable )?wheels", text)
    nothing_found = re.search(r"from versions: none", text) is not None
    if re.search(r"Connection|Retrying|Max retries|resolution|dns error|error sending request", text) and (
        nothing_found or lacking is None
    ):
        return UNREACHABLE
    if lacking is not None:
        return f"there is no wheel of {lacking[1]} for Python {'.'.join(platform.python_version_tuple()[:2])}"
    lines = [line for line in printed if line]
    errors = [line for line in lines if line.startswith(("ERROR", "error", "cause"))] or lines
    return errors[-1].removeprefix("ERROR: ")[:300] if errors else "it ended without a message"


def _instructions(training: Training, requirements: Sequence[str], reason: str) -> str:
    """Return why no environment could be made, and how the user can make one."""
    here = installed_version(SCIKIT_LEARN) or "none"
    install = shlex.join(["train/bin/pip", "install", "--only-binary", ":all:", *requirements])
    return (
        f"it was trained with {training.shown()} (says {training.source}), {here} of scikit-learn is installed, and an "
        f"environment like that of its training could not be made: {reason}; where that is possible, make it with "
        f"`{Path(sys.executable).name} -m venv train` and `{install}`, or take the one it was trained in, and name its "
        "Python: --python train/bin/python"
    )
