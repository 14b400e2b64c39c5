"""Start a server on one core, load it from another, and measure CPU, time and memory.

CPU is the time of the whole process tree (`utime + stime` of every process and of its ended children), from
/proc/PID/stat before and after. Memory is PSS (/proc/PID/smaps_rollup), which counts a page shared by n processes as
1/n of a page in each.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.002
JSON = {"Content-Type": "application/json"}


class MeasureError(Exception):
    """A server did not start, did not answer, or answered wrongly. The message is for the report."""


# --- which cores ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of the server and the core of the client; the same if there is only one."""

    server: int
    client: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[1] if len(allowed) > 1 else allowed[0])

    @property
    def separate(self) -> bool:
        return self.server != self.client


# --- the resources that a process tree has used -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/PID/stat. `started` distinguishes a process from a later one with the same id."""

    pid: int
    parent: int
    session: int
    ticks: int
    started: int
    state: str

    @classmethod
    def parsed(cls, text: str) -> ProcessStat:
        """Parse the text of /proc/PID/stat (proc(5)). The name in parentheses may contain spaces and parentheses."""
        pid, _, rest = text.partition(" ")
        fields = rest.rpartition(")")[2].split()
        # fields[0] is the third one of proc(5): state, ppid, pgrp, session …
        ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
        return cls(int(pid), int(fields[1]), int(fields[3]), ticks, int(fields[19]), fields[0])


