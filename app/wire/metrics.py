"""`GET /metrics`: the metrics of all workers for Prometheus. Any worker can answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from flask import Response, request
from flask_smorest import Blueprint
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from app.runtime.policy import State
from app.telemetry.families import FAMILIES, Family, MetricType, Samples
from app.wire.backend import Backend, answers

STATES = [state.value for state in State]
OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_1 = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
EXAMPLE = '# TYPE retort_requests_total counter\nretort_requests_total{way="inline"} 1027.0\n'


@dataclass(frozen=True, slots=True)
class Exposition(Collector):
    """The samples for one request as metric families of prometheus_client."""

    samples: Samples

    def collect(self) -> Iterator[Metric]:
        """Return each family that has samples."""
        return (_family(name, FAMILIES[name], samples) for name, samples in self.samples.items() if samples)


def writer(accept: str | None) -> tuple[str, Callable[[Collector], bytes]]:
    """Return the media type and the writer for a response: OpenMetrics if the client prefers it, else plain text.

    prometheus_client's own choice raises an error if a version in `accept` is not a number.
    """
    media_type, quality = next(iter(parse_accept_header(accept, MIMEAccept)), ("", 0.0))  # sorted by quality
    if media_type.partition(";")[0].strip().lower() == OPENMETRICS and quality > 0:
        return OPENMETRICS_1, openmetrics.generate_latest
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest


def _family(name: str, family: Family, samples: dict[tuple[str, ...], tuple[float, ...]]) -> Metric:
    labels = family.all_labels
    if family.kind is MetricType.HISTOGRAM:
        histogram = HistogramMetricFamily(name, family.help, labels=labels)
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for label_values, (*counts, total) in samples.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))  # cumulative, as Prometheus expects
            histogram.add_metric(list(label_values), buckets, total)
        return histogram
    kind = CounterMetricFamily if family.kind is MetricType.COUNTER else GaugeMetricFamily
    metric = kind(name, family.help, labels=labels)
    for label_values, (value,) in samples.items():
        metric.add_metric(list(label_values), value)
    return metric


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoint, which also publishes the states of the versions."""
    blp = Blueprint("metrics", __name__, description="For Prometheus.")
    shared, catalogue = backend.metrics, backend.catalogue

    def publish_states() -> None:
        models = catalogue.models()["models"]
        versions = ((model["name"], str(v["version"]), v["state"]) for model in models for v in model["versions"])
        shared.states(versions, STATES)

    shared.sources.append(publish_states)

    @blp.get("/metrics")
    @answers(blp, "all workers", schema={"type": "string"}, content_type="text/plain", example=EXAMPLE)
    def metrics() -> Response:
        """Metrics of the whole server, in Prometheus' text format or, if Accept says so, OpenMetrics"""
        content_type, write = writer(request.headers.get("Accept"))
        return Response(write(Exposition(shared.samples())), content_type=content_type)

    return blp
