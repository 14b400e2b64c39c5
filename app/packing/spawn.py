"""Check a request to pack, check or compare, and run it in a process of its own; return its result or refusal.

Reading a pickle may crash the interpreter, print, hang, or use all memory. The separate process contains the damage.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from app.errors import PackingRefused
from app.packing import stages
from app.packing.stages import Progress
from app.packing.verdict import Verdict
from app.runtime.environment import ONE_THREAD
from app.settings import Settings
from app.settings.env_files import environ_with_files
from app.storage.repository import Repository, is_slug

ENDED_WITHIN_S = 10.0
POLL_INTERVAL_S = 0.25

MODULES = "PACKED_MODULES_PATH"
"""The variable that says where the user's modules are, for a process in another environment."""


@dataclass(frozen=True, slots=True)
class PackRequest:
    """Pack this artifact, a file, folder or URI, as a new version of the model `name`.

    Most fields are options of `flask models add`; `target` is one column or several. `beside` are further files of the
    same model. `known_steps` are the names of all steps of the user; None if unknown. Clients reach a
    `staged` version by its number only.
    `trained_with` has the requirements that name the training environment, as far as it is known, `trained_with_source`
    says where they are from, as the end of a sentence, and `training_notes` the assumptions about it. `served_by` is
    the Python that will serve the version, if another one packs it. `sample_is_frame` says that the sample is a pandas
    frame that `pack` has pickled, for this Python.
    """

    artifact: str
    name: str
    models_dir: str
    sample: str | None = None
    target: str | tuple[str, ...] | None = None
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
    card: str | None = None
    sample_is_frame: bool = False


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Verify, load and prove this version."""

    model: str
    version: int
    models_dir: str


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Compare the answers of two versions to every row of the file `rows`; `target` is no input."""

    model: str
    versions: tuple[int, int]
    rows: str
    models_dir: str
    target: str | tuple[str, ...] | None = None


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
    """Load the version that is staged in this folder as serving would, and compare all recorded answers."""

    folder: str


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a request: why it was refused, or the version that was packed or checked.

    `remarks` are sentences for the user. For a `ServeRequest`, `environment` has the libraries that
    answered, with their versions, and `rows` the number of recorded rows that they answered equally.
    """

    refused: str | None = None
    version: int | None = None
    remarks: tuple[str, ...] = ()
    verdict: Verdict | None = None
    environment: dict[str, str] = field(default_factory=dict)
    rows: int = 0


def require_name(name: str) -> None:
    """Refuse a name that cannot stand in a URL."""
    if not is_slug(name):
        raise PackingRefused(
            f"name {name!r} cannot stand in a URL: 1 to 64 letters, digits, '.', '_' or '-', "
            "a letter or digit at both ends"
        )


def require_files(paths: Iterable[Path], label: str = "") -> None:
    """Refuse a file or folder that cannot be found; `label` begins the sentence."""
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            raise PackingRefused(f"{label} {path} cannot be read: {error.strerror}".lstrip()) from None


def packing_memory_bytes() -> int:
    """Return the most memory that packing may take: the setting, or else all memory of the machine."""
    limit_bytes = Settings.from_environ(environ_with_files()).packing_memory_bytes
    return limit_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python, options to start it with, and folders of libraries that it lacks."""

    python: str
    options: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


Request = PackRequest | CheckRequest | CompareRequest | RepackRequest | ServeRequest
WORK: dict[str, tuple[type[Request], str]] = {
    "pack": (PackRequest, "app.packing.write"),
    "check": (CheckRequest, "app.packing.serve"),
    "compare": (CompareRequest, "app.packing.compare"),
    "repack": (RepackRequest, "app.packing.repack"),
    "serve": (ServeRequest, "app.packing.serve"),
}
"""For each verb its request, and the module with the function of this name that does the work."""


def verb_of(request: Request) -> str:
    """Return the verb of a request."""
    return next(verb for verb, (kind, _) in WORK.items() if isinstance(request, kind))


def run(
    request: Request, timeout_s: float, progress: Progress = stages.SILENT, interpreter: Interpreter | None = None
) -> Result:
    """Run a request in a process of its own, which ends after `timeout_s` seconds at the latest.

    `progress` receives the stages of the process. Without an interpreter, this Python runs it.

    Raises:
        PackingRefused: the request was refused, or the process died or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="retort-packing-") as folder:
        result_file = Path(folder) / "result.json"
        environ = _environ(Path(folder), interpreter)
        stage_file = stages.stage_file_in(Path(folder), environ)
        process = _start(request, result_file, environ, interpreter)
        try:
            stderr = _stderr_of(process, timeout_s, stage_file, progress)
        finally:
            _end(process)
            if not isinstance(request, ServeRequest):
                Repository(Path(request.models_dir)).discard_staging(process.pid)
        if result_file.exists():
            result = msgspec.json.decode(result_file.read_bytes(), type=Result)
            if result.refused is not None:
                raise PackingRefused(result.refused)
            return result
    raise PackingRefused(f"reading and running it ended the process ({_cause(process.returncode, stderr)})")


def _start(
    request: Request, result_file: Path, environ: dict[str, str], interpreter: Interpreter | None
) -> subprocess.Popen[bytes]:
    """Start the process that runs a request and writes its result into the file `result_file`."""
    command = [sys.executable] if interpreter is None else [interpreter.python, *interpreter.options]
    return subprocess.Popen(
        [*command, "-m", "app.packing", verb_of(request), msgspec.json.encode(request).decode(), str(result_file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environ,
        start_new_session=True,
    )


def _stderr_of(process: subprocess.Popen[bytes], timeout_s: float, stage_file: Path, progress: Progress) -> bytes:
    """Wait for a process to end and report its stages; return its standard error."""
    until_s = time.monotonic() + timeout_s
    while (left_s := until_s - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=min(left_s, POLL_INTERVAL_S))[1]
        if (stage := stages.current(stage_file)) is not None:
            progress.stage(stage)
    raise PackingRefused(f"reading and running it took longer than {timeout_s:g} seconds")


def _environ(folder: Path, interpreter: Interpreter | None) -> dict[str, str]:
    """Return the variables of the process, which finds this package before the user's modules.

    Another Python finds the package through a link in `folder`. An installed package lies beside the libraries of this
    Python, which the other one must not find.
    """
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | ONE_THREAD
    package = Path(__file__).resolve().parents[1]
    folders = [str(package.parent)]
    # A process that packs passes the variable on. Without it, the user's modules may be in the current folder.
    user_modules = environ.get(MODULES, os.pathsep.join(filter(None, [str(Path.cwd()), environ.get("PYTHONPATH")])))
    if interpreter is not None:
        (folder / package.name).symlink_to(package, target_is_directory=True)
        folders = [str(folder), *interpreter.folders]
        environ[MODULES] = user_modules
    environ["PYTHONPATH"] = os.pathsep.join([*folders, user_modules])
    return environ


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have the supervisor end everything that it has started; kill its process group if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _cause(returncode: int, stderr: bytes) -> str:
    if returncode < 0:
        return signal.Signals(-returncode).name
    last_line = stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return f"exit status {returncode}" + "".join(f", its last words: {line[:200]}" for line in last_line)
