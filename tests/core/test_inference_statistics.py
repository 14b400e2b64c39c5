"""Inference statistics from many threads and workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from app.core.inference_statistics import MAX_BATCH_SIZES, Counts, InferenceStatistics, Span
from app.telemetry import Timings
from app.telemetry.metrics import SharedMetrics


class Spent(Timings):
    """Timings of these nanoseconds."""

    def __init__(self, queue: int, parse: int, run: int, encode: int) -> None:
        super().__init__()
        self.spent = {"queue": queue, "parse": parse, "validate": 0, "run": run, "encode": encode}

    def ns(self, phase: str) -> int:
        return self.spent[phase]


def test_counts_are_zero_at_first() -> None:
    assert InferenceStatistics(SharedMetrics()).of("iris", 1) == Counts()


def test_requests_rows_and_durations_add_up() -> None:
    statistics = InferenceStatistics(SharedMetrics())
    for rows in (2, 2, 5):
        statistics.succeeded("iris", 1, rows, Spent(1, 20, 300, 4000))
    statistics.failed("iris", 1, Spent(50, 3, 4, 0))
    counts = statistics.of("iris", 1)
    assert counts.rows == 9
    assert counts.last_ms > 0
    assert (counts.success, counts.fail) == (Span(3, 3 * 4321), Span(1, 7))
    assert (counts.queue, counts.compute_infer) == (Span(3, 3), Span(3, 900))
    assert counts.by_rows == {
        2: (Span(2, 40), Span(2, 600), Span(2, 8000)),
        5: (Span(1, 20), Span(1, 300), Span(1, 4000)),
    }
    assert statistics.of("iris", 2) == Counts()


def test_the_number_of_batch_sizes_is_bounded() -> None:
    statistics = InferenceStatistics(SharedMetrics())
    for rows in range(MAX_BATCH_SIZES + 10):
        statistics.succeeded("iris", 1, rows, Spent(0, 0, 0, 0))
    assert len(statistics.of("iris", 1).by_rows) == MAX_BATCH_SIZES
    assert statistics.of("iris", 1).success.count == MAX_BATCH_SIZES + 10


def test_counts_of_many_threads_are_complete() -> None:
    statistics = InferenceStatistics(SharedMetrics())
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: statistics.succeeded("iris", 1, 1, Spent(1, 1, 1, 1)), range(4000)))
    assert statistics.of("iris", 1).success == Span(4000, 16000)


def test_counts_include_all_workers_and_ended_ones() -> None:
    """Each process writes its own page, and every process reads all."""
    metrics = SharedMetrics()
    metrics.share(2)
    for number, rows in zip([metrics.take(), metrics.take()], (1, 3), strict=True):
        metrics.begin(number)
        InferenceStatistics(metrics).succeeded("iris", 1, rows, Spent(1, 20, 300, 4000))
        InferenceStatistics(metrics).failed("iris", 1, Spent(0, 0, 5, 0))
        metrics.ended(number)
    counts = InferenceStatistics(metrics).of("iris", 1)
    assert (counts.rows, counts.success, counts.fail) == (4, Span(2, 2 * 4321), Span(2, 10))
    assert sorted(counts.by_rows) == [1, 3]
    assert "inferences" not in metrics.samples()
