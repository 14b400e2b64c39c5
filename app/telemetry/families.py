"""All metrics: their names, help texts and labels, and the way to combine the numbers of the workers."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.telemetry.shared_counters import PageContent

SEPARATOR = "\x1f"
MODEL = ("model", "version")

DURATION_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the buckets of a histogram. One more bucket follows, without a bound."""
STAGE_BOUNDS_S = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LOAD_BOUNDS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
ROW_BOUNDS = tuple(2.0**power for power in range(17))
REQUEST_BOUNDS = tuple(2.0**power for power in range(8))
"""Powers of two, so that the bucket of a size is the number of bits of `size - 1`."""


class MetricType(enum.Enum):
    """The type of a metric in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Aggregation(enum.Enum):
    """The ways to combine the numbers of the workers."""

    SUM = enum.auto()
    MAX = enum.auto()
    EACH = enum.auto()  # no combination: one sample for each worker, with the label `worker`


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its labels."""

    help: str
    labels: tuple[str, ...] = ()
    kind: MetricType = MetricType.COUNTER
    aggregation: Aggregation = Aggregation.SUM
    bounds: tuple[float, ...] = ()
    """The upper bounds of the buckets, for a histogram."""

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The labels, and `worker` if each worker has samples of its own."""
        return (*self.labels, "worker") if self.aggregation is Aggregation.EACH else self.labels


def _gauge(text: str, aggregation: Aggregation = Aggregation.SUM, labels: tuple[str, ...] = ()) -> Family:
    return Family(text, labels, MetricType.GAUGE, aggregation)


def _histogram(text: str, bounds: tuple[float, ...], labels: tuple[str, ...] = MODEL) -> Family:
    return Family(text, labels, MetricType.HISTOGRAM, bounds=bounds)


FAMILIES: dict[str, Family] = {
    "retort_connections": _gauge("Open connections.", labels=("state",)),
    "retort_connections_accepted": Family("Connections accepted."),
    "retort_connections_evicted": Family("Idle connections closed to make room for others."),
    "retort_requests": Family("Requests run: inline on the loop, in a thread, or as coroutines.", ("way",)),
    "retort_requests_running": _gauge("Requests that threads are running."),
    "retort_responses": Family(
        "Responses, by status and problem type; the problem is `none` where there is none.", ("status", "problem")
    ),
    "retort_answers": Family("Requests that the application answered, as far as the client still waited."),
    "retort_answers_late": Family("Requests whose answer came after their 504."),
    "retort_refusals": Family("Requests that the server refused itself.", ("reason",)),
    "retort_requests_limited": Family("Requests refused because their client has used up a limit.", ("unit",)),
    "retort_limits_redis_up": _gauge(
        "1 if a worker shares limits with other hosts through Redis, 0 if Redis does not answer.", Aggregation.EACH
    ),
    "retort_clients_gone": Family("Clients that were gone before their answer."),
    "retort_clients_gone_queued": Family("Clients that were gone while their request was queued; it was never run."),
    "retort_queue_requests": _gauge("Requests that wait for a thread."),
    "retort_queue_age_seconds": _gauge(
        "How long the longest-waiting request has waited for a thread.", Aggregation.MAX
    ),
    "retort_loop_turn_max_seconds": _gauge(
        "How long the loop of a worker was away from its poller at most, in the last ten seconds.", Aggregation.EACH
    ),
    "retort_worker_report_age_seconds": _gauge(
        "How long ago a worker last reported; each does every second while its loop turns.", Aggregation.EACH
    ),
    "retort_workers": _gauge("Worker processes that are alive."),
    "retort_worker_restarts": Family("Worker processes that have ended, for whatever reason."),
    "retort_worker_memory_shared_bytes": _gauge("Memory of a worker that other processes share.", Aggregation.EACH),
    "retort_worker_memory_private_bytes": _gauge("Memory that only this worker uses.", Aggregation.EACH),
    "retort_worker_memory_proportional_bytes": _gauge(
        "Memory of a worker; shared memory is divided among its users (PSS).", Aggregation.EACH
    ),
    "retort_worker_cpu_seconds": Family("CPU time of a worker.", aggregation=Aggregation.EACH),
    "retort_model_state": _gauge(
        "1 if a worker has the version in this state, else 0.", Aggregation.MAX, labels=(*MODEL, "state")
    ),
    "retort_model_loads": Family(
        "Loads of versions, by result: `succeeded` or `failed`. The first process loads for all workers at the start.",
        (*MODEL, "result"),
    ),
    "retort_model_load_duration_seconds": _histogram("Time to verify and load a version.", LOAD_BOUNDS_S),
    "retort_model_proofs": Family(
        "Runs of the recorded examples of a version before it is served, by result: `passed` or `failed`.",
        (*MODEL, "result"),
    ),
    "retort_artifact_runs": Family("Runs of artifacts that began.", MODEL),
    "retort_artifact_runs_running": _gauge("Runs of artifacts that are under way.", labels=MODEL),
    "retort_run_rows": _histogram("Rows in each run of a model.", ROW_BOUNDS),
    "retort_run_requests": _histogram("Requests that shared each run of a model.", REQUEST_BOUNDS),
    "retort_predictions": Family("Requests for predictions, by outcome.", (*MODEL, "status")),
    "retort_prediction_rows": Family("Rows predicted.", MODEL),
    "retort_prediction_duration_seconds": _histogram(
        "Time from parsing to encoded predictions, for successful requests.", DURATION_BOUNDS_S
    ),
    "retort_stage_duration_seconds": _histogram(
        "Time in each stage of a successful request, as in Server-Timing.", STAGE_BOUNDS_S, (*MODEL, "stage")
    ),
    "retort_predicted_classes": Family("Rows by predicted class, of classifiers.", (*MODEL, "class")),
}
"""The metrics by name, without the suffix `_total` that Prometheus appends to counters."""

Samples = dict[str, dict[tuple[str, ...], tuple[float, ...]]]
"""Samples by name of the metric, then by label values: one number, or the buckets and the sum of a histogram."""


def key(family: str, *labels: str) -> str:
    """Return the name of the block on a page for a metric with these labels."""
    return SEPARATOR.join((family, *labels))


@functools.cache
def parts(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the metric and the labels in the name of a block. A page has few blocks, so the cache is unbounded."""
    family, *labels = name.split(SEPARATOR)
    return family, tuple(labels)


