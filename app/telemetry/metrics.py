"""What this process counts, on its sheet of the board that the server's workers share."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from app.telemetry.board import REPORTED, MetricBoard
from app.telemetry.families import DURATION_BOUNDS_S, FAMILIES, SEPARATOR, MetricType, Samples, key, merged, parts
from app.telemetry.memory import memory_bytes

OK = "ok"
SPARE_SHEETS = 16
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
"""What of a server's own numbers goes where; `refused` and `connections` have labels and are treated apart."""


class Metrics(Protocol):
    """Where a prediction is counted."""

    def predicted(self, model: str, version: int, status: str, rows: int, duration_s: float) -> None:
        """One request was answered with predictions (`ok`), or ended with the code of an error."""


class NullMetrics:
    """Counts nothing."""

    def predicted(self, model: str, version: int, status: str, rows: int, duration_s: float) -> None:
        """Nothing."""


class _Series:
    """Where on the sheet the numbers of one version are."""

    __slots__ = ("buckets", "rows", "statuses", "sum")

    def __init__(self, buckets: int, rows: int) -> None:
        self.buckets = buckets
        self.sum = buckets + len(DURATION_BOUNDS_S) + 1
        self.rows = rows
        self.statuses: dict[str, int] = {}


class SharedMetrics:
    """The metrics of this process, and of the server that it belongs to. Lives as long as the process.

    A process alone has a board of one sheet. A server calls `share` before the first fork and, for each worker, `take`
    before its fork, `begin` after it in the child, `leave` in the child if it ends in order, `ended` in the master when
    it is gone, however it went. `predicted`, `run_began`, `run_ended`, `observe`, `refresh` and `samples` may be called
    from any thread.
    """

    def __init__(self) -> None:
        self.sources: list[Callable[[], None]] = [self._look_at_memory]
        self.server_snapshot: Callable[[], Mapping[str, Any]] | None = None
        """What the server of this process counts itself; None where it counts nothing."""
        self.is_shared = False
        self._board = MetricBoard(1, shared=False)
        self.begin(self._board.take())

    # --- the life of a server

    def share(self, workers: int) -> None:
        """Makes the board of a server with so many workers; this process, its master, keeps the first sheet."""
        # While workers are replaced, the old ones are still there: at a reload all of them, perhaps more than once.
        self._board = MetricBoard(1 + 4 * workers + SPARE_SHEETS)
        self._write_on(self._board.take())
        self._sheet.place(RESTARTS)  # 0 is a number too
        self.is_shared = True

    def take(self) -> int | None:
        """A number for the next worker."""
        return self._board.take()

    def begin(self, number: int | None) -> None:
        """This process is the worker of that number: it goes on from its counts; without one, nobody sees it."""
        self._write_on(number)
        for name in self._sheet.names():
            family = FAMILIES.get(parts(name)[0])
            if family is not None and family.kind is MetricType.GAUGE:
                self._cells[self._sheet.place(name)] = 0.0
        self._sheet.begin(os.getpid())

    def leave(self) -> None:
        """This worker ends in order: what it still runs has not brought it down."""
        for name in self._sheet.names():
            if parts(name)[0] == RUNNING:
                self._set(name, 0.0)

    def ended(self, number: int | None) -> dict[tuple[str, int], float]:
        """The worker of that number is gone; the versions that it died in, each with its runs so far in all workers."""
        self._cells[self._sheet.place(RESTARTS)] += 1.0
        if number is None:
            return {}
        died_in = [
            parts(name)[1]
            for name, values in self._board.sheet(number).read(number).values.items()
            if parts(name)[0] == RUNNING and values[0] > 0
        ]
        self._board.release(number)
        readings = self._board.read() if died_in else []
        return {
            (model, int(version)): sum(reading.values.get(key(RUNS, model, version), (0.0,))[0] for reading in readings)
            for model, version in died_in
        }

    def _write_on(self, number: int | None) -> None:
        self._sheet = self._board.sheet(number)
        self._cells = self._sheet.cells
        self._series: dict[tuple[str, int], _Series] = {}
        self._runs: dict[tuple[str, int], tuple[int, int]] = {}
        self._observed: dict[str, float] = {}
        self._lock = threading.Lock()

    # --- what happens

    def predicted(self, model: str, version: int, status: str, rows: int, duration_s: float) -> None:
        """Counts one request; its rows and its duration only where it was answered with predictions.

        Takes no lock (see `Sheet`) and makes no call but one: it is part of every prediction.
        """
        series = self._series.get((model, version)) or self._new_series(model, version)
        place = series.statuses.get(status) or self._new_status(series, model, version, status)
        cells = self._cells
        cells[place] += 1.0
        if status == OK:
            bucket = series.buckets + bisect_left(DURATION_BOUNDS_S, duration_s)
            cells[bucket] += 1.0
            cells[series.sum] += duration_s
            cells[series.rows] += rows

    def _new_series(self, model: str, version: int) -> _Series:
        labels = (model, str(version))
        buckets = self._sheet.place(key("retort_prediction_duration_seconds", *labels), len(DURATION_BOUNDS_S) + 2)
        series = _Series(buckets, self._sheet.place(key("retort_prediction_rows", *labels)))
        return self._series.setdefault((model, version), series)

    def _new_status(self, series: _Series, model: str, version: int, status: str) -> int:
        place = self._sheet.place(key("retort_predictions", model, str(version), status))
        return series.statuses.setdefault(status, place)

    def run_began(self, model: str, version: int) -> None:
        """A run of this version begins. Takes no lock (see `Sheet`)."""
        running, runs = self._runs.get((model, version)) or self._new_runs(model, version)
        cells = self._cells
        cells[running] += 1.0
        cells[runs] += 1.0

    def run_ended(self, model: str, version: int) -> None:
        """It is over."""
        self._cells[self._runs[model, version][0]] -= 1.0

    def _new_runs(self, model: str, version: int) -> tuple[int, int]:
        running, runs = (self._sheet.place(key(family, model, str(version))) for family in (RUNNING, RUNS))
        return self._runs.setdefault((model, version), (running, runs))

    def observe(self, server: Mapping[str, Any]) -> None:
        """Publish what a server counts itself since its start."""
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
        """Publish what the server of this process counts at this moment."""
        if self.server_snapshot is not None:
            self.observe(self.server_snapshot())

    def _count_up_to(self, name: str, now: float) -> None:
        before = self._observed.get(name, 0.0)
        if now > before:  # two threads may come with their snapshots in the wrong order
            self._cells[self._sheet.place(name)] += now - before
            self._observed[name] = now

    def _set(self, name: str, value: float) -> None:
        self._cells[self._sheet.place(name)] = value

    # --- what others count, that is no metric

    def add(self, name: str, amounts: Sequence[float]) -> None:
        """Adds to each cell of a block of this process; takes no lock, as `predicted`."""
        cells = self._cells
        for place, amount in enumerate(amounts, self._sheet.place(name, len(amounts))):
            cells[place] += amount

    def put(self, name: str, value: float) -> None:
        """Writes the one cell of a block of this process."""
        self._set(name, value)

    def has(self, name: str) -> bool:
        """Whether this process has a block of this name."""
        return self._sheet.has(name)

    def names(self, prefix: str) -> list[str]:
        """The blocks of this process whose names begin so."""
        return [name for name in self._sheet.names() if name.startswith(prefix)]

    def sheets(self) -> list[dict[str, tuple[float, ...]]]:
        """The blocks of every process that there was."""
        return [reading.values for reading in self._board.read()]

    # --- what is looked at now and then

    def refresh(self) -> None:
        """Looks at what nobody reports: memory, and what else is among the sources."""
        for look in self.sources:
            look()

    def states(self, versions: Iterable[tuple[str, str, str]], states: Iterable[str]) -> None:
        """Publishes the state of each version (model, version, state), 1 for that and 0 for the other states."""
        current = {key("retort_model_state", *version) for version in versions}
        for name in current:
            model_version = name.rpartition(SEPARATOR)[0]
            for state in states:
                self._sheet.place(key(model_version, state))
        for name in self._sheet.names():
            if name.startswith(key("retort_model_state", "")):
                self._set(name, float(name in current))

    def _look_at_memory(self) -> None:
        for name, size_bytes in memory_bytes().items():
            self._set(key(f"retort_worker_memory_{name}_bytes"), size_bytes)

    # --- what is asked

    def samples(self) -> Samples:
        """The metrics of the whole server."""
        self.refresh_server()
        if not self.is_shared:
            self.refresh()
        return merged(self._board.read(), time.monotonic())
