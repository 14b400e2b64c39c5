"""Measure how long a model takes for few and for many rows, as an artifact and as a graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from app.packing.probe import Record
from app.runtime.proving import same
from app.runtime.servable import Servable
from app.signature import Signature
from app.signature.batch import json_values
from app.signature.validator import Validator

ROWS_TIMED = (1, 32, 1000)
TIMED_SECONDS = 0.07
"""The time for each number of rows and each servable; a quick model gives hundreds of measurements in it."""
LONGEST_SECONDS = 1.0
"""A slow model is not run five times if that takes longer."""
MIN_RUNS, MAX_RUNS = 5, 2000
ROWS_TOGETHER = 8
SLOWER = 1.2
"""A graph that takes more than this many times as long as the artifact is called slower."""


def compared_us(
    graph: Servable, artifact: Servable, signature: Signature, records: Sequence[Record]
) -> dict[str, float]:
    """Time graph and artifact with 1, 32 and 1,000 rows.

    Returns:
        Microseconds: `graph_us` and `artifact_us` of one row; of more, the number of rows is in the name, as in
        `graph_1000_us`.
    """
    validator = Validator(signature, max(ROWS_TIMED))
    taken: dict[str, float] = {}
    for rows in ROWS_TIMED:
        batch = validator.validate([records[i % len(records)] for i in range(rows)])
        medians = medians_us(*(partial(each.run, batch, signature.defaults) for each in (graph, artifact)))
        taken |= dict(zip((key_of("graph", rows), key_of("artifact", rows)), medians, strict=True))
    return taken


def key_of(servable: str, rows: int) -> str:
    """Return the key under which a proof has the time that so many rows take."""
    return f"{servable}_us" if rows == 1 else f"{servable}_{rows}_us"


def slower_times(taken_us: Mapping[str, object]) -> dict[str, float]:
    """Return how many times as long as the artifact the graph takes, for each number of rows where it is slower."""
    timed = _timed(taken_us)
    return {str(rows): round(graph / of, 2) for rows, graph, of in timed if graph > SLOWER * of}


def _timed(taken_us: Mapping[str, object]) -> Iterator[tuple[int, float, float]]:
    """Yield each number of rows that was timed with the times of graph and artifact."""
    for rows in ROWS_TIMED:
        graph, artifact = (taken_us.get(key_of(name, rows)) for name in ("graph", "artifact"))
        if isinstance(graph, float) and isinstance(artifact, float):
            yield rows, graph, artifact


def slower_sentence(times: Mapping[str, float]) -> str:
    """Say for how many rows the graph is slower, and how much."""
    each = [f"{ratio:.1f} times as long for {_rows(int(rows))}" for rows, ratio in times.items()]
    return f"the graph is slower than the artifact: it takes {' and '.join(each)}"


def times_sentence(taken_us: Mapping[str, object]) -> str:
    """Say how long graph and artifact take for each number of rows that was timed."""
    return "; ".join(
        f"{_rows(rows)} {'takes' if rows == 1 else 'take'} {written(graph)}, with the artifact {written(artifact)}"
        for rows, graph, artifact in _timed(taken_us)
    )


def artifact_cost_us(
    artifact: Servable, signature: Signature, records: Sequence[Record], taken_us: Mapping[str, object] | None = None
) -> dict[str, float]:
    """Time a run of 1 and of 32 rows, in microseconds, by the number of rows; return nothing without records.

    32 rows are left out if rows together are answered otherwise than alone: requests must not share a run then.
    `taken_us` are times of this artifact from `compared_us`, with the same records. They are not measured again.
    """
    if not records:
        return {}
    costs = {}
    for rows in (1, 32) if rows_are_independent(artifact, signature, records) else (1,):
        known_us = (taken_us or {}).get(key_of("artifact", rows))
        if isinstance(known_us, float):
            costs[str(rows)] = known_us
            continue
        batch = Validator(signature, 10**6).validate([records[i % len(records)] for i in range(rows)])
        costs[str(rows)] = timed_us(partial(artifact.run, batch, signature.defaults))
    return costs


def rows_are_independent(artifact: Servable, signature: Signature, records: Sequence[Record]) -> bool:
    """Return whether the model, asked for rows together, answers each as if it were alone."""
    validator, some = Validator(signature, 10**6), records[:ROWS_TOGETHER]
    try:
        batches = [some, *([record] for record in some)]
        together, *alone = (artifact.run(validator.validate(rows), signature.outputs) for rows in batches)
        return all(
            same(json_values(together[name])[row], json_values(alone[row][name])[0])
            for name in signature.outputs
            for row in range(len(some))
        )
    except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
        return False


def timed_us(run: Callable[[], object]) -> float:
    """Return the median duration of a call, in microseconds."""
    return medians_us(run)[0]


def medians_us(*runs: Callable[[], object]) -> list[float]:
    """Return the median duration of each call, in microseconds.

    The calls take turns, so that whatever else the machine does slows all of them.
    """
    for run in runs:
        run()
    taken: list[list[float]] = [[] for _ in runs]
    began = time.perf_counter()
    while _goes_on(len(taken[0]), (time.perf_counter() - began) / len(runs)):
        for run, durations in zip(runs, taken, strict=True):
            start = time.perf_counter()
            run()
            durations.append(time.perf_counter() - start)
    return [round(float(np.median(durations)) * 1e6, 2) for durations in taken]


def _goes_on(runs: int, each_s: float) -> bool:
    """Return whether to measure again, after so many runs that took so many seconds together."""
    if runs < MIN_RUNS:
        return runs == 0 or each_s < LONGEST_SECONDS
    return runs < MAX_RUNS and each_s < TIMED_SECONDS


def _rows(rows: int) -> str:
    return "one row" if rows == 1 else f"{rows:,} rows"


def written(duration_us: float) -> str:
    """Return a duration with two or three digits and a suitable unit: 59 ms, 1.2 s."""
    for unit, length_us in (("s", 1e6), ("ms", 1e3)):
        # 999.6 ms would be written 1,000 ms.
        if duration_us >= length_us * 0.9995:
            amount = duration_us / length_us
            return f"{amount:,.0f} {unit}" if amount >= 9.95 else f"{amount:.1f} {unit}"
    return f"{duration_us:.0f} µs"
