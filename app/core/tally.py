"""Counts of inferences by model and version since the start of this process: how many, how many rows, how long."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

MAX_BATCH_SIZES = 128


@dataclass(slots=True)
class Span:
    """How often something was done, and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """One more of them."""
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class Counts:
    """What was counted of one version. `by_rows` has the runs by their number of rows, of a bounded number of them."""

    rows: int = 0
    last_ms: int = 0
    success: Span = field(default_factory=Span)
    fail: Span = field(default_factory=Span)
    queue: Span = field(default_factory=Span)
    compute_input: Span = field(default_factory=Span)
    compute_infer: Span = field(default_factory=Span)
    compute_output: Span = field(default_factory=Span)
    by_rows: dict[int, tuple[Span, Span, Span]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spent:
    """How long the parts of one successful request took, in nanoseconds."""

    queue_ns: int
    input_ns: int
    run_ns: int
    output_ns: int


class Tally:
    """Counts requests. Lives as long as the process; safe to call from many threads: an update holds a lock for a
    microsecond or two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int], Counts] = {}

    def succeeded(self, model: str, version: int, rows: int, spent: Spent) -> None:
        """One request was answered."""
        with self._lock:
            counts = self._of(model, version)
            counts.rows += rows
            counts.last_ms = time.time_ns() // 1_000_000
            counts.success.add(spent.queue_ns + spent.input_ns + spent.run_ns + spent.output_ns)
            counts.queue.add(spent.queue_ns)
            parts = (spent.input_ns, spent.run_ns, spent.output_ns)
            spans: tuple[Span, ...] = (counts.compute_input, counts.compute_infer, counts.compute_output)
            if rows in counts.by_rows or len(counts.by_rows) < MAX_BATCH_SIZES:
                spans += counts.by_rows.setdefault(rows, (Span(), Span(), Span()))
            for span, ns in zip(spans, parts * 2, strict=False):
                span.add(ns)

    def failed(self, model: str, version: int, ns: int) -> None:
        """One request was refused, or the model failed on it."""
        with self._lock:
            self._of(model, version).fail.add(ns)

    def of(self, model: str, version: int) -> Counts:
        """What was counted of a version; zeros where there was nothing."""
        return self._counts.get((model, version)) or Counts()

    def _of(self, model: str, version: int) -> Counts:
        return self._counts.setdefault((model, version), Counts())
