"""The metrics of this process, in its own page of the counters that the server's workers share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from app.telemetry.families import FAMILIES, SEPARATOR, MetricType, Samples, key, merged, parts
from app.telemetry.process_state import memory_bytes
from app.telemetry.shared_counters import REPORTED, SharedCounters, WorkerPage
from app.telemetry.version_counts import OK, OTHER, RUNNING, RUNS, Histogram, PredictionCounts, RunCounts, artifact_runs

SPARE_PAGES = 16
MOST_RESPONSE_KINDS = 256
NO_PROBLEM = "none"
RESTARTS = key("retort_worker_restarts")
CPU = key("retort_worker_cpu_seconds")
CountsT = TypeVar("CountsT")

COUNTED = {
    "accepted": key("retort_connections_accepted"),
    "evicted": key("retort_connections_evicted"),
    "inline": key("retort_requests", "inline"),
    "threaded": key("retort_requests", "threaded"),
    "awaited": key("retort_requests", "awaited"),
    "answered": key("retort_answers"),
    "late": key("retort_answers_late"),
    "left": key("retort_clients_gone"),
    "dropped": key("retort_clients_gone_queued"),
}
MEASURED = {
    "running": key("retort_requests_running"),
    "queued": key("retort_queue_requests"),
    "queue_age_s": key("retort_queue_age_seconds"),
    "turn_max_s": key("retort_loop_turn_max_seconds"),
}
"""The blocks for the server's own numbers, by their names in `Stats`. `refused` and `connections` have labels, so
`observe` handles them separately."""


class SharedMemory(Protocol):
    """Memory of another module that the workers of a server share. Each worker writes the part of its number."""

    def share(self, workers: int) -> None:
        """Make the memory for a server with this many workers."""

    def begin(self, number: int | None) -> None:
        """Write the part of this worker from now on."""


class SharedMetrics:
    """The metrics of this process and of its server. Lives as long as the process.

    A process without a server has one page of its own. A server calls `share` before the first fork. For each worker it
    calls `take` before the fork, `begin` after it in the child, `leave` in the child at an orderly end, and `ended` in
    the master after any end. All methods that count or read may be called from any thread.
    """

    def __init__(self) -> None:
        self.sources: list[Callable[[], None]] = [self._measure_process]
        self.server_snapshot: Callable[[], Mapping[str, Any]] | None = None
        """Function that returns the server's own counts; None in a process without a server."""
        self.is_shared = False
        self.beside: list[SharedMemory] = []
        """Memory of other modules, which is shared at the same time and by the same workers."""
        self._counters = SharedCounters(1, shared=False)
        self.begin(self._counters.take())

    # --- life cycle of a server's pages

    def share(self, workers: int) -> None:
        """Make the pages of a server with this many workers. This process, its master, takes the first page."""
        counted = self._page.read(0).values  # such as the loads of the models
        # After a reload, old workers still run beside the new ones, perhaps from several reloads.
        self._counters = SharedCounters(1 + 4 * workers + SPARE_PAGES)
        self._write_on(self._counters.take())
        for name, values in counted.items():
            self.add(name, values)
        self._page.place(RESTARTS)  # shown as 0 from the start
        self.is_shared = True
        for memory in self.beside:
            memory.share(workers)

    def take(self) -> int | None:
        """Return a number for the next worker."""
        return self._counters.take()

    def begin(self, number: int | None) -> None:
        """Write the page of this number from now on, and continue its counts; None for a private page."""
        self._write_on(number)
        for name in self._page.names():
            family = FAMILIES.get(parts(name)[0])
            if family is not None and family.kind is MetricType.GAUGE:
                self._cells[self._page.place(name)] = 0.0
        self._page.begin(os.getpid())
        for memory in self.beside:
            memory.begin(number)

    def leave(self) -> None:
        """Record an orderly end of this worker, so that no running version is taken for the cause of a crash."""
        for name in self._page.names():
            if parts(name)[0] == RUNNING:
                self.put(name, 0.0)

    def ended(self, number: int | None) -> dict[tuple[str, int], float]:
        """Count the end of a worker. Return the versions that were running, with their runs in all workers."""
        self._count_one(RESTARTS)
        if number is None:
            return {}
        running = [
            parts(name)[1]
            for name, values in self._counters.page(number).read(number).values.items()
            if parts(name)[0] == RUNNING and values[0] > 0
        ]
        self._counters.release(number)
        contents = self._counters.read() if running else []
        return {
            (model, int(version)): sum(content.values.get(key(RUNS, model, version), (0.0,))[0] for content in contents)
            for model, version in running
        }

    def _write_on(self, number: int | None) -> None:
        self._page = self._counters.page(number)
        self._cells = self._page.cells
        self._by_version: dict[tuple[object, str, int], Any] = {}
        self._responses: dict[tuple[int, str], int] = {}
        self._observed: dict[str, float] = {}
        self._lock = threading.Lock()

    # --- counting

    def responded(self, status: int, outcome: str) -> None:
        """Count one response with its outcome: `ok`, or the name of its problem. Takes no lock (see `WorkerPage`)."""
        cells = self._cells
        place = self._responses.get((status, outcome)) or self._new_response(status, outcome)
        cells[place] += 1.0

    def _new_response(self, status: int, outcome: str) -> int:
        problem = NO_PROBLEM if outcome == OK else outcome
        if len(self._responses) >= MOST_RESPONSE_KINDS:
            return self._page.place(key("retort_responses", str(status), OTHER))
        place = self._page.place(key("retort_responses", str(status), problem))
        return self._responses.setdefault((status, outcome), place)

    def predicted(
        self, model: str, version: int, status: str, rows: int, duration_s: float, stages_ms: Mapping[str, float]
    ) -> None:
        """Count one request; for status `ok` also its rows and the durations of the whole and of each stage."""
        self._counts(PredictionCounts, model, version).count(status, rows, duration_s, stages_ms)

    def run_began(self, model: str, version: int) -> None:
        """Record that a run of this artifact begins."""
        cells, (running, runs) = self._cells, self._counts(artifact_runs, model, version)
        cells[running] += 1.0
        cells[runs] += 1.0

    def run_ended(self, model: str, version: int) -> None:
        """Record that a run of this artifact has ended."""
        cells, (running, _) = self._cells, self._counts(artifact_runs, model, version)
        cells[running] -= 1.0

    def ran(
        self, model: str, version: int, rows: int, requests: int, classes: Sequence[object], predicted: Sequence[object]
    ) -> None:
        """Count one run of a model for the rows of some requests; of a classifier also the predicted labels."""
        self._counts(RunCounts, model, version).count(rows, requests, classes, predicted)

    def _counts(self, make: Callable[[WorkerPage, str, int], CountsT], model: str, version: int) -> CountsT:
        """Return the counts of a version on this process's page, after making them at the first call."""
        counts: CountsT | None = self._by_version.get((make, model, version))
        if counts is None:
            counts = self._by_version.setdefault((make, model, version), make(self._page, model, version))
        return counts

    def loaded(self, model: str, version: int, succeeded: bool, duration_s: float) -> None:
        """Count one load of a version."""
        self._count_one(key("retort_model_loads", model, str(version), "succeeded" if succeeded else "failed"))
        Histogram(self._page, "retort_model_load_duration_seconds", model, str(version)).observe(duration_s)

    def proved(self, model: str, version: int, passed: bool) -> None:
        """Count one proof of a version."""
        self._count_one(key("retort_model_proofs", model, str(version), "passed" if passed else "failed"))

    def _count_one(self, name: str) -> None:
        place = self._page.place(name)
        self._cells[place] += 1.0

    def observe(self, server: Mapping[str, Any]) -> None:
        """Publish the numbers that a server has counted since its start."""
        with self._lock:
            for name, place in COUNTED.items():
                self._count_up_to(place, server[name])
            for reason, refused in server["refused"].items():
                self._count_up_to(key("retort_refusals", reason), refused)
            for name, place in MEASURED.items():
                self.put(place, server[name])
            for state, connections in server["connections"].items():
                self.put(key("retort_connections", state), connections)
            self._cells[REPORTED] = time.monotonic()

    def refresh_server(self) -> None:
        """Publish the present numbers of this process's server."""
        if self.server_snapshot is not None:
            self.observe(self.server_snapshot())

    def _count_up_to(self, name: str, now: float) -> None:
        place = self._page.place(name)  # shown as 0 until something happens
        before = self._observed.get(name, 0.0)
        if now > before:  # snapshots of two threads may arrive in the wrong order
            self._cells[place] += now - before
            self._observed[name] = now

    # --- counts of other modules, which are not metrics

    def add(self, name: str, amounts: Sequence[float]) -> None:
        """Add to each cell of a block of this process. Takes no lock."""
        cells = self._cells
        for place, amount in enumerate(amounts, self._page.place(name, len(amounts))):
            cells[place] += amount

    def put(self, name: str, value: float) -> None:
        """Write the only cell of a block of this process."""
        self._cells[self._page.place(name)] = value

    def has(self, name: str) -> bool:
        """Return whether this process has a block of this name."""
        return self._page.has(name)

    def names(self, prefix: str) -> list[str]:
        """Return the names of this process's blocks that begin with a prefix."""
        return [name for name in self._page.names() if name.startswith(prefix)]

    def pages(self) -> list[dict[str, tuple[float, ...]]]:
        """Return the blocks of every process, including ended ones."""
        return [content.values for content in self._counters.read()]

    # --- measuring

    def refresh(self) -> None:
        """Update the metrics that must be measured: memory, CPU time and the other `sources`."""
        for update in self.sources:
            update()

    def states(self, versions: Iterable[tuple[str, str, str]], states: Iterable[str]) -> None:
        """Publish the state of each version: 1 for its present state, 0 for all other states.

        Args:
            versions: tuples of model, version and state.
            states: all possible states.
        """
        current = {key("retort_model_state", *version) for version in versions}
        for name in current:
            model_version = name.rpartition(SEPARATOR)[0]
            for state in states:
                self._page.place(key(model_version, state))
        for name in self._page.names():
            if name.startswith(key("retort_model_state", "")):
                self.put(name, float(name in current))

    def _measure_process(self) -> None:
        with self._lock:
            self._count_up_to(CPU, time.process_time())
        for name, size_bytes in memory_bytes().items():
            self.put(key(f"retort_worker_memory_{name}_bytes"), size_bytes)

    # --- reading

    def samples(self) -> Samples:
        """Return the metrics of the whole server."""
        self.refresh_server()
        if not self.is_shared:
            self.refresh()
        return merged(self._counters.read(), time.monotonic())
