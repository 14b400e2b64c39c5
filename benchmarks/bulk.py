"""Compare bulk scoring with a typical script for the same rows. The sides alternate, each in new processes.

    python -m benchmarks.bulk [--rows 500000] [--rounds 5] [--folder build/bulk]

Each side first scores a few rows, untimed, so that Python compiles the imported modules. A variable that keeps Python
from storing compiled modules is not passed on: it would add the same second to each run of either side.

Print the median rows per second of each side, the same per second of CPU (which other programs on the machine disturb
less), the median of the ratios of the rounds, and the largest memory (PSS) of all processes of a side. The figures of
CPU and memory leave out Dask's workers.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from app import pack
from benchmarks.models import forest, penguins

CORES = 2
ROWS_AT_ONCE = 100_000
WRITTEN_AT_ONCE = 1_000_000
WARMING_ROWS = 1000

FOREST_SCRIPT = """
import sys, warnings, joblib, pyarrow as pa, pyarrow.parquet as pq
warnings.simplefilter("ignore")
model, source, output, rows = *sys.argv[1:4], int(sys.argv[4])
model = joblib.load(model)
model.n_jobs = 2
writer = None
for batch in pq.ParquetFile(source).iter_batches(rows):
    table = pa.table({"prediction": model.predict(batch.to_pandas())})
    writer = writer or pq.ParquetWriter(output, table.schema)
    writer.write_table(table)
writer.close()
"""
PENGUINS_SCRIPT = """
import sys, joblib, pandas as pd
model, source, output, rows = *sys.argv[1:4], int(sys.argv[4])
model = joblib.load(model)
model[-1].n_jobs = 2
for at, chunk in enumerate(pd.read_csv(source, chunksize=rows)):
    found = pd.DataFrame({"prediction": model.predict(chunk)})
    found.to_csv(output, index=False, mode="a" if at else "w", header=not at)
"""
SCRIPT = "the usual script"
LOCAL = "retort, two processes"
DASK = "retort, two Dask workers"


@dataclass(frozen=True)
class Case:
    name: str
    script: str
    source: Path
    warming: Path
    suffix: str
    required: float


def written_forest(folder: Path, rows: int) -> Path:
    """Write rows of 30 numbers: real patients, each measurement up to 2 % off."""
    path = folder / f"forest-{rows}.parquet"
    if not path.exists():
        features = np.concatenate(forest()[1])
        random, writer = np.random.default_rng(0), None
        for begin in range(0, rows, WRITTEN_AT_ONCE):
            chosen = features[random.integers(len(features), size=min(WRITTEN_AT_ONCE, rows - begin))]
            made = np.round(chosen * random.uniform(0.98, 1.02, size=chosen.shape), 4)
            table = pa.table({f"feature{at + 1}": made[:, at] for at in range(made.shape[1])})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
    return path


def written_penguins(folder: Path, rows: int) -> Path:
    """Write penguins with other measurements, some of them missing."""
    path = folder / f"penguins-{rows}.csv"
    if not path.exists():
        birds = pd.concat(penguins()[1])
        for begin in range(0, rows, WRITTEN_AT_ONCE):
            some = birds.sample(min(WRITTEN_AT_ONCE, rows - begin), replace=True, random_state=begin)
            random = np.random.default_rng(begin)
            for name in some.select_dtypes("number").columns.drop("year"):
                some[name] = (some[name] * random.uniform(0.95, 1.05, len(some))).round(1)
            some.to_csv(path, index=False, mode="a" if begin else "w", header=not begin)
    return path


def packed(folder: Path) -> None:
    """Pack both models, unless they are there."""
    for name, make in (("forest", forest), ("penguins", penguins)):
        artifact = folder / f"{name}.joblib"
        if not artifact.exists():
            model = make()[0]
            pack(model, name, models_dir=folder / "models")
            joblib.dump(model, artifact)


class Memory(threading.Thread):
    """Sample the memory of all processes of a session."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self._session = session
        self.largest_kib = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self.largest_kib = max(self.largest_kib, sum(map(self._of, Path("/proc").glob("[0-9]*"))))

    def _of(self, process: Path) -> int:
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) != self._session:
                return 0
            found = re.search(r"^Pss:\s+(\d+)", (process / "smaps_rollup").read_text(), re.MULTILINE)
        except OSError:
            return 0
        return int(found[1]) if found else 0


