"""A PostgreSQL server for one test, which listens only on a Unix socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")
"""Debian does not put the programs of each release into PATH; `pg_ctlcluster` is there if one is installed."""


def programs() -> Path:
    """Return the folder of the newest release's programs."""
    found = sorted(DEBIAN.glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[4]))
    return found[-1].parent


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Run a server, and yield the URL of its database in the form that platforms use."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs() / program), *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    database = str(folder / "data")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    try:
        run("initdb", "-D", database, "-U", "retort", "-A", "trust", "--no-sync")
        run("pg_ctl", "-D", database, "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield f"postgres://retort@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", database, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
