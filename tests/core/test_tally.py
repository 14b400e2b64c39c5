"""What is counted of requests, from many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from app.core.tally import MAX_BATCH_SIZES, Counts, Span, Spent, Tally


def test_nothing_was_counted() -> None:
    assert Tally().of("iris", 1) == Counts()


def test_requests_rows_and_time_add_up() -> None:
    tally = Tally()
    for rows in (2, 2, 5):
        tally.succeeded("iris", 1, rows, Spent(1, 20, 300, 4000))
    tally.failed("iris", 1, 7)
    counts = tally.of("iris", 1)
    assert counts.rows == 9
    assert counts.last_ms > 0
    assert (counts.success, counts.fail) == (Span(3, 3 * 4321), Span(1, 7))
    assert (counts.queue, counts.compute_infer) == (Span(3, 3), Span(3, 900))
    assert counts.by_rows == {
        2: (Span(2, 40), Span(2, 600), Span(2, 8000)),
        5: (Span(1, 20), Span(1, 300), Span(1, 4000)),
    }
    assert tally.of("iris", 2) == Counts()


def test_sizes_are_bounded() -> None:
    tally = Tally()
    for rows in range(MAX_BATCH_SIZES + 10):
        tally.succeeded("iris", 1, rows, Spent(0, 0, 0, 0))
    assert len(tally.of("iris", 1).by_rows) == MAX_BATCH_SIZES
    assert tally.of("iris", 1).success.count == MAX_BATCH_SIZES + 10


def test_many_threads_lose_nothing() -> None:
    tally = Tally()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: tally.succeeded("iris", 1, 1, Spent(1, 1, 1, 1)), range(4000)))
    assert tally.of("iris", 1).success == Span(4000, 16000)
