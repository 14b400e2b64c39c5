"""Kill a run with SIGKILL at random moments, resume it each time, and compare with an undisturbed run.

python -m tests.jobs.killed FOLDER --moments 20
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from app.jobs import job as jobs
from app.jobs import parts
from app.jobs.job import ScoringJob, rejects_of
from tests.end_to_end.process import ROOT, environment
from tests.jobs.files import SETTINGS, penguins, write

ROWS = 12_000
SMALL_BYTES = 4000
ENDS_WITHIN_S = 60.0


def run(source: str, output: str, processes: int, runtime: str = "auto") -> None:
    """Score in small parts, resuming an unfinished run."""
    settings = replace(SETTINGS, runtime=runtime)
    parts.TEXT_BYTES = jobs.TEXT_BYTES = SMALL_BYTES  # type: ignore[misc]  # else one process scores it alone
    job = ScoringJob("penguins", None, source, output, ["id"], resume=True, processes=processes, settings=settings)
    job.run()


def killed_at(source: Path, output: Path, moments: int, processes: int = 1, seed: int = 0) -> int:
    """Score a file in processes, kill all but the last at random moments, and return how many were killed."""
    rng = random.Random(seed)
    journal = output.with_name(f".{output.name}.scoring") / "journal.ndjson"
    lines, killed = 0, 0
    total = source.stat().st_size // SMALL_BYTES
    for _ in range(moments):
        lines = min(total - 5, lines + rng.randint(0, 2 * total // moments))
        killed += _killed_after(source, output, processes, journal, lines, rng.uniform(0, 0.005))
    process = started(source, output, processes)
    assert process.wait(ENDS_WITHIN_S) == 0
    return killed


def started(source: Path, output: Path, processes: int, runtime: str = "auto") -> subprocess.Popen[bytes]:
    """Begin a run in its own process."""
    command = [sys.executable, "-m", "tests.jobs.killed", str(source), "--output", str(output), "--runtime", runtime]
    return subprocess.Popen([*command, "--processes", str(processes)], cwd=ROOT, env=environment())


def _killed_after(source: Path, output: Path, processes: int, journal: Path, lines: int, wait_s: float) -> bool:
    """Kill a run shortly after its journal has this many lines."""
    process = started(source, output, processes)
    deadline_s = time.monotonic() + ENDS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if journal.exists() and journal.read_bytes().count(b"\n") > lines:
            break
        time.sleep(0.001)
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def children_of(pid: int) -> list[Path]:
    """Return the files of /proc that list the children of a process, one for each thread."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [Path(f"/proc/{child}") for each in lists for child in each.read_text("ascii").split()]


def ended(processes: Iterable[Path], within_s: float = ENDS_WITHIN_S) -> bool:
    """Wait until these processes are gone."""
    deadline_s = time.monotonic() + within_s
    while any(each.exists() for each in processes) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not any(each.exists() for each in processes)


def table_with_bad_rows(path: Path) -> Path:
    """Write penguins; every hundredth has the island Mars."""
    table = penguins(ROWS)
    table.loc[table["id"] % 100 == 7, "island"] = "Mars"
    return write(table, path)


def same_as_undisturbed(source: Path, output: Path, folder: Path) -> None:
    """Compare the files of a killed run with those of an undisturbed one."""
    whole = folder / f"whole-{output.name}"
    run(str(source), str(whole), 1)
    for one, other in ((output, whole), (Path(rejects_of(str(output))), Path(rejects_of(str(whole))))):
        assert one.read_bytes() == other.read_bytes()
    assert not output.with_name(f".{output.name}.scoring").exists()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--output", default="")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--moments", type=int, default=20)
    asked = parser.parse_args()
    if asked.output:
        run(str(asked.place), asked.output, asked.processes, asked.runtime)
        return
    source = table_with_bad_rows(asked.place / "in.csv")
    killed = killed_at(source, asked.place / "out.csv", asked.moments, asked.processes, seed=time.time_ns())
    same_as_undisturbed(source, asked.place / "out.csv", asked.place)
    print(f"killed {killed} times at random moments: nothing lost, nothing doubled")


if __name__ == "__main__":
    main()
