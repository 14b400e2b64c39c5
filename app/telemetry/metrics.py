"""The metrics of this process, in its page of the counters that the server's workers share."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from app.telemetry.families import DURATION_BOUNDS_S, FAMILIES, SEPARATOR, MetricType, Samples, key, merged, parts
from app.telemetry.memory import memory_bytes
from app.telemetry.shared_counters import REPORTED, SharedCounters

OK = "ok"
SPARE_PAGES = 16
RESTARTS = key("retort_worker_restarts")
RUNS, RUNNING = "retort_artifact_runs", "retort_artifact_runs_running"

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
"""The blocks for the server's own numbers. `refused` and `connections` have labels and are handled apart."""


class Metrics(Protocol):
    """Counts predictions."""

    def predicted(self, model: str, version: int, status: str, rows: int, duration_s: float) -> None:
        """Count one request with its status: `ok` for predictions, else the code of its error."""


class SharedMemory(Protocol):
    """Memory of another module that the workers of a server share, each by its number."""

    def share(self, workers: int) -> None:
        """Make the memory of a server with this many workers."""

    def begin(self, number: int | None) -> None:
        """Write in the name of this worker from now on."""


class _VersionPlaces:
    """The positions of the numbers of one version."""

    __slots__ = ("buckets", "rows", "statuses", "sum")

    def __init__(self, buckets: int, rows: int) -> None:
        self.buckets = buckets
        self.sum = buckets + len(DURATION_BOUNDS_S) + 1
        self.rows = rows
        self.statuses: dict[str, int] = {}


