"""Measure requests that wait, and the effect of idle connections.

`waiting`: one worker, 500 connections, a step that waits 100 ms for another service, against FastAPI `async def` views
that wait for the same, with aiohttp and with httpx. `idle`: one active connection, alone and beside 5,000 idle ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import venvs
from benchmarks.cases import ALONE, BESIDE_IDLE, OURS, WAITING, WAITING_AIOHTTP
from benchmarks.figures import Side
from benchmarks.measure import Cores, Launch, MeasureError, Server, measured, running, wrk, wrk_script
from benchmarks.servers import BIN, ROOT, WORK, web_line

WAITING_CONNECTIONS = 500
WARM_S = 2.0
SECONDS_FACTOR = 2.0
IDLE_CONNECTIONS = 5_000
MODEL = ROOT / "examples" / "models" / "iris-two"
STUBS = venvs.HERE / "stubs"
QUESTION = json.dumps({"customer_id": 7, "feature2": 3.5}).encode()
PLAIN_QUESTION = json.dumps({"feature1": 5.1, "feature2": 3.5}).encode()
EXPECTED = [0]


def waiting(cores: Cores, rounds: int, seconds: float) -> dict[str, Side]:
    """Measure all sides, round by round, with the same upstream service."""
    _allow_descriptors()
    found: dict[str, Side] = {}
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(_upstream(cores))
        servers = {OURS: stack.enter_context(_served(_ours(upstream), "waiting-retort", cores))}
        for peer in (WAITING_AIOHTTP, WAITING):
            if (why := venvs.install(peer)) is None:
                servers[peer] = stack.enter_context(_served(_peer(peer, upstream), peer, cores))
            else:
                found[peer] = {"failure": f"it could not be installed: {why}"}
        script = _script("waiting", QUESTION)
        for side, server in list(servers.items()):
            try:
                _check(server, QUESTION)
                wrk(server.port, script, cores.client, WAITING_CONNECTIONS, 2)
                found[side] = {"rounds": [], "differing": 0, "asked": 1}
            except (MeasureError, OSError) as error:
                found[side] = {"failure": str(error)}
                servers.pop(side)
        for _ in range(rounds):
            for side, server in servers.items():
                for each in servers.values():  # their clients are gone, but not all of their requests
                    each.settle(quiet_s=0.5, timeout_s=60.0)
                # Reopen connections to the upstream that were idle during the other side's turn.
                wrk(server.port, script, cores.client, WAITING_CONNECTIONS, WARM_S)
                one = measured(server, script, cores, WAITING_CONNECTIONS, SECONDS_FACTOR * seconds)
                found[side]["rounds"].append(dataclasses.asdict(one))
    return found


def idle(cores: Cores, rounds: int, seconds: float, connections: int = IDLE_CONNECTIONS) -> dict[str, Side]:
    """Measure one client of Retort's server, alone and beside idle connections, round by round."""
    _allow_descriptors()
    found: dict[str, Side] = {name: {"rounds": [], "differing": 0, "asked": 1} for name in (ALONE, BESIDE_IDLE)}
    launch = _launched({"RETORT_MODELS_DIR": str(ROOT / "examples" / "models"), "RETORT_DEFAULT_MODEL": "iris-two"})
    script = _script("idle", PLAIN_QUESTION)
    with _served(launch, "idle-retort", cores) as server:
        _check(server, PLAIN_QUESTION)
        wrk(server.port, script, cores.client, 1, 1)
        for _ in range(rounds):
            for name in (ALONE, BESIDE_IDLE):
                with _idle_connections(server.port, connections if name == BESIDE_IDLE else 0):
                    found[name]["rounds"].append(dataclasses.asdict(measured(server, script, cores, 1, seconds)))
    return found


@contextlib.contextmanager
def _idle_connections(port: int, count: int) -> Iterator[None]:
    """Hold this many keep-alive connections that have sent one request."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), timeout=10)
            opened.append(one)
            one.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not one.recv(4096).startswith(b"HTTP/1.1 200"):
                raise MeasureError("a connection that was to be idle was refused")
        yield
    finally:
        for one in opened:
            one.close()


def _check(server: Server, question: bytes) -> None:
    answer = server.await_answer("/predict", question)
    if answer["prediction"] != EXPECTED:
        raise MeasureError(f"it predicted {answer['prediction']}, not {EXPECTED}")


@contextlib.contextmanager
def _upstream(cores: Cores) -> Iterator[str]:
    """Start the service that all sides wait for, on the client's core, and return its URL."""
    launch = Launch([sys.executable, str(STUBS / "upstream.py"), "{port}"], WORK)
    WORK.mkdir(parents=True, exist_ok=True)
    with running(launch, WORK / "logs" / "upstream.log", cores.client) as server:
        yield f"http://127.0.0.1:{server.port}"


def _served(launch: Launch, name: str, cores: Cores) -> contextlib.AbstractContextManager[Server]:
    return running(launch, WORK / "logs" / f"{name}.log", cores.server)


def _launched(more: dict[str, str]) -> Launch:
    env = {"HOST": "127.0.0.1", "PORT": "{port}", "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin"}
    env |= {"RETORT_ACCESS_LOG": "off", **more}
    return Launch(web_line((ROOT / "Procfile").read_text()), ROOT, env)


def _ours(upstream: str) -> Launch:
    """Return the launch of Retort's server with the model whose manifest lists the step."""
    models = WORK / "waiting-models"
    shutil.rmtree(models, ignore_errors=True)
    shutil.copytree(MODEL, models / MODEL.name)
    for path in models.glob("*/*/manifest.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "before": ["enrich"]}))
        path.with_name("manifest.sha256").unlink()
    env = {"RETORT_MODELS_DIR": str(models), "RETORT_STEPS": "waiting_steps", "PYTHONPATH": str(STUBS)}
    return _launched({**env, "UPSTREAM": upstream, "LOG_LEVEL": "WARNING"})


def _peer(peer: str, upstream: str) -> Launch:
    argv = [str(venvs.VENVS / peer / "bin" / "uvicorn"), "--app-dir", str(venvs.HERE / "peers" / peer)]
    argv += ["waiting:app", "--port", "{port}", "--no-access-log", "--log-level", "warning"]
    return Launch(argv, MODEL / "1", {"UPSTREAM": upstream})


def _script(name: str, question: bytes) -> Path:
    script = WORK / "wrk" / f"{name}.lua"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(wrk_script("/predict", [question]))
    return script


def _allow_descriptors() -> None:
    """Allow this process and its children as many open files as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Measure both with fewer rounds, for development."""
    cores = Cores.of_this_machine()
    parts: dict[str, Any] = {"waiting": lambda: waiting(cores, 3, 3), "idle": lambda: idle(cores, 3, 2)}
    for name in sys.argv[1:] or list(parts):
        print(name, json.dumps(parts[name](), indent=1), flush=True)


if __name__ == "__main__":
    main()
