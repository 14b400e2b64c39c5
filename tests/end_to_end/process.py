"""A server as a separate process, started by the command that a platform runs, stopped by its id."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE_MODELS = ROOT / "examples" / "models"
"""The packed example models. The user's folder `models` may hold others."""
NO_INSTANCE = ROOT / "build" / "no-instance"
"""A folder that never exists, so that servers of the tests find no API keys of this machine."""
START_WITHIN_S = 60.0
STOP_WITHIN_S = 25.0
ASK_AGAIN_AFTER_S = 0.05
PORTS = range(15_000, 32_000)
"""The kernel gives higher ports to clients, whose connections could then block the port of another test's server."""
WORKER = os.environ.get("RETORT_WORKER", "retort").lower()
"""The worker class of every server in the tests, read before the settings of the machine are removed."""


def line_of(kind: str) -> str:
    """Return the command of a kind of process that platforms run, from Procfile."""
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text("utf-8").splitlines())
    return lines[kind]


def web_line() -> str:
    """Return the command of the server."""
    return line_of("web")


def free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    while True:
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("", port), family=family, dualstack_ipv6=dual):
            return port


def environment(**settings: object) -> dict[str, str]:
    """Return the environment of this process, with the tools' programs first, and these settings."""
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    kept |= {"PATH": path, "RETORT_WORKER": WORKER, "RETORT_INSTANCE_DIR": str(NO_INSTANCE)}
    return kept | {name: str(value) for name, value in settings.items()}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.content)


class Server:
    """A server that listens on `port` of this machine. Its output goes to a file."""

    def __init__(self, command: Sequence[str], port: int, said: Path, **settings: object) -> None:
        self.port = port
        self.said = said
        with said.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(HOST="127.0.0.1", PORT=port, **{"RETORT_MODELS_DIR": EXAMPLE_MODELS, **settings}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """All of its output."""
        return self.said.read_text("utf-8", "replace")

    @property
    def workers(self) -> list[int]:
        """Return the process ids of its children."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]

    def all_workers(self, count: int) -> list[int]:
        """Return its children when there are this many: the first answers before the last is forked."""
        until = time.monotonic() + 30
        while len(self.workers) < count and time.monotonic() < until:
            time.sleep(0.05)
        assert len(self.workers) == count
        return self.workers

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request over a new connection. An iterable body is sent in chunks."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            content = body.encode() if isinstance(body, str) else body
            connection.request(method, path, content, headers or {})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())

    def wait(self, path: str = "/livez") -> Server:
        """Wait until it answers at this path."""
        deadline = time.monotonic() + START_WITHIN_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}: {self.output}")
            with contextlib.suppress(OSError):
                self.ask("GET", path)
                return self
            time.sleep(ASK_AGAIN_AFTER_S)
        raise AssertionError(f"it did not answer within {START_WITHIN_S:g} s: {self.output}")

    def stop(self) -> int:
        """Return its exit status after SIGTERM, and kill the rest of its process group."""
        try:
            self.process.terminate()
            return self.process.wait(STOP_WITHIN_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def serving(
    folder: Path, command: Sequence[str] | None = None, until: str = "/livez", **settings: object
) -> Iterator[Server]:
    """Run the `web:` line of Procfile, or another command, as a server that answers."""
    port = free_port()
    line = command or ["sh", "-c", f"exec {web_line()}"]
    server = Server([word.replace("$PORT", str(port)) for word in line], port, folder / f"said-{port}", **settings)
    try:
        yield server.wait(until)
    finally:
        server.stop()
