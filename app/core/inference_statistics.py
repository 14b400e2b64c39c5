"""Inference statistics by model and version since the start of the server: counts, rows and durations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.telemetry import Timings
from app.telemetry.families import key, parts
from app.telemetry.metrics import SharedMetrics

MAX_BATCH_SIZES = 64
COUNTS, LAST, SIZES = "inferences", "inferences_last", "inferences_of_size"
"""Names of blocks in the workers' shared counters. They are not metrics."""


@dataclass(frozen=True, slots=True)
class Span:
    """The number of runs of a phase, and their total duration."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """The statistics of one version. `by_rows` holds runs by batch size, for a bounded number of sizes."""

    rows: int = 0
    last_ms: int = 0
    success: Span = Span()
    fail: Span = Span()
    queue: Span = Span()
    compute_input: Span = Span()
    compute_infer: Span = Span()
    compute_output: Span = Span()
    by_rows: dict[int, tuple[Span, ...]] = field(default_factory=dict)


class InferenceStatistics:
    """Statistics of requests, in the shared counters of the workers. Safe to call from many threads."""

    def __init__(self, metrics: SharedMetrics) -> None:
        self._metrics = metrics

    def succeeded(self, model: str, version: int, rows: int, timings: Timings) -> None:
        """Count one answered request."""
        labels = (model, str(version))
        queue_ns, input_ns, run_ns, output_ns = _phases_ns(timings)
        computed = (1, input_ns, 1, run_ns, 1, output_ns)
        total_ns = queue_ns + input_ns + run_ns + output_ns
        self._metrics.add(key(COUNTS, *labels), (rows, 1, total_ns, 0, 0, 1, queue_ns, *computed))
        self._metrics.put(key(LAST, *labels), time.time_ns() // 1_000_000)
        sizes, of_size = key(SIZES, *labels, ""), key(SIZES, *labels, str(rows))
        if self._metrics.has(of_size) or len(self._metrics.names(sizes)) < MAX_BATCH_SIZES:
            self._metrics.add(of_size, computed)

    def failed(self, model: str, version: int, timings: Timings) -> None:
        """Count one request that was refused or on which the model failed."""
        _, input_ns, run_ns, _ = _phases_ns(timings)
        self._metrics.add(key(COUNTS, model, str(version)), (0, 0, 0, 1, input_ns + run_ns, *[0] * 8))

    def of(self, model: str, version: int) -> Counts:
        """Return the counts of a version over all workers; zeros if there are none."""
        labels = (model, str(version))
        pages = self._metrics.pages()
        sizes = {name for page in pages for name in page if name.startswith(key(SIZES, *labels, ""))}
        rows, *spans = _sum([page[name] for page in pages if (name := key(COUNTS, *labels)) in page], 13)
        last = [page[name][0] for page in pages if (name := key(LAST, *labels)) in page]
        by_rows = {
            int(parts(size)[1][-1]): _spans(_sum([page[size] for page in pages if size in page], 6)) for size in sizes
        }
        success, fail, queue, reading, run, writing = _spans(spans)
        return Counts(rows, int(max(last, default=0)), success, fail, queue, reading, run, writing, by_rows)


def _phases_ns(timings: Timings) -> tuple[int, int, int, int]:
    """Return the durations of a request: in the queue, parsing and validation, the run, encoding."""
    return timings.ns("queue"), timings.ns("parse") + timings.ns("validate"), timings.ns("run"), timings.ns("encode")


def _sum(blocks: Sequence[Sequence[float]], cells: int) -> list[int]:
    """Add up the cells of the same block over several pages."""
    return [int(sum(values)) for values in zip([0] * cells, *blocks, strict=True)]


def _spans(cells: Sequence[int]) -> tuple[Span, ...]:
    return tuple(map(Span, cells[::2], cells[1::2]))
