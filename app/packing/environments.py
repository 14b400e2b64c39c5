"""The Python that packs an artifact: this one, one made like the training environment, or the user's own.

An environment is made once by pip (or uv, where that is installed) from wheels alone, and kept in the user's cache
folder under the hash of its requirements.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from app.errors import PackingRefused
from app.packing.spawn import Interpreter
from app.packing.stages import Progress, Stage
from app.packing.trained_with import LIBRARIES, SCIKIT_LEARN, Training

OLDEST_PYTHON = (3, 11)
COMPLETE = "complete"
ISOLATED = ("-s",)
"""Without the libraries that somebody installed for all his environments."""

PACKING = ("marshmallow", "msgspec", "onnx", "onnxruntime")
"""What packing needs beside the libraries of the training environment; the very versions that are installed here."""

NEEDED_FOR = {
    ".skops": "skops",
    ".parquet": "pyarrow",
    ".feather": "pyarrow",
    ".arrow": "pyarrow",
    ".xlsx": "openpyxl",
}
"""The library that reads a file with this suffix, artifact or sample."""

DISTRIBUTIONS = {
    "catboost": "catboost",
    "category_encoders": "category-encoders",
    "cloudpickle": "cloudpickle",
    "feature_engine": "feature-engine",
    "imblearn": "imbalanced-learn",
    "lightgbm": "lightgbm",
    "pyod": "pyod",
    "statsmodels": "statsmodels",
    "xgboost": "xgboost-cpu",
}
"""The distribution of a module that an artifact names, where it is not installed here; others are the user's own."""

PINNED_AS_HERE = ("xgboost", "lightgbm", "catboost")
"""Libraries that do not depend on scikit-learn's version, so that those serving are those packing."""

OF_ITS_TIME = (
    ("1.3", {"scipy": "<1.12", "pandas": "<2.2", "numpy": "<2"}),
    ("1.4", {"scipy": "<1.13", "pandas": "<2.3", "numpy": "<2"}),
    ("1.5", {"scipy": "<1.14", "pandas": "<3", "numpy": "<2"}),
    ("1.6", {"scipy": "<1.15", "pandas": "<3"}),
    ("1.7", {"scipy": "<1.16", "pandas": "<3"}),
    ("1.8", {"scipy": "<1.17", "pandas": "<3"}),
)
"""What scikit-learn before a release was tested with, where nothing tells which versions there were."""

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


class _Failed(Exception):
    """pip did not do it; the text says why, as the end of a sentence."""


def interpreter_for(
    training: Training, files: Sequence[str], own: str | None, progress: Progress
) -> Interpreter | None:
    """The Python that packs an artifact with this training environment; None where this one does.

    Args:
        training: what is known of the training environment.
        files: the artifact, the sample and whatever else is read there.
        own: the user's own Python, which goes before all others.
        progress: receives the steps of making an environment.

    Raises:
        PackingRefused: the environment cannot be made, or the user's own does not do.
    """
    extras = [library for suffix, library in NEEDED_FOR.items() if any(f.lower().endswith(suffix) for f in files)]
    if own is not None:
        return _own(own, training, extras, progress)
    if all(_is_met(name, specifier) for name, specifier in training.requirements.items()):
        return None
    of_its_time = sorted({*requirements_of(training), *extras})
    anything = sorted({*requirements_of(training, of_its_time=False), *extras})
    reasons = []
    for python, requirements in itertools.product(_pythons(), (of_its_time, anything)):
        try:
            return Interpreter(str(_made(python, requirements, training, progress)), ISOLATED)
        except _Failed as failed:
            reasons.append(str(failed))
            if reasons[-1] == UNREACHABLE:
                break
    raise PackingRefused(_unmade(training, of_its_time, reasons[0]))


