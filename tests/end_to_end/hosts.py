"""Hosts with their own addresses, as network namespaces of this machine; each runs one server."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.end_to_end.process import (
    EXAMPLE_MODELS,
    ROOT,
    START_WITHIN_S,
    STOP_WITHIN_S,
    Answer,
    environment,
    web_line,
)

PORT = 8000

PUBLIC = {"RETORT_PUBLIC": 1}
"""Allow a server without keys to listen on a public address."""
_numbers = itertools.count(1)


class Host:
    """A network namespace, with a virtual link to this machine.

    `address` is the host's own. The host reaches this machine at `gateway`, and the shared stores at `store`, until it
    is cut off from them.
    """

    def __init__(self, folder: Path) -> None:
        number = next(_numbers)
        self.name = f"retort{os.getpid()}n{number}"
        self._link = f"rt{os.getpid()}n{number}"[:15]
        network = f"198.18.{os.getpid() % 250}"  # the range for network tests (RFC 2544)
        first = 8 * (number % 31)
        self.gateway, self.address, self.store = (f"{network}.{first + last}" for last in (1, 2, 3))
        self._said = folder / f"said-by-{self.name}"
        self.process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make the namespace and its link."""
        inside = ["-netns", self.name]
        for command in (
            ["netns", "add", self.name],
            ["link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name],
            ["addr", "add", f"{self.gateway}/29", "dev", self._link],
            ["addr", "add", f"{self.store}/29", "dev", self._link],
            ["link", "set", self._link, "up"],
            [*inside, "addr", "add", f"{self.address}/29", "dev", "eth0"],
            [*inside, "link", "set", "eth0", "up"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "route", "add", "default", "via", self.gateway],
        ):
            ip(*command)

    def cut_off(self) -> None:
        """Drop all packets from the host to the stores."""
        ip("addr", "delete", f"{self.store}/29", "dev", self._link)
        ip("route", "add", "blackhole", f"{self.store}/32")

    def reconnect(self) -> None:
        """Undo `cut_off`."""
        ip("route", "delete", "blackhole", f"{self.store}/32")
        ip("addr", "add", f"{self.store}/29", "dev", self._link)

    def remove(self) -> None:
        """Remove the namespace and both ends of the link."""
        for command in (
            ["netns", "delete", self.name],
            ["link", "delete", self._link],
            ["route", "delete", "blackhole", f"{self.store}/32"],
        ):
            subprocess.run(["ip", *command], check=False, capture_output=True)

    @property
    def output(self) -> str:
        """The output of its servers."""
        return self._said.read_text("utf-8", "replace")

    def start(self, **settings: object) -> None:
        """Start the server, and wait until it is ready."""
        settings = {"RETORT_MODELS_DIR": EXAMPLE_MODELS, **PUBLIC, **settings}
        command = ["ip", "netns", "exec", self.name, "sh", "-c", f"exec {web_line()}"]
        with self._said.open("ab") as stream:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(HOST=self.address, PORT=PORT, **settings),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until_s = time.monotonic() + START_WITHIN_S
        while not self.is_ready():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < until_s, self.output
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Return whether `/readyz` reports that the server is ready."""
        with contextlib.suppress(OSError, HTTPException):
            return self.ask("GET", "/readyz").status == 200
        return False

    def ask(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request over a new connection."""
        connection = HTTPConnection(self.address, PORT, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())

    def stop(self) -> int:
        """Stop the server by SIGTERM, and return its status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_WITHIN_S)

    def kill(self) -> None:
        """End all processes of the server at once, like a power failure."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def hosts(folder: Path, count: int) -> Iterator[list[Host]]:
    """Hosts without servers."""
    made = [Host(folder) for _ in range(count)]
    try:
        for host in made:
            host.create()
        yield made
    finally:
        for host in made:
            host.kill()
            host.remove()


def start_all(hosts: Sequence[Host], settings: Callable[[Host], dict[str, object]]) -> None:
    """Start a server on each host, at once."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        for started in [pool.submit(host.start, **settings(host)) for host in hosts]:
            started.result()


@dataclass
class Load:
    """Clients of one address. Each sends one request after another, and compares every answer."""

    port: int
    clients: int
    outcomes: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ends: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """Return how many answers were right."""
        with self._lock:
            return self.outcomes["200"]

    @property
    def failed(self) -> Counter[str]:
        """Return all other outcomes."""
        with self._lock:
            return Counter({name: count for name, count in self.outcomes.items() if name != "200"})

    def until_answered(self, more: int) -> None:
        """Wait for this many more right answers."""
        wanted, until_s = self.answered + more, time.monotonic() + 20
        while self.answered < wanted:
            assert time.monotonic() < until_s, self.outcomes
            time.sleep(0.01)

    def _run(self, number: int) -> None:
        body, prediction = (
            ('{"feature1": 5.1, "feature2": 3.5}', 0) if number % 2 else ('{"feature1": 7.0, "feature2": 3.0}', 2)
        )
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self._ends.is_set():
            try:
                connection.request("POST", "/models/iris-two/predict", body)
                response = connection.getresponse()
                content = response.read()
                right = response.status != 200 or json.loads(content)["prediction"] == [prediction]
                outcome = str(response.status) if right else "wrong"
            except (OSError, HTTPException) as error:
                connection.close()
                outcome = type(error).__name__
            with self._lock:
                self.outcomes[outcome] += 1
        connection.close()
