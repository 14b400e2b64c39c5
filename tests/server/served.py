"""Gunicorn with this worker as a separate process, and clients that count the outcome of each request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.process import ROOT, WORKER, Server, free_port

GIVE_A_SOCKET = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
if sys.argv[2] == "systemd":
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Start a program with a listening socket as descriptor 3, as systemd does."""
APPLICATION = "tests.server.apps:app"
RETORT_WORKER_CLASS = "app.server.RetortWorker"


@contextlib.contextmanager
def worker_server(
    folder: Path,
    port: int = 0,
    *,
    worker_class: str = RETORT_WORKER_CLASS if WORKER == "retort" else WORKER,
    limits: dict[str, Any] | None = None,
    inherits: str = "",
    application: str = APPLICATION,
    **options: Any,
) -> Iterator[Server]:
    """Run a server with these Gunicorn settings, and stop it at the end if it has not ended.

    `limits` apply to Retort's own worker class alone.
    """
    port = port or free_port()
    settings = {
        "bind": f"127.0.0.1:{port}",
        "threads": 4,
        "keepalive": 30,
        "worker_connections": 10_000,
        "control_socket_disable": True,
        "graceful_timeout": 10,
        **options,
    }
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    if worker_class == RETORT_WORKER_CLASS:
        lines += ["from app.server import Limits, RetortWorker", f"RetortWorker.limits = Limits(**{limits or {}!r})"]
        lines += ["from tests.server.serving import as_serving", "RetortWorker.serving_app = as_serving"]
        lines += ["from app.server.master import tell_workers_of_the_end"]
        lines += ["def on_starting(server): RetortWorker.server_ends = staticmethod(tell_workers_of_the_end(server))"]
    conf = folder / f"conf-{port}.py"
    conf.write_text("\n".join(lines), "utf-8")
    program = str(Path(sys.executable).parent / "gunicorn")  # the command that SIGUSR2 runs again
    command = [program, "--config", str(conf), "--worker-class", worker_class, application]
    if inherits:
        command = [sys.executable, "-c", GIVE_A_SOCKET, str(port), inherits, *command]
    server = Server(command, port, folder / f"said-{port}", PYTHONPATH=ROOT)
    try:
        yield server.wait()
    finally:
        server.stop()


@dataclass
class Outcomes:
    """The outcomes of the requests of one test."""

    count: Counter[str] = field(default_factory=Counter)
    took_s: dict[str, list[float]] = field(default_factory=dict)

    def note(self, outcome: str, took_s: float = 0.0) -> None:
        self.count[outcome] += 1
        self.took_s.setdefault(outcome, []).append(took_s)

    def percentile_s(self, outcome: str, share: float) -> float:
        took = sorted(self.took_s.get(outcome, [0.0]))
        return took[min(len(took) - 1, int(share * len(took)))]

    def with_those_of(self, other: Outcomes) -> Outcomes:
        """Return the sum of both."""
        self.count.update(other.count)
        for outcome, took in other.took_s.items():
            self.took_s.setdefault(outcome, []).extend(took)
        return self

    @property
    def bad(self) -> dict[str, int]:
        """The outcomes that are neither an answer nor a clean refusal to connect."""
        return {name: n for name, n in self.count.items() if not name.isdigit() and name != "refused"}


class Talk:
    """A keep-alive connection that checks that responses are its own."""

    def __init__(self, port: int, source: str = "") -> None:
        self.port = port
        self.source = (source, 0) if source else None
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes, bool]:
        """Return status, body, and whether the connection may be used again."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=self.source)
        reader, writer = self.streams
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status, length, closes = 0, 0, False
        while True:
            line = await reader.readline()
            if not line:
                raise ConnectionResetError("ended before its answer")
            if not status:
                status = int(line.split()[1])
            elif line == b"\r\n":
                break
            elif line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            elif line.lower() == b"connection: close\r\n":
                closes = True
        answer = await reader.readexactly(length)
        if closes:
            await self.close()
        return status, answer, not closes

    async def close(self) -> None:
        if self.streams is not None:
            writer = self.streams[1]
            self.streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def client(
    port: int, outcomes: Outcomes, until_s: float, path: str = "/echo", keeps: bool = True, headers: str = ""
) -> None:
    """Send numbered requests repeatedly. A kept connection that ends is opened again."""
    talk = Talk(port)
    while time.monotonic() < until_s:
        number = b"%d" % random.getrandbits(60)
        began_s = time.monotonic()
        fresh = talk.streams is None
        try:
            status, answer, _ = await asyncio.wait_for(talk.ask(path, number, headers), 20.0)
            mixed = status == 200 and answer != number
            outcomes.note("mixed" if mixed else str(status), time.monotonic() - began_s)
        except ConnectionRefusedError:
            outcomes.note("refused")
            await asyncio.sleep(0.02)
        except TimeoutError:
            outcomes.note("hung")
            await talk.close()
        except (OSError, asyncio.IncompleteReadError):
            outcomes.note("reset" if fresh else "reset kept")
            await talk.close()
        if not keeps:
            await talk.close()
    await talk.close()


@contextlib.asynccontextmanager
async def load(port: int, clients: int, path: str = "/echo", keeps: bool = True) -> AsyncIterator[Outcomes]:
    """Run clients while the block runs, and until they notice its end."""
    outcomes = Outcomes()
    stop = asyncio.Event()

    async def while_wanted() -> None:
        while not stop.is_set():
            await client(port, outcomes, time.monotonic() + 0.1, path, keeps)

    tasks = [asyncio.create_task(while_wanted()) for _ in range(clients)]
    try:
        yield outcomes
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def ask_stats(server: Server) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(server.ask("GET", "/stats").content)
    return parsed


def took_s(server: Server, path: str = "/livez") -> float:
    """Return how long a new client waits for a response."""
    began_s = time.monotonic()
    assert server.ask("GET", path).status == 200
    return time.monotonic() - began_s


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * 4096


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def core_wait_s(pid: int) -> float:
    """Return how long the threads of a process, together, were ready to run while every core was busy (schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text("ascii").split()[1]) for task in tasks) / 1e9
