"""Every metric: its name, what it says, its labels, and how the workers' numbers become one."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable
from dataclasses import dataclass

from app.telemetry.board import Reading

SEPARATOR = "\x1f"

DURATION_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the buckets, in seconds; the last bucket has none."""


class MetricType(enum.Enum):
    """What Prometheus calls the type."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Across(enum.Enum):
    """How the numbers of the workers become one."""

    SUM = enum.auto()
    MAX = enum.auto()
    EACH = enum.auto()  # they stay apart, by the label `worker`


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its labels."""

    help: str
    labels: tuple[str, ...] = ()
    kind: MetricType = MetricType.COUNTER
    across: Across = Across.SUM


MODEL = ("model", "version")
FAMILIES: dict[str, Family] = {
    "retort_connections": Family("Open connections.", ("state",), MetricType.GAUGE),
    "retort_connections_accepted": Family("Connections accepted."),
    "retort_connections_evicted": Family("Idle connections closed to make room for others."),
    "retort_requests": Family("Requests run: inline on the loop, in a thread, or as coroutines.", ("way",)),
    "retort_requests_running": Family("Requests that threads are running.", (), MetricType.GAUGE),
    "retort_answers": Family("Requests that the application answered, as far as the client still waited."),
    "retort_answers_late": Family("Requests whose answer came after they had been told 504."),
    "retort_refusals": Family("Requests that the server refused itself.", ("reason",)),
    "retort_clients_gone": Family("Clients that were gone before their answer."),
    "retort_clients_gone_queued": Family("Of those, the ones whose request was still queued, and was never run."),
    "retort_queue_requests": Family("Requests that wait for a thread.", (), MetricType.GAUGE),
    "retort_queue_age_seconds": Family(
        "How long the first of those has waited, in the worker where that is longest.", (), MetricType.GAUGE, Across.MAX
    ),
    "retort_loop_turn_max_seconds": Family(
        "How long the loop of a worker was away from its poller at most, in the last ten seconds.",
        (),
        MetricType.GAUGE,
        Across.EACH,
    ),
    "retort_worker_report_age_seconds": Family(
        "How long ago a worker last reported; each does every second while its loop turns.",
        (),
        MetricType.GAUGE,
        Across.EACH,
    ),
    "retort_workers": Family("Worker processes that are alive.", (), MetricType.GAUGE),
    "retort_worker_restarts": Family("Worker processes that have ended, for whatever reason."),
    "retort_worker_memory_shared_bytes": Family(
        "Memory of a worker that other processes share.", (), MetricType.GAUGE, Across.EACH
    ),
    "retort_worker_memory_private_bytes": Family(
        "Memory of a worker that is its own alone.", (), MetricType.GAUGE, Across.EACH
    ),
    "retort_worker_memory_proportional_bytes": Family(
        "Memory of a worker, what is shared being divided among those that share it (PSS).",
        (),
        MetricType.GAUGE,
        Across.EACH,
    ),
    "retort_model_state": Family(
        "1 if a worker has the version in this state, else 0.", (*MODEL, "state"), MetricType.GAUGE, Across.MAX
    ),
    "retort_artifact_runs": Family("Runs of artifacts that began.", MODEL),
    "retort_artifact_runs_running": Family("Runs of artifacts that are under way.", MODEL, MetricType.GAUGE),
    "retort_predictions": Family("Requests for predictions, by what became of them.", (*MODEL, "status")),
    "retort_prediction_rows": Family("Rows predicted.", MODEL),
    "retort_prediction_duration_seconds": Family(
        "Time from the parsing of a request to its encoded predictions, of those that succeeded.",
        MODEL,
        MetricType.HISTOGRAM,
    ),
}
"""By name, without the `_total` that Prometheus appends to counters."""

Samples = dict[str, dict[tuple[str, ...], tuple[float, ...]]]
"""By name of the family, then by the values of its labels: one number, or the buckets of a histogram and its sum."""


def key(family: str, *labels: str) -> str:
    """The name of a block on a sheet."""
    return SEPARATOR.join((family, *labels))


@functools.cache
def parts(name: str) -> tuple[str, tuple[str, ...]]:
    """What `key` was made of; there are no more of them than fit on a sheet."""
    family, *labels = name.split(SEPARATOR)
    return family, tuple(labels)


def merged(readings: Iterable[Reading], now_s: float) -> Samples:
    """What the sheets say together: counts of all that ever lived, gauges of the living. Labels in order."""
    found: Samples = {name: {} for name in FAMILIES}
    alive = 0
    for reading in readings:
        alive += bool(reading.pid)
        for name, values in reading.values.items():
            family, labels = parts(name)
            if family not in FAMILIES:  # what others count
                continue
            if reading.pid or FAMILIES[family].kind is not MetricType.GAUGE:
                _merge(found, family, labels, values, reading.number)
        if reading.pid and reading.reported_s:
            age_s = (max(0.0, now_s - reading.reported_s),)
            _merge(found, "retort_worker_report_age_seconds", (), age_s, reading.number)
    found["retort_workers"][()] = (float(alive),)
    return {name: dict(sorted(samples.items())) for name, samples in found.items()}


def _merge(found: Samples, family: str, labels: tuple[str, ...], values: tuple[float, ...], number: int) -> None:
    across = FAMILIES[family].across
    if across is Across.EACH:
        labels = (*labels, str(number))
    before = found[family].get(labels)
    if before is not None:
        pairs = zip(before, values, strict=True)
        values = tuple(max(pair) for pair in pairs) if across is Across.MAX else tuple(sum(pair) for pair in pairs)
    found[family][labels] = values
