"""No process and no file is left after packing, even if packing or its command is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from app.packing.spawn import PackRequest
from tests.packing.artifacts import hangs

pytestmark = pytest.mark.slow

WITHIN_S = 30.0

# A supervisor. Its work starts a daemon, writes its own process id and the daemon's, and waits.
SUPERVISOR = """
import os, sys, time
from pathlib import Path
from app.packing.supervise import end_like, supervise

folder, then = Path(sys.argv[1]), sys.argv[2]

def work():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            (folder / "daemon").write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    os.wait()
    while not (folder / "daemon").exists():
        time.sleep(0.01)
    (folder / "work").write_text(str(os.getpid()))
    if then == "wait":
        time.sleep(600)
    if then == "abort":
        os.abort()
    if then == "allocate":
        try:
            bytearray(2**31)
        except MemoryError:
            os._exit(7)

end_like(supervise(work, lambda: (folder / "cleaned").touch(), 2**30))
"""
# A command that starts the supervisor, and waits for it.
COMMAND = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], start_new_session=True).wait()
"""


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    """Undo the setting of `nohup` and background jobs, whose children ignore SIGHUP and SIGINT."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(folder: Path, name: str) -> bool:
    """Return whether the process whose id is in this file is still running."""
    pid = (folder / name).read_text()
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("then", "status", "cleaned"), [("return", 0, False), ("abort", -signal.SIGABRT, True), ("allocate", 7, True)]
)
def test_a_daemon_ends_with_the_work(tmp_path: Path, then: str, status: int, cleaned: bool) -> None:
    ended = subprocess.run([sys.executable, "-c", SUPERVISOR, str(tmp_path), then], check=False, timeout=WITHIN_S)
    assert ended.returncode == status
    assert not is_running(tmp_path, "work")
    assert not is_running(tmp_path, "daemon")
    assert (tmp_path / "cleaned").exists() == cleaned


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP])
def test_the_work_ends_when_the_command_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, SUPERVISOR, str(tmp_path), "wait"], stderr=subprocess.DEVNULL
    )
    until((tmp_path / "work").exists)
    command.send_signal(number)
    assert command.wait(WITHIN_S) != 0
    until(lambda: not is_running(tmp_path, "work") and not is_running(tmp_path, "daemon"))
    until((tmp_path / "cleaned").exists)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.fault("M02")
def test_an_add_that_is_killed_publishes_nothing_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    request = PackRequest(str(hangs(tmp_path / "hangs.pkl")), "flowers", str(tmp_path / "models"))
    (tmp_path / "tmp").mkdir()
    command = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import msgspec, sys\nfrom app.packing.spawn import PackRequest, run\n"
            "run(msgspec.json.decode(sys.argv[1], type=PackRequest), 600.0)",
            msgspec.json.encode(request).decode(),
        ],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stderr=subprocess.DEVNULL,
    )
    until(lambda: len(packing_of(command.pid)) == 2)
    packing = packing_of(command.pid)
    command.send_signal(number)
    assert command.wait(WITHIN_S) != 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in packing))
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


def packing_of(pid: int) -> list[int]:
    """Return the process ids of the supervisor that a process has started, and of its packing process."""
    found: list[int] = []
    for _ in range(2):
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return found
        if not children:
            return found
        pid = int(children[0])
        found.append(pid)
    return found
