"""Find the running servers of this machine among its processes, so that a command can reload them.

Servers leave no files for this, not even when they are killed. Needs Linux's /proc; only root sees the processes of
other users.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = "python:app.gunicorn_conf"
APPLICATION = "wsgi:app"
CHECK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The master of a server: its process id, and the environment and folder that it was started in."""

    pid: int
    environ: dict[str, str]
    folder: Path

    def workers(self) -> set[int]:
        """Return the process ids of its workers."""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii")
            return {int(child) for child in children.split()}
        return set()

    def reload(self, within_s: float) -> int | None:
        """Send SIGHUP and wait until each worker is replaced.

        Returns:
            The number of workers now; None if an old worker still runs after `within_s`.
        """
        before = self.workers()
        os.kill(self.pid, signal.SIGHUP)
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            now = self.workers()
            if now and not now & before:
                return len(now)
            time.sleep(CHECK_EVERY_S)
        return None


def running_servers() -> list[RunningServer]:
    """Return the servers that this user may signal, the oldest first."""
    return sorted(_masters(), key=lambda server: server.pid)


def _masters() -> Iterator[RunningServer]:
    for folder in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError, ValueError, KeyError):  # it ended, or is another user's
            if not _is_server(folder):
                continue
            status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines())
            # SIGHUP ends a process that does not catch it yet. Skip workers: their parent is a server too.
            if not int(status["SigCgt"], 16) & 1 << (signal.SIGHUP - 1):
                continue
            if _is_server(folder.parent / status["PPid"]):
                continue
            environ = dict(entry.split("=", 1) for entry in _fields(folder / "environ") if "=" in entry)
            yield RunningServer(int(folder.name), environ, (folder / "cwd").readlink())


def _is_server(folder: Path) -> bool:
    arguments = _fields(folder / "cmdline")
    is_gunicorn = any(Path(argument).name == "gunicorn" for argument in arguments)
    return is_gunicorn and not {CONFIGURATION, APPLICATION}.isdisjoint(arguments)


def _fields(path: Path) -> list[str]:
    return path.read_bytes().decode("utf-8", "surrogateescape").split("\0")
