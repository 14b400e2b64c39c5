"""Tests of the system calls of Retort's commands: no connection beyond this machine, no stray file."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, environment, serving, web_line

pytestmark = pytest.mark.needs_program("strace")

CALLS = "clone,clone3,connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2"
TRACE = f"strace -f -DD --seccomp-bpf -q -e trace={CALLS} -e signal=none -o"
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|^(creat|mkdir|rename)")
LOCAL = re.compile(
    r'sa_family=AF_NETLINK|inet_addr\("127\.|inet_pton\(AF_INET6, "::1"|sa_family=AF_UNIX, sun_path=@?"(?!.*nscd)'
)
WRITTEN_WITHIN_S = 60.0
OWN_PLACES = ("/dev/", "/proc/self/", "/memfd:")


@dataclass(frozen=True)
class Traced:
    """The system calls of a command and of all processes that it started."""

    process: int
    log: str
    writable: tuple[str, ...]

    @property
    def calls(self) -> list[tuple[int, str]]:
        """Return each call with its thread. The two lines of an interrupted call are joined."""
        unfinished: dict[int, str] = {}
        found = []
        for line in self.log.splitlines():
            thread, _, text = line.partition(" ")
            text = text.strip()
            if text.endswith("<unfinished ...>"):
                unfinished[int(thread)] = text.removesuffix("<unfinished ...>")
            elif text.startswith("<... "):
                found.append((int(thread), unfinished.pop(int(thread), "") + text.partition(" resumed>")[2]))
            else:
                found.append((int(thread), text))
        return found

    @property
    def contacts(self) -> list[str]:
        """Return attempts to reach or to look up another machine."""
        addressed = [text for _, text in self.calls if text.startswith(("connect(", "send")) and "sa_family=" in text]
        return [text for text in addressed if not LOCAL.search(text)]

    @property
    def files(self) -> list[str]:
        """Return files outside the command's own places that it wrote or tried to write."""
        written = []
        for _, text in self.calls:
            if not text.startswith(("connect(", "send", "clone")) and WRITES.search(text):
                paths = re.findall(r'"([^"]*)"', text)
                written += [path for path in paths[-1:] if not path.startswith((*OWN_PLACES, *self.writable))]
        return written

    @property
    def threads(self) -> list[str]:
        """Return the threads that the command's own process started, not its children."""
        return [text for thread, text in self.calls if thread == self.process and "CLONE_THREAD" in text]


class Tracer:
    """Run commands under strace, with a separate home folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.temporary = folder / "temporary"
        self.log = folder / "calls"
        for made in (self.home, self.temporary):
            made.mkdir()

    @property
    def words(self) -> list[str]:
        """The words to put before a command. The tracer is not its parent, so signals reach the command."""
        return [*shlex.split(TRACE), str(self.log)]

    @property
    def settings(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ORT_DISABLE_TELEMETRY": "0",
        }

    def traced(self, process: int, *writable: Path) -> Traced:
        """Wait for the end of the log of `process`, which has ended; return its calls."""
        last = re.compile(rf"^{process} +\+\+\+ (exited|killed)", re.MULTILINE)
        until = time.monotonic() + WRITTEN_WITHIN_S
        while not last.search(log := self.log.read_text("utf-8", "replace")):
            assert time.monotonic() < until, f"the log of {process} has no end"
            time.sleep(0.05)
        return Traced(process, log, (*map(str, writable), str(self.temporary)))

    def run(self, *command: str, writable: Path | None = None, **settings: object) -> Traced:
        """Run a command to its end."""
        words, environ = [*self.words, *command], environment(**self.settings, **settings)
        with subprocess.Popen(
            words, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            said, _ = process.communicate()
        assert process.returncode == 0, said
        return self.traced(process.pid, *([writable] if writable else []))


@pytest.fixture
def tracer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    return Tracer(tmp_path)


@pytest.mark.parametrize("runtime", ["auto", "artifact"])
@pytest.mark.fault("P09", "X03")
def test_the_server_starts_no_thread_before_the_fork_and_stays_at_home(tracer: Tracer, runtime: str) -> None:
    command = [*tracer.words, "sh", "-c", f"exec {web_line()}"]
    with serving(tracer.folder, command, RETORT_RUNTIME=runtime, **tracer.settings) as server:
        master = server.process.pid
        assert server.ask("GET", "/readyz").status == 200
        assert [thread.name for thread in Path(f"/proc/{master}/task").iterdir()] == [str(master)]
    traced = tracer.traced(master)
    assert traced.threads == []
    assert (traced.contacts, traced.files, list(tracer.home.rglob("*"))) == ([], [], [])


@pytest.mark.any_worker
@pytest.mark.parametrize(
    "command",
    [
        "flask models list",
        "flask models verify iris-two",
        "flask models add ARTIFACT --name added",
        "python -c 'from app import create_app; create_app().extensions[\"retort\"].load()'",
    ],
)
@pytest.mark.fault("X03")
def test_the_other_commands_contact_no_other_machine(tracer: Tracer, command: str) -> None:
    models = tracer.folder / "models"
    shutil.copytree(EXAMPLE_MODELS / "iris-two", models / "iris-two")
    artifact = str(models / "iris-two" / "1" / "model.joblib")
    words = [artifact if word == "ARTIFACT" else word for word in shlex.split(command)]
    traced = tracer.run(*words, writable=models, RETORT_MODELS_DIR=models)
    assert traced.calls
    assert (traced.contacts, traced.files, list(tracer.home.rglob("*"))) == ([], [], [])


@pytest.mark.any_worker
def test_a_contact_and_a_file_are_seen(tracer: Tracer) -> None:
    script = (
        "import contextlib, pathlib, socket, threading\n"
        "pathlib.Path.home().joinpath('trace').write_text('')\n"
        "threading.Thread(target=print).start()\n"
        "contact = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "with contextlib.suppress(OSError):\n"
        "    contact.connect(('192.0.2.1', 53))\n"
        "with contextlib.suppress(OSError):\n"
        "    contact.connect(('127.0.0.1', 53))\n"
    )
    traced = tracer.run(sys.executable, "-c", script)
    assert len(traced.contacts) == 1
    assert "192.0.2.1" in traced.contacts[0]
    assert traced.files == [str(tracer.home / "trace")]
    assert len(traced.threads) == 1


@pytest.mark.any_worker
def test_this_process_sends_no_usage_data() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