def processes() -> dict[int, ProcessStat]:
    """Return every process of this machine, by id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):  # it may end while it is read
                stat = ProcessStat.parsed((entry / "stat").read_text())
                found[stat.pid] = stat
    return found


def tree(root: int, everyone: Mapping[int, ProcessStat]) -> list[ProcessStat]:
    """Return the process, its descendants, and all others in the session that it leads."""
    members = {root} | {stat.pid for stat in everyone.values() if stat.session == root}
    grown = True
    while grown:
        children = {stat.pid for stat in everyone.values() if stat.parent in members}
        grown = not children <= members
        members |= children
    return [everyone[pid] for pid in sorted(members) if pid in everyone]


def _alive(once: Iterable[ProcessStat]) -> list[ProcessStat]:
    """Return the processes that still run: no zombies, and no others with the same id."""
    now = processes()
    found = [(stat, now[stat.pid]) for stat in once if stat.pid in now]
    return [stat for stat, current in found if current.started == stat.started and current.state != "Z"]


def pss_bytes(text: str) -> int:
    """Return the proportional set size in the text of /proc/PID/smaps_rollup."""
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss line")


def core_busy_ticks(text: str, core: int) -> int:
    """Return the busy ticks of this core from the text of /proc/stat."""
    for line in text.splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, ticks)
            return user + nice + system + irq + softirq + steal
    raise ValueError(f"no line for cpu{core}")


# --- a server ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    """The command and the environment of a server. `PORT` there and `{port}` in the command become its port."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """One server and all its processes, on one core, from `start` to `stop`."""

    def __init__(self, launch: Launch, log: Path, core: int) -> None:
        self._launch = launch
        self._log = log
        self._core = core
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        self.port = free_port()
        # Pass on only basic variables: no other setting may reach the servers.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        ports = {"port": str(self.port), "port2": str(free_port()), "port3": str(free_port())}
        env = {name: value.format(**ports) for name, value in self._launch.env.items()}
        argv = [word.format(**ports) for word in self._launch.argv]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(self._core), *argv],
                cwd=self._launch.cwd,
                env={**kept, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End every process that this server started, each by its id; kill the remaining ones."""
        if self._process is None:
            return
        started = {stat.pid: stat for stat in self.tree()}
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        started |= {stat.pid: stat for stat in self.tree()}
        for stat in _alive(started.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(stat.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _alive(started.values()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._process = None

    def tree(self) -> list[ProcessStat]:
        return [] if self._process is None else tree(self._process.pid, processes())

    def cpu_ticks(self) -> int:
        return sum(stat.ticks for stat in self.tree())

    def memory_bytes(self) -> int:
        """Return the PSS of all its processes."""
        alive = _alive(self.tree())
        return sum(pss_bytes(Path(f"/proc/{stat.pid}/smaps_rollup").read_text()) for stat in alive)

    def settle(self, quiet_s: float = 0.15, timeout_s: float = 10.0) -> None:
        """Wait until the server has finished the requests of clients that have closed their connections."""
        deadline = time.monotonic() + timeout_s
        before = self.cpu_ticks()
        while time.monotonic() < deadline:
            time.sleep(quiet_s)
            now = self.cpu_ticks()
            if now - before <= 1:
                return
            before = now

    def await_answer(self, path: str, body: bytes) -> Any:
        """Return the first response with status 200, as plain values.

        Raises:
            MeasureError: the server ended, or did not answer so in time; with its last output.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        told = "it did not listen"
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise MeasureError(f"it ended at start: {self.last_words()}")
            try:
                status, content, _ = self.ask(path, body)
                if status == 200:
                    return json.loads(content)
                told = f"it answered {status}: {content[:200].decode(errors='replace')}"
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(POLL_S)
        raise MeasureError(f"no answer within {READY_TIMEOUT_S:.0f} s: {told}")

    def ask(self, path: str, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        """Return status, body and headers of one response, over a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, body, {**JSON, "Authorization": f"Bearer {KEY}"})
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "nothing was said"


@contextlib.contextmanager
def running(launch: Launch, log: Path, core: int) -> Iterator[Server]:
    """Start a server, and stop it in any case."""
    server = Server(launch, log, core)
    try:
        server.start()
        yield server
    finally:
        server.stop()


# --- load -------------------------------------------------------------------------------------------------------------

WRK_MARK = "wrk-summary "
ORIGIN = "https://page.example"
"""The value of `Origin` in all requests."""
KEY = f"retort_benchmarkkey_{'k' * 43}"
"""An API key, which all requests have. Only `cases.OURS_OPERATED` checks it."""
WRK_SCRIPT = """\
-- Asks each question in turn; all requests are made before the first is sent.
local bodies = {{
{bodies}
}}
local requests, turn = {{}}, 0
function init(args)
  local headers = {{ ["Content-Type"] = "application/json" }}
  headers["Origin"], headers["Authorization"] = "{origin}", "Bearer {key}"
  for position, body in ipairs(bodies) do
    requests[position] = wrk.format("POST", "{path}", headers, body)
  end
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
function done(summary, latency, rates)
  local errors = summary.errors
  io.write(string.format(
    '{mark}{{"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,' ..
    '"refused":%d,"broken":%d,"late":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
"""


def wrk_script(path: str, bodies: Sequence[bytes]) -> str:
    """Return the Lua script that posts these bodies, in turn."""
    level = "=" * 3
    quoted = ",\n".join(f"[{level}[{body.decode()}]{level}]" for body in bodies)
    return WRK_SCRIPT.format(bodies=quoted, path=path, mark=WRK_MARK, origin=ORIGIN, key=KEY)


@dataclass(frozen=True, slots=True)
class Load:
    """The counts of wrk. `refused` are responses of status 400 and more, `broken` connections, `late` responses after 2
    s."""

    requests: int
    duration_us: int
    p50_us: float
    p99_us: float
    refused: int
    broken: int
    late: int

    @classmethod
    def parsed(cls, text: str) -> Load:
        """Parse wrk's output.

        Raises:
            MeasureError: the output has no summary.
        """
        for line in text.splitlines():
            if line.startswith(WRK_MARK):
                return cls(**json.loads(line.removeprefix(WRK_MARK)))
        raise MeasureError(f"wrk did not finish: {text.strip()[-200:] or 'it said nothing'}")

    @property
    def throughput(self) -> float:
        """Return the requests per second."""
        return self.requests / (self.duration_us / 1e6)


def wrk(port: int, script: Path, core: int, connections: int, seconds: float) -> Load:
    """Run wrk once: one thread, keep-alive connections."""
    argv = ["taskset", "--cpu-list", str(core), "wrk", "--latency", "--threads", "1"]
    argv += ["--connections", str(connections), "--duration", f"{max(1, round(seconds))}s", "--timeout", "10s"]
    argv += ["--script", str(script), f"http://127.0.0.1:{port}"]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=False)
    return Load.parsed(ran.stdout + ran.stderr)


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of one server."""

    cpu_us: float
    throughput: float
    p50_us: float
    p99_us: float
    requests: int
    others_share: float
    """Share of the server's core that other processes used during the measurement."""


def measured(
    server: Server, script: Path, cores: Cores, connections: int, seconds: float, run: Callable[..., Load] = wrk
) -> Round:
    """Load the server once and measure it.

    The CPU is read when wrk ends: of the requests in flight only the one that the server is running counts.

    Raises:
        MeasureError: a response was an error, or none came.
    """
    server.settle()
    busy_before, before = core_busy_ticks(Path("/proc/stat").read_text(), cores.server), server.cpu_ticks()
    load = run(server.port, script, cores.client, connections, seconds)
    after, busy = server.cpu_ticks(), core_busy_ticks(Path("/proc/stat").read_text(), cores.server)
    if load.refused:
        raise MeasureError(f"{load.refused} of {load.requests} answers were errors")
    if load.requests == 0:
        raise MeasureError("no request was answered under load")
    used = after - before
    others = max(0, busy - busy_before - used) / TICKS_PER_S / (load.duration_us / 1e6)
    cpu_us = used / TICKS_PER_S * 1e6 / load.requests
    return Round(cpu_us, load.throughput, load.p50_us, load.p99_us, load.requests, others)