def requirements_of(training: Training, *, of_its_time: bool = True) -> list[str]:
    """What an environment like the training environment is made of, as pip takes it.

    With `of_its_time`, libraries of which nothing is known are of the time of the scikit-learn release; without, only
    NumPy, against which that release was built.
    """
    wanted = dict(training.requirements)
    here = _installed(SCIKIT_LEARN)
    wanted.setdefault(SCIKIT_LEARN, f"=={here}" if here else "")
    oldest = min((Version(one.version.removesuffix(".*")) for one in SpecifierSet(wanted[SCIKIT_LEARN])), default=None)
    usual = next((bounds for before, bounds in OF_ITS_TIME if oldest and oldest < Version(before)), {})
    usual = {name: bound for name, bound in usual.items() if of_its_time or name == "numpy"}
    if any(module.startswith("numpy._core") for module in training.modules):
        usual = usual | {"numpy": ">=2"}
    elif any(module.startswith("numpy.core") for module in training.modules):
        usual = usual | {"numpy": "<2"}
    for library in LIBRARIES:
        wanted.setdefault(library, usual.get(library, ""))
    return [
        *(f"{name}{specifier}" for name, specifier in wanted.items()),
        *(_as_here(name) for name in PACKING),
        *_of_modules(training.modules),
        "joblib",
    ]