def timed(command: list[str], **variables: object) -> tuple[float, float, int]:
    """Run a command. Return its wall time and CPU time in seconds, and the peak memory of its processes in KiB."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    memory = Memory(process.pid)
    memory.start()
    before = os.times()
    status = process.wait()
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    taken_s = time.monotonic() - begun
    memory.ended.set()
    memory.join()
    assert status == 0, command
    return taken_s, cpu_s, memory.largest_kib


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Start a scheduler and two workers of one thread each."""
    said = folder / "scheduler.log"
    program = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    with said.open("wb") as stream:
        processes = [subprocess.Popen([*program, "--no-dashboard"], stdout=stream, stderr=stream)]
    try:
        while not (match := re.search(r"Scheduler at:\s+(tcp://\S+)", said.read_text())):
            time.sleep(0.1)
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
        for _ in range(CORES):
            worker = [sys.executable, "-m", "distributed.cli.dask_worker", match[1], *options]
            processes.append(subprocess.Popen(worker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield match[1]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def commands(case: Case, source: Path, folder: Path, address: str) -> dict[str, list[str]]:
    """Return the command of each side that scores the rows of `source`."""
    model, output = folder / f"{case.name}.joblib", folder / "out"
    given = (model, source, f"{output}-script{case.suffix}", ROWS_AT_ONCE)
    flask = [sys.executable, "-m", "flask", "score", case.name, str(source)]
    return {
        SCRIPT: [sys.executable, "-c", case.script, *map(str, given)],
        LOCAL: [*flask, f"{output}-local{case.suffix}", "--processes", str(CORES)],
        DASK: [*flask, f"{output}-dask{case.suffix}", "--engine", "dask", "--cluster", address],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("build/bulk"))
    asked = parser.parse_args()
    folder, rows = asked.folder.resolve(), asked.rows
    folder.mkdir(parents=True, exist_ok=True)
    packed(folder)
    cases = [
        Case(
            "forest", FOREST_SCRIPT, written_forest(folder, rows), written_forest(folder, WARMING_ROWS), ".parquet", 5.0
        ),
        Case(
            "penguins",
            PENGUINS_SCRIPT,
            written_penguins(folder, rows),
            written_penguins(folder, WARMING_ROWS),
            ".csv",
            8.0,
        ),
    ]
    variables = {"RETORT_MODELS_DIR": folder / "models", "OMP_NUM_THREADS": 1}
    with cluster(folder) as address:
        for case in cases:
            for command in commands(case, case.warming, folder, address).values():
                timed(command, **variables)
            sides = commands(case, case.source, folder, address)
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            cpu: dict[str, list[float]] = {side: [] for side in sides}
            memory = dict.fromkeys(sides, 0)
            for _ in range(asked.rounds):
                for side, command in sides.items():
                    taken_s, cpu_s, kib = timed(command, **variables)
                    seconds[side].append(taken_s)
                    cpu[side].append(cpu_s)
                    memory[side] = max(memory[side], kib)
            print(f"{case.name}, {rows:,} rows, {asked.rounds} rounds:")
            for side, taken in seconds.items():
                of_cpu, mib = rows / median(cpu[side]), memory[side] / 1024
                print(f"  {side:26} {rows / median(taken):12,.0f} rows/s {of_cpu:12,.0f} of CPU {mib:8,.0f} MiB")
            quicker = median(a / b for a, b in zip(seconds[SCRIPT], seconds[LOCAL], strict=True))
            share = median(a / b for a, b in zip(seconds[LOCAL], seconds[DASK], strict=True))
            thriftier = median(a / b for a, b in zip(cpu[SCRIPT], cpu[LOCAL], strict=True))
            print(f"  Retort is {quicker:.1f} times as fast as the script; required: {case.required}")
            print(f"  By the seconds of CPU it is {thriftier:.1f} times.")
            print(f"  Dask is {share:.2f} times as fast as local processes; required: 0.8")


if __name__ == "__main__":
    main()