def merged(contents: Iterable[PageContent], now_s: float) -> Samples:
    """Combine the pages: the counters of all workers that ever ran, and the gauges of running ones. Sort the labels."""
    combined: Samples = {name: {} for name in FAMILIES}
    alive = 0
    for content in contents:
        alive += bool(content.pid)
        for name, values in content.values.items():
            family, labels = parts(name)
            if family not in FAMILIES:  # a count of another module, not a metric
                continue
            if content.pid or FAMILIES[family].kind is not MetricType.GAUGE:
                _merge(combined, family, labels, values, content.number)
        if content.pid and content.reported_s:
            age_s = (max(0.0, now_s - content.reported_s),)
            _merge(combined, "retort_worker_report_age_seconds", (), age_s, content.number)
    combined["retort_workers"][()] = (float(alive),)
    return {name: dict(sorted(samples.items())) for name, samples in combined.items()}


def _merge(combined: Samples, family: str, labels: tuple[str, ...], values: tuple[float, ...], number: int) -> None:
    aggregation = FAMILIES[family].aggregation
    if aggregation is Aggregation.EACH:
        labels = (*labels, str(number))
    before = combined[family].get(labels)
    if before is not None:
        combine: Callable[[tuple[float, float]], float] = max if aggregation is Aggregation.MAX else sum
        values = tuple(map(combine, zip(before, values, strict=True)))
    combined[family][labels] = values