def _is_met(name: str, specifier: str) -> bool:
    here = _installed(name)
    return here is not None and SpecifierSet(specifier).contains(here, prereleases=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _as_here(name: str) -> str:
    here = _installed(name)
    return name if here is None else f"{name}=={here}"


def _of_modules(modules: frozenset[str]) -> list[str]:
    """The distributions of the modules that an artifact names."""
    here = packages_distributions()
    found = set()
    for top in {module.partition(".")[0] for module in modules} & DISTRIBUTIONS.keys():
        name = here.get(top, [DISTRIBUTIONS[top]])[0]
        found.add(_as_here(name) if top in PINNED_AS_HERE else name)
    return sorted(found)


def _pythons() -> list[str]:
    """This Python, and the others on PATH that are new enough for Retort."""
    found = {sys.version_info[:2]: sys.executable}
    for minor in range(OLDEST_PYTHON[1], OLDEST_PYTHON[1] + 10):
        other = shutil.which(f"python{OLDEST_PYTHON[0]}.{minor}")
        if other is not None:
            found.setdefault((OLDEST_PYTHON[0], minor), other)
    return list(found.values())


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retort" / "environments"


def _made(python: str, requirements: Sequence[str], training: Training, progress: Progress) -> Path:
    """The Python of the environment of these requirements, which is made where it is not there yet."""
    label = re.sub(r"[^A-Za-z0-9.]+", "-", training.shown())[:40].strip("-")
    folder = _cache() / f"{label}-{_digest([_version_of(python), *requirements])}"
    made = folder / "bin" / "python"
    with _locked(folder):
        if (folder / COMPLETE).exists() and made.exists():
            return made
        shutil.rmtree(folder, ignore_errors=True)
        of = "" if python == sys.executable else f" of {python}"
        progress.line(f"making an environment{of} with {training.shown()}, once, in {folder}")
        try:
            _run([python, "-m", "venv", *(["--without-pip"] if _pip_is_here() else []), str(folder)], progress)
            _run([*_installer(made), *requirements], progress)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
        (folder / COMPLETE).touch()  # the last thing, so that what was interrupted is made again
    return made


def _version_of(python: str) -> str:
    return platform.python_version() if python == sys.executable else python


def _digest(parts: Sequence[str]) -> str:
    whole = "\n".join([*parts, sysconfig.get_platform()])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time makes a folder; the others wait and find it made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _uv() -> str | None:
    return shutil.which("uv")


def _pip_is_here() -> bool:
    return find_spec("pip") is not None


def _installer(python: Path | str) -> list[str]:
    """The command that installs wheels for a Python."""
    uv = _uv()
    if uv is not None:
        return [uv, "pip", "install", "--python", str(python), "--only-binary", ":all:"]
    pip = [sys.executable, "-m", "pip", "--python", str(python)] if _pip_is_here() else [str(python), "-m", "pip"]
    options = ["--no-input", "--disable-pip-version-check", "--retries", "2", "--progress-bar", "off"]
    return [*pip, "install", *options, "--only-binary", ":all:"]


def _run(command: Sequence[str], progress: Progress) -> None:
    """Runs a command, tells its steps, and raises with the reason where it fails."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    said = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    ) as process:
        for line in process.stdout or ():
            said.append(line.strip())
            progress.stage(Stage(line.strip()))
    if process.returncode != 0:
        raise _Failed(_reason(said))


def _reason(said: Sequence[str]) -> str:
    """Why pip or uv failed, from what it said."""
    text = "\n".join(said)
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
    errors = [line for line in said if line.startswith(("ERROR", "error", "cause"))] or [line for line in said if line]
    return errors[-1].removeprefix("ERROR: ")[:300] if errors else "it ended without a word"


def _unmade(training: Training, requirements: Sequence[str], reason: str) -> str:
    here = _installed(SCIKIT_LEARN) or "none"
    install = shlex.join(["train/bin/pip", "install", "--only-binary", ":all:", *requirements])
    return (
        f"it was trained with {training.shown()} (says {training.source}), {here} of scikit-learn is installed, and an "
        f"environment like that of its training could not be made: {reason}; where that is possible, make it with "
        f"`{Path(sys.executable).name} -m venv train` and `{install}`, or take the one it was trained in, and name its "
        "Python: --python train/bin/python"
    )


def _own(python: str, training: Training, extras: Sequence[str], progress: Progress) -> Interpreter:
    """The user's own Python, with what packing needs beside it in a folder of ours."""
    found = _probed(python, [*LIBRARIES, "joblib", *PACKING, *extras, *training.requirements])
    if tuple(map(int, found["python"].split(".")[:2])) < OLDEST_PYTHON:
        raise PackingRefused(f"--python {python} is Python {found['python']}; packing needs 3.11 or newer")
    for name, specifier in training.requirements.items():
        there = found.get(name)
        if there is None or not SpecifierSet(specifier).contains(there, prereleases=True):
            raise PackingRefused(
                f"--python {python} has {f'{name} {there}' if there else f'no {name}'}, and the artifact was trained "
                f"with {training.shown()} (says {training.source}); if that is not so, say it with --trained-with"
            )
    lacking = [_as_here(name) for name in PACKING if name not in found or found[name] != _installed(name)]
    lacking += [name for name in ("pandas", *extras) if name not in found]
    if not lacking:
        return Interpreter(python)
    return Interpreter(python, folders=(str(_lent(python, lacking, found, progress)),))


def _probed(python: str, names: Sequence[str]) -> dict[str, str]:
    """The versions of Python and of these libraries there."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        said = subprocess.run(
            [python, "-c", PROBE, *names], capture_output=True, env=environ, timeout=60, check=True
        ).stdout
        return msgspec.json.decode(said, type=dict[str, str])
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        raise PackingRefused(f"--python {python} is not a Python that runs here") from None


def _lent(python: str, lacking: Sequence[str], found: Mapping[str, str], progress: Progress) -> Path:
    """A folder with what the user's own environment lacks; that environment is left as it is."""
    numpy = f"numpy=={found['numpy']}" if "numpy" in found else "numpy"
    folder = _cache() / f"beside-{_digest([found['python'], numpy, *lacking])}"
    with _locked(folder):
        if (folder / COMPLETE).exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        progress.line(f"installing {', '.join(lacking)} beside {python}, once, in {folder}")
        try:
            _run([*_installer(python), "--target", str(folder), *lacking, numpy], progress)
        except _Failed as failed:
            shutil.rmtree(folder, ignore_errors=True)
            install = shlex.join([python, "-m", "pip", "install", *lacking])
            raise PackingRefused(
                f"--python {python} lacks {', '.join(lacking)}, which packing needs, and they could not be installed "
                f"beside it: {failed}; install them there: `{install}`"
            ) from None
        # Theirs are used: another build of the same version may round otherwise.
        for library in (*LIBRARIES, "sklearn", "joblib"):
            for path in folder.glob(f"{library.replace('-', '_')}*"):
                if library in found or library == "sklearn":
                    shutil.rmtree(path, ignore_errors=True)
        (folder / COMPLETE).touch()
    return folder