class SharedMetrics:
    """The metrics of this process and of its server. Lives as long as the process.

    A process without a server has one page of its own. A server calls `share` before the first fork. For each worker it
    calls `take` before the fork, `begin` after it in the child, `leave` in the child at an orderly end, and `ended` in
    the master after any end. All methods that count or read may be called from any thread.
    """

    def __init__(self) -> None:
        self.sources: list[Callable[[], None]] = [self._look_at_memory]
        self.server_snapshot: Callable[[], Mapping[str, Any]] | None = None
        """Returns the server's own counts; None in a process without a server."""
        self.is_shared = False
        self.beside: list[SharedMemory] = []
        """Further memory that is shared when this is, by the same workers."""
        self._counters = SharedCounters(1, shared=False)
        self.begin(self._counters.take())

    # --- life cycle of a server's pages

    def share(self, workers: int) -> None:
        """Make the pages of a server with this many workers. This process, its master, takes the first page."""
        # At a reload, old workers still run beside the new ones, perhaps from more than one reload.
        self._counters = SharedCounters(1 + 4 * workers + SPARE_PAGES)
        self._write_on(self._counters.take())
        self._page.place(RESTARTS)  # shown as 0 from the start
        self.is_shared = True
        for memory in self.beside:
            memory.share(workers)

    def take(self) -> int | None:
        """Return a number for the next worker."""
        return self._counters.take()

    def begin(self, number: int | None) -> None:
        """Write the page of this number from now on, continuing its counts. None: a private page."""
        self._write_on(number)
        for name in self._page.names():
            family = FAMILIES.get(parts(name)[0])
            if family is not None and family.kind is MetricType.GAUGE:
                self._cells[self._page.place(name)] = 0.0
        self._page.begin(os.getpid())
        for memory in self.beside:
            memory.begin(number)

    def leave(self) -> None:
        """Record an orderly end of this worker: its running versions did not crash it."""
        for name in self._page.names():
            if parts(name)[0] == RUNNING:
                self._set(name, 0.0)

    def ended(self, number: int | None) -> dict[tuple[str, int], float]:
        """Count the end of a worker. Return the versions that were running, with their runs in all workers."""
        self._cells[self._page.place(RESTARTS)] += 1.0
        if number is None:
            return {}
        died_in = [
            parts(name)[1]
            for name, values in self._counters.page(number).read(number).values.items()
            if parts(name)[0] == RUNNING and values[0] > 0
        ]
        self._counters.release(number)
        contents = self._counters.read() if died_in else []
        return {
            (model, int(version)): sum(content.values.get(key(RUNS, model, version), (0.0,))[0] for content in contents)
            for model, version in died_in
        }

    def _write_on(self, number: int | None) -> None:
        self._page = self._counters.page(number)
        self._cells = self._page.cells
        self._places: dict[tuple[str, int], _VersionPlaces] = {}
        self._runs: dict[tuple[str, int], tuple[int, int]] = {}
        self._observed: dict[str, float] = {}
        self._lock = threading.Lock()

    # --- counting

    def predicted(self, model: str, version: int, status: str, rows: int, duration_s: float) -> None:
        """Count one request; for status `ok` also its rows and its duration.

        It takes no lock (see `WorkerPage`) and makes a single call, because it is part of every prediction.
        """
        places = self._places.get((model, version)) or self._new_places(model, version)
        place = places.statuses.get(status) or self._new_status(places, model, version, status)
        cells = self._cells
        cells[place] += 1.0
        if status == OK:
            bucket = places.buckets + bisect_left(DURATION_BOUNDS_S, duration_s)
            cells[bucket] += 1.0
            cells[places.sum] += duration_s
            cells[places.rows] += rows

    def _new_places(self, model: str, version: int) -> _VersionPlaces:
        labels = (model, str(version))
        buckets = self._page.place(key("retort_prediction_duration_seconds", *labels), len(DURATION_BOUNDS_S) + 2)
        places = _VersionPlaces(buckets, self._page.place(key("retort_prediction_rows", *labels)))
        return self._places.setdefault((model, version), places)

    def _new_status(self, places: _VersionPlaces, model: str, version: int, status: str) -> int:
        place = self._page.place(key("retort_predictions", model, str(version), status))
        return places.statuses.setdefault(status, place)

    def run_began(self, model: str, version: int) -> None:
        """Record that a run of this version begins. Takes no lock (see `WorkerPage`)."""
        running, runs = self._runs.get((model, version)) or self._new_runs(model, version)
        cells = self._cells
        cells[running] += 1.0
        cells[runs] += 1.0

    def run_ended(self, model: str, version: int) -> None:
        """Record that a run of this version has ended."""
        self._cells[self._runs[model, version][0]] -= 1.0

    def _new_runs(self, model: str, version: int) -> tuple[int, int]:
        running, runs = (self._page.place(key(family, model, str(version))) for family in (RUNNING, RUNS))
        return self._runs.setdefault((model, version), (running, runs))

    def observe(self, server: Mapping[str, Any]) -> None:
        """Publish the numbers that a server has counted since its start."""
        with self._lock:
            for name, place in COUNTED.items():
                self._count_up_to(place, server[name])
            for reason, refused in server["refused"].items():
                self._count_up_to(key("retort_refusals", reason), refused)
            for name, place in MEASURED.items():
                self._set(place, server[name])
            for state, connections in server["connections"].items():
                self._set(key("retort_connections", state), connections)
            self._cells[REPORTED] = time.monotonic()

    def refresh_server(self) -> None:
        """Publish the present numbers of this process's server."""
        if self.server_snapshot is not None:
            self.observe(self.server_snapshot())

    def _count_up_to(self, name: str, now: float) -> None:
        before = self._observed.get(name, 0.0)
        if now > before:  # snapshots of two threads may arrive in the wrong order
            self._cells[self._page.place(name)] += now - before
            self._observed[name] = now

    def _set(self, name: str, value: float) -> None:
        self._cells[self._page.place(name)] = value

    # --- counts of other modules that are no metrics

    def add(self, name: str, amounts: Sequence[float]) -> None:
        """Add to each cell of a block of this process. Takes no lock."""
        cells = self._cells
        for place, amount in enumerate(amounts, self._page.place(name, len(amounts))):
            cells[place] += amount

    def put(self, name: str, value: float) -> None:
        """Write the only cell of a block of this process."""
        self._set(name, value)

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
        """Update the metrics that nothing reports by itself: memory and the other sources."""
        for look in self.sources:
            look()

    def states(self, versions: Iterable[tuple[str, str, str]], states: Iterable[str]) -> None:
        """Publish the state of each version: 1 for this state, 0 for the others.

        Args:
            versions: (model, version, state) of each.
            states: all states that there are.
        """
        current = {key("retort_model_state", *version) for version in versions}
        for name in current:
            model_version = name.rpartition(SEPARATOR)[0]
            for state in states:
                self._page.place(key(model_version, state))
        for name in self._page.names():
            if name.startswith(key("retort_model_state", "")):
                self._set(name, float(name in current))

    def _look_at_memory(self) -> None:
        for name, size_bytes in memory_bytes().items():
            self._set(key(f"retort_worker_memory_{name}_bytes"), size_bytes)

    # --- reading

    def samples(self) -> Samples:
        """Return the metrics of the whole server."""
        self.refresh_server()
        if not self.is_shared:
            self.refresh()
        return merged(self._counters.read(), time.monotonic())
