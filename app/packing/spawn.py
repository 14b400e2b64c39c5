"""Starts the process that packs or checks, and turns whatever becomes of it into a result or one sentence.

A pickle may do anything when it is read: crash the interpreter, print, hang, eat memory. Here it does so elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from app.errors import PackingRefused
from app.packing import stages
from app.packing.stages import Progress
from app.packing.verdict import Verdict
from app.runtime.environment import ONE_THREAD
from app.settings import Settings
from app.storage.repository import Repository

ENDED_WITHIN_S = 10.0
LOOKED_AT_EVERY_S = 0.25

MODULES = "PACKED_MODULES_PATH"
"""The variable by which a process in another environment knows where the user's modules are."""


@dataclass(frozen=True, slots=True)
class PackRequest:
    """Pack this artifact as a new version of the model `name`; keep no graph larger than the limit.

    `out_of_range` and `unseen` are what the model does with what is new to it, where that is not left to the server's
    setting and to what the model copes with. `inputs` is a JSON file that declares inputs.
    `before` and `after` are the names of the steps around a run; of `before` some may be parts of the artifact.
    `beside` are further files of the same model. `use`, `columns` and `labels` name parts, or files, that make it.
    `training_notes` say what was assumed of the training environment.
    `known_steps` are the steps that there are, where that is known. With `trust` any type in a file of skops is built.
    A `staged` version answers by its number only. `trained_with` is what is known of the training environment, and
    `trained_with_source` where from; `served_by` is the Python that will serve, where this is packed by another.
    """

    artifact: str
    name: str
    models_dir: str
    sample: str | None = None
    target: str | None = None
    graph_limit_bytes: int = 2**30
    out_of_range: str | None = None
    unseen: str | None = None
    inputs: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    use: str | None = None
    columns: str | None = None
    labels: str | None = None
    known_steps: tuple[str, ...] | None = None
    trust: bool = False
    staged: bool = False
    trained_with: tuple[str, ...] = ()
    trained_with_source: str = ""
    training_notes: tuple[str, ...] = ()
    served_by: str | None = None


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Verify, load and prove this version."""

    model: str
    version: int
    models_dir: str


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Ask two versions for every row of a file, without its target column."""

    model: str
    versions: tuple[int, int]
    data: str
    models_dir: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class RepackRequest:
    """Pack the artifact of a version again, as a new version; the last five fields are as in `PackRequest`."""

    model: str
    version: int
    models_dir: str
    graph_limit_bytes: int = 2**30
    staged: bool = False
    trained_with: tuple[str, ...] = ()
    trained_with_source: str = ""
    training_notes: tuple[str, ...] = ()
    served_by: str | None = None


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """Load what is staged in this folder as serving would, and compare its answers with all that are recorded."""

    folder: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it: `refused` says why not, else the version packed, a verdict and remarks for whoever packed it.

    Of a `ServeRequest`: the versions of the libraries that served, and how many rows they answered as recorded.
    """

    refused: str | None = None
    version: int | None = None
    remarks: tuple[str, ...] = ()
    verdict: Verdict | None = None
    environment: dict[str, str] = field(default_factory=dict)
    rows: int = 0


def packing_memory_bytes() -> int:
    """Return the most memory that packing may take: as the settings say, else as much as the machine has."""
    limit_bytes = Settings.from_environ(os.environ).packing_memory_bytes
    return limit_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python, options to start it with, and folders of libraries that it lacks."""

    python: str
    options: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


Request = PackRequest | CheckRequest | CompareRequest | RepackRequest | ServeRequest
VERBS: dict[type[Request], str] = {
    PackRequest: "pack",
    CheckRequest: "check",
    CompareRequest: "compare",
    RepackRequest: "repack",
    ServeRequest: "serve",
}


def run(
    request: Request,
    timeout_s: float,
    progress: Progress | None = None,
    interpreter: Interpreter | None = None,
) -> Result:
    """Run the request in a process of its own.

    Args:
        request: what to do.
        timeout_s: the longest that it may take.
        progress: receives the stages of the process.
        interpreter: the Python to run; None for this one.

    Raises:
        PackingRefused: the request was refused, or the process died or took longer than `timeout_s` seconds.
    """
    verb = VERBS[type(request)]
    with tempfile.TemporaryDirectory(prefix="retort-packing-") as folder:
        answer = Path(folder) / "result.json"
        environ = _environ(Path(folder), interpreter)
        place = stages.told_in(Path(folder), environ)
        command = [sys.executable] if interpreter is None else [interpreter.python, *interpreter.options]
        process = subprocess.Popen(
            [*command, "-m", "app.packing", verb, msgspec.json.encode(request).decode(), str(answer)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environ,
            start_new_session=True,
        )
        try:
            said = _said_by(process, timeout_s, place, progress)
        finally:
            _end(process)
            if not isinstance(request, ServeRequest):
                Repository(Path(request.models_dir)).discard_staging(process.pid)
        if answer.exists():
            result = msgspec.json.decode(answer.read_bytes(), type=Result)
            if result.refused is not None:
                raise PackingRefused(result.refused)
            return result
    raise PackingRefused(f"reading and running it ended the process ({_cause(process.returncode, said)})")


def _said_by(process: subprocess.Popen[bytes], timeout_s: float, place: Path, progress: Progress | None) -> bytes:
    """Wait for a process to end; return its standard error.

    Raises:
        PackingRefused: it took longer than `timeout_s` seconds.
    """
    until_s = time.monotonic() + timeout_s
    while (left_s := until_s - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=left_s if progress is None else min(left_s, LOOKED_AT_EVERY_S))[1]
        if progress is not None and (stage := stages.current(place)) is not None:
            progress.stage(stage)
    raise PackingRefused(f"reading and running it took longer than {timeout_s:g} seconds")


def _environ(folder: Path, interpreter: Interpreter | None) -> dict[str, str]:
    """The variables of the process: our own package is found wherever it is, before the user's modules.

    Another Python finds nothing but the package: beside an installed one lie the libraries of this Python.
    """
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | ONE_THREAD
    package = Path(__file__).resolve().parents[1]
    found = [str(package.parent)]
    # The process that is packing hands on where the user's modules are; this one is in the folder where they may be.
    mine = environ.get(MODULES, os.pathsep.join(filter(None, [str(Path.cwd()), environ.get("PYTHONPATH")])))
    if interpreter is not None:
        (folder / package.name).symlink_to(package, target_is_directory=True)
        found = [str(folder), *interpreter.folders]
        environ[MODULES] = mine
    environ["PYTHONPATH"] = os.pathsep.join([*found, mine])
    return environ


def _end(process: subprocess.Popen[bytes]) -> None:
    """Has the supervisor end all that it has started; where it does not, ends its group."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _cause(returncode: int, said: bytes) -> str:
    if returncode < 0:
        return signal.Signals(-returncode).name
    last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
    return f"exit status {returncode}" + "".join(f", its last words: {line[:200]}" for line in last)
