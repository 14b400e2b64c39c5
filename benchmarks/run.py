"""Measure this service and its peers in one paired run, and write the report.

    python -m benchmarks.run [--quick] [--only CASE ...] [--out DIR]

All servers of a case run at once on one core, wrk on another. They are loaded in turn, A, B, C, A, B, C, …, and ratios
are taken within a round. The run stops everything that it started, by process id.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import artifacts, cases, quotes, report, venvs, waiting
from benchmarks.artifacts import Absent, why_not
from benchmarks.cases import BY_THEMSELVES, CASES, LAYERS, OURS, OURS_UNBATCHED, PEERS, SHAP, TUTORIAL, Case
from benchmarks.figures import Figures, Side, our_failures
from benchmarks.measure import Cores, MeasureError, Server, measured, running, wrk, wrk_script
from benchmarks.servers import ARTIFACTS, BARE, PACKED_AS, ROOT, WORK, launch

CHECKED_AGAIN = 2
TIMED = ("linear", "forest", "penguins")
PARTS = (*(case.name for case in (*CASES, *BY_THEMSELVES)), "layers", "memory", "start")


@dataclasses.dataclass(frozen=True, slots=True)
class Effort:
    """Durations and numbers of measurements."""

    rounds: int
    seconds: float
    warm_s: float


THOROUGH = Effort(rounds=5, seconds=2, warm_s=1)
QUICK = Effort(rounds=2, seconds=1, warm_s=1)


class Bench:
    """One run: the machine's cores, the effort, and the reasons why peers cannot take part."""

    def __init__(self, cores: Cores, effort: Effort, absent: Absent) -> None:
        self._cores = cores
        self._effort = effort
        self._absent = absent

    # --- the cases ----------------------------------------------------------------------------------------------------

    def case(self, case: Case) -> dict[str, Side]:
        """Measure all sides of a case, round by round."""
        print(f"\n{case.title}", flush=True)
        questions, expected = _questions(case.model)
        found: dict[str, Side] = {}
        with contextlib.ExitStack() as stack:
            servers: dict[str, Server] = {}
            for side in case.sides:
                if why := why_not(self._absent, side, case.model):
                    found[side] = {"failure": why}
                else:
                    servers[side] = stack.enter_context(self._server(case, side))
            scripts = {side: self._script(case, side, questions) for side in servers}
            for side in list(servers):
                with self._noting(found, servers, side):
                    found[side] = self._checked(case, side, servers[side], questions, expected)
            for side in list(servers):
                with self._noting(found, servers, side):
                    server = servers[side]
                    wrk(server.port, scripts[side], self._cores.client, case.connections, self._effort.warm_s)
            for _ in range(self._effort.rounds):
                for side in list(servers):
                    with self._noting(found, servers, side):
                        seconds = self._effort.seconds * case.seconds_factor
                        one = measured(servers[side], scripts[side], self._cores, case.connections, seconds)
                        found[side]["rounds"].append(dataclasses.asdict(one))
            for side in list(servers):
                with self._noting(found, servers, side):
                    self._checked(case, side, servers[side], questions[:CHECKED_AGAIN], expected[:CHECKED_AGAIN])
        for side in case.sides:
            print(f"  {cases.LABELS[side]:34} {_line(found[side])}", flush=True)
        return {side: found[side] for side in case.sides}

    @contextlib.contextmanager
    def _noting(self, found: dict[str, Side], servers: dict[str, Server], side: str) -> Iterator[None]:
        """Record the failure of a side and stop its server; continue with the others."""
        try:
            yield
        except (MeasureError, OSError, subprocess.SubprocessError) as error:
            found[side] = {"failure": str(error)}
            servers.pop(side).stop()

    def _server(self, case: Case, side: str) -> contextlib.AbstractContextManager[Server]:
        return running(launch(side, case.model), WORK / "logs" / f"{case.name}-{side}.log", self._cores.server)

    def _script(self, case: Case, side: str, questions: Sequence[cases.Rows]) -> Path:
        script = WORK / "wrk" / f"{case.name}-{side}.lua"
        script.parent.mkdir(parents=True, exist_ok=True)
        bodies = [cases.body(side, case.model, rows) for rows in questions]
        script.write_text(wrk_script(cases.path(side, case.model), bodies))
        return script

    def _checked(
        self, case: Case, side: str, server: Server, questions: Sequence[cases.Rows], expected: Sequence[Any]
    ) -> Side:
        """Send every request once, and compare every prediction with the notebook's.

        Raises:
            MeasureError: a prediction of Retort's server differs, or more than one in a hundred of a peer's.
        """
        path = cases.path(side, case.model)
        answer = server.await_answer(path, cases.body(side, case.model, questions[0]))
        if side in BARE:
            return {"rounds": [], "differing": 0, "asked": 0}
        wrong = asked = 0
        for rows, predictions in zip(questions, expected, strict=True):
            status, content, _ = server.ask(path, cases.body(side, case.model, rows))
            if status != 200:
                raise MeasureError(f"it answered {status}: {content[:200].decode(errors='replace')}")
            answer = json.loads(content)
            wrong += cases.differing(cases.predictions(side, answer), predictions)
            asked += len(predictions)
        if wrong > (0 if side.startswith(OURS) else asked // 100):
            raise MeasureError(f"{wrong} of {asked} predictions are not the notebook's")
        return {"rounds": [], "differing": wrong, "asked": asked}

    # --- layers, memory, start ----------------------------------------------------------------------------------------

    def timings(self, model: str) -> dict[str, float]:
        """Return the median of each phase of a request in the application, and of the rest, in microseconds."""
        questions, _ = _questions(model)
        bodies = [cases.body(OURS, model, rows).decode() for rows in questions]
        argv = ["taskset", "--cpu-list", str(self._cores.server), sys.executable, str(venvs.HERE / "layers/phases.py")]
        env = {**launch(OURS, model).env, "PORT": "", "PYTHONPATH": str(ROOT), "LOG_LEVEL": "WARNING"}
        ran = subprocess.run(
            argv, cwd=ROOT, env=env, input=json.dumps(bodies), capture_output=True, text=True, check=False
        )
        if ran.returncode:
            print(f"The phases of {model} could not be measured: {ran.stderr[-500:]}", file=sys.stderr)
            return {}
        phases: dict[str, float] = json.loads(ran.stdout)
        return phases

    def memory(self) -> dict[str, dict[str, Any]]:
        """Return the PSS of one and of four workers with the big model, after each of them has answered."""
        print("\nMemory with a 300 MB model", flush=True)
        found: dict[str, dict[str, Any]] = {}
        questions, expected = _questions("big")
        for side in (OURS, TUTORIAL):
            found[side] = {}
            if why := why_not(self._absent, side, "big"):
                found[side] = {"failure": why}
                continue
            case = Case(f"memory-{side}", "", "big", ())
            script = self._script(case, side, questions)
            for workers in (1, 4):
                log = WORK / "logs" / f"memory-{side}-{workers}.log"
                try:
                    with running(launch(side, "big", workers), log, self._cores.server) as server:
                        self._checked(case, side, server, questions, expected)
                        load = wrk(server.port, script, self._cores.client, 16, self._effort.seconds)
                        if load.refused:
                            raise MeasureError(f"{load.refused} of {load.requests} answers were errors")
                        server.settle()
                        found[side][str(workers)] = server.memory_bytes() / 1e6
                except (MeasureError, OSError) as error:
                    found[side]["failure"] = str(error)
            print(f"  {cases.LABELS[side]:34} {found[side]}", flush=True)
        return found

    def start(self) -> dict[str, dict[str, Any]]:
        """Return the seconds from the start of the command to the first correct response (penguins). Ignore a first
        start."""
        print("\nStart to first answer", flush=True)
        sides = (OURS, TUTORIAL)
        found: dict[str, dict[str, Any]] = {side: {"seconds": []} for side in sides}
        questions, expected = _questions("penguins")
        for turn in range(1 + self._effort.rounds):
            for side in sides:
                if why := why_not(self._absent, side, "penguins"):
                    found[side]["failure"] = why
                if "failure" in found[side]:
                    continue
                asked = cases.body(side, "penguins", questions[0])
                began = time.monotonic()
                try:
                    log = WORK / "logs" / f"start-{side}.log"
                    with running(launch(side, "penguins"), log, self._cores.server) as server:
                        answer = server.await_answer("/predict", asked)
                        took = time.monotonic() - began
                        if cases.differing(cases.predictions(side, answer), expected[0]):
                            raise MeasureError("its first answer is not the notebook's")
                except (MeasureError, OSError) as error:
                    found[side]["failure"] = str(error)
                    continue
                if turn:
                    found[side]["seconds"].append(took)
        for side in sides:
            print(f"  {cases.LABELS[side]:34} {found[side]}", flush=True)
        return found


def _questions(model: str) -> tuple[list[cases.Rows], list[Any]]:
    asked = json.loads((ARTIFACTS / f"{model}.json").read_text())
    return asked["questions"], asked["predictions"]


def _line(side: Side) -> str:
    if "failure" in side:
        return f"not measured: {side['failure']}"
    rounds = side["rounds"]
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return (
        f"{middle['cpu_us']:9,.0f} µs CPU {middle['throughput']:9,.0f}/s"
        f"  p50 {middle['p50_us'] / 1e3:8.2f} ms  p99 {middle['p99_us'] / 1e3:8.2f} ms"
    )


# --- the machine ------------------------------------------------------------------------------------------------------


def machine(cores: Cores) -> dict[str, Any]:
    """Return a description of this machine."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_kb = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpu[1].strip() if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory_kb[1]) / 1e6) if memory_kb else 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "server_core": cores.server,
        "client_core": cores.client,
    }


def versions(absent: Absent) -> dict[str, dict[str, str]]:
    """Return the versions of each side's distributions."""
    asks = {side: venvs.python_of(side) for side in (OURS, *PEERS) if (side, "*") not in absent}
    code = "import importlib.metadata as m, json; "
    code += "print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
    wanted = "flask fastapi gunicorn uvicorn uvloop httptools pydantic marshmallow flask-smorest msgspec pysimdjson "
    wanted += "onnxruntime scikit-learn numpy pandas mlserver litserve"
    found = {}
    for side, python in asks.items():
        ran = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
        installed = json.loads(ran.stdout)
        found[side] = {name: installed[name] for name in wanted.split() if name in installed}
    return found


def worker_class() -> str:
    """Return Gunicorn's worker class in Retort's settings. Some bars depend on it."""
    code = "from app import gunicorn_conf as c; print(getattr(c.worker_class, '__name__', c.worker_class))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


def revision() -> str:
    """Return the measured commit, and whether the tree had other changes."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "--", "app", "requirements.txt") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def ensure_wrk() -> None:
    """Install wrk from Debian if that is allowed; otherwise raise an error that names it."""
    if shutil.which("wrk"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit("The benchmark needs wrk. On Debian and Ubuntu, as root: apt-get install wrk")
    print("Installing wrk from Debian.", flush=True)
    quiet = {"env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL}
    for words in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", "wrk"]):
        subprocess.run(["apt-get", *words], check=False, **quiet)  # type: ignore[call-overload]
    if not shutil.which("wrk"):
        raise SystemExit("apt-get could not install wrk.")


def absences() -> Absent:
    """Return the sides that cannot take part, with reasons."""
    from app.settings import Settings

    if (why := venvs.install(OURS)) is not None:
        raise SystemExit(f"Retort could not be installed: {why}")
    absent: Absent = {}
    for peer in (*PEERS, SHAP):
        why = venvs.install(peer)
        if why is not None:
            absent[peer, "*"] = f"it could not be installed: {why}"
            print(f"{cases.LABELS[peer]} could not be installed: {why}", flush=True)
    if "batching" not in {f.name for f in dataclasses.fields(Settings)}:
        absent[OURS_UNBATCHED, "*"] = "this tree has no setting RETORT_BATCHING"
    return absent


def models_of(parts: Sequence[str]) -> list[str]:
    """Return the models that these parts of a run need."""
    by_part: dict[str, tuple[str, ...]] = {case.name: (case.model,) for case in CASES}
    by_part |= {case.name: () for case in BY_THEMSELVES}
    by_part |= {"layers": TIMED, "memory": ("big",), "start": ("penguins",)}
    asked = [model for part in parts for model in by_part[part]]
    return list(dict.fromkeys(name for model in asked for name in (PACKED_AS.get(model, model), model)))


def _interrupted(*_: object) -> None:
    raise SystemExit("interrupted")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make bench", description="This service against its peers, in one paired run."
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: about 4 minutes")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="CASE", help=f"one of: {', '.join(PARTS)}")
    parser.add_argument(
        "--out", type=Path, help="where the report goes; default benchmarks/, with --only benchmarks/.work/"
    )
    chosen = parser.parse_args(words)
    signal.signal(signal.SIGTERM, _interrupted)

    began = time.monotonic()
    ensure_wrk()
    effort, parts = (QUICK if chosen.quick else THOROUGH), chosen.only or PARTS
    cores = Cores.of_this_machine()
    absent = absences()
    absent |= artifacts.prepare(models_of(parts), absent)
    bench = Bench(cores, effort, absent)
    options = [*(["--quick"] if chosen.quick else []), *(f"--only {name}" for name in chosen.only or [])]
    figures: Figures = {
        "machine": machine(cores),
        "run": {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "command": "make bench" + (f' ARGS="{" ".join(options)}"' if options else ""),
            "revision": revision(),
            "worker_class": worker_class(),
            "wrk": subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
            .stdout.split("[")[0]
            .strip(),
            **dataclasses.asdict(effort),
        },
        "versions": versions(absent),
        "cases": {},
    }
    for case in (*CASES, LAYERS):
        if case.name in parts:
            figures["cases"][case.name] = bench.case(case)
    for case, measure in zip(BY_THEMSELVES, (waiting.waiting, waiting.idle), strict=True):
        if case.name in parts:
            print(f"\n{case.title}", flush=True)
            sides = figures["cases"][case.name] = measure(cores, effort.rounds, effort.seconds)
            for side in case.sides:
                print(f"  {cases.LABELS[side]:34} {_line(sides[side])}", flush=True)
    if "layers" in parts:
        figures["timings"] = {model: bench.timings(model) for model in TIMED if not why_not(absent, OURS, model)}
    if "memory" in parts:
        figures["memory"] = bench.memory()
    if "start" in parts:
        figures["start"] = bench.start()
    figures["run"]["minutes"] = round((time.monotonic() - began) / 60, 1)

    out_dir = chosen.out or (WORK if chosen.only else venvs.HERE)
    report.write(figures, out_dir)
    print("\n" + report.bars_table(figures))
    print(f"Written: {out_dir / 'RESULTS.md'}, after {figures['run']['minutes']} minutes.")
    if out_dir == venvs.HERE:
        quotes.main()
    for failure in our_failures(figures):
        print(f"Retort failed: {failure}", file=sys.stderr)
    return 1 if our_failures(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
