"""Tests of `/metrics` of a server: sums over its workers that never decrease, even if workers end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.process import Server, serving
from tests.wire.test_metrics import PREDICTIONS

pytestmark = pytest.mark.server

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
GROWING = ("_total", "_bucket", "_count", "_sum")
WITHIN_S = 20.0
REPORTED_WITHIN_S = 3.0


class Scraper:
    """Read the metrics repeatedly, as Prometheus does, and check that no counter decreases."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.scrapes = 0
        self.samples: Samples = {}

    def scrape(self) -> Samples:
        answer = self.server.ask("GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.scrapes += 1
        found = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.content.decode())
            for sample in family.samples
        }
        fewer = {
            key: (before, found.get(key))
            for key, before in self.samples.items()
            if key[0].endswith(GROWING) and found.get(key, -1.0) < before
        }
        assert not fewer
        self.samples = found
        return found

    def value(self, name: str, **labels: str) -> float:
        return self.samples.get((name, tuple(sorted(labels.items()))), 0.0)

    @property
    def requests(self) -> float:
        return sum(value for (name, _), value in self.samples.items() if name == "retort_requests_total")

    def until(self, done: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        deadline_s = time.monotonic() + within_s
        self.scrape()
        while not done():
            assert time.monotonic() < deadline_s, self.samples
            time.sleep(0.05)
            self.scrape()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers that only these tests use."""
    with serving(tmp_path_factory.mktemp("metrics"), WEB_CONCURRENCY=2) as started:
        started.all_workers(2)
        yield started


@pytest.fixture
def settled(alone: Server) -> Scraper:
    """Return a scraper, after both workers have reported their earlier requests."""
    scraper = Scraper(alone)
    scraper.until(lambda: scraper.value("retort_workers") == 2.0)
    time.sleep(1.5)
    scraper.scrape()
    return scraper


def ask(server: Server, times: int) -> None:
    for _ in range(times):
        assert server.ask("GET", "/models").status == 200


@pytest.mark.own_worker("it counts nothing")
def test_sums_over_the_workers_are_right(alone: Server, settled: Scraper) -> None:
    before = settled.requests - settled.scrapes
    ask(alone, 40)
    settled.until(lambda: settled.requests >= before + settled.scrapes + 40, REPORTED_WITHIN_S)
    assert settled.requests == before + settled.scrapes + 40


@pytest.mark.own_worker("it counts nothing")
def test_no_counts_are_lost_when_a_worker_ends_normally(alone: Server, settled: Scraper) -> None:
    before, restarts = settled.requests - settled.scrapes, settled.value("retort_worker_restarts_total")
    ask(alone, 20)
    (first, _) = alone.all_workers(2)
    os.kill(first, signal.SIGTERM)
    settled.until(lambda: settled.value("retort_worker_restarts_total") == restarts + 1)
    settled.until(lambda: settled.value("retort_workers") == 2.0)
    settled.until(lambda: settled.requests >= before + settled.scrapes + 20, REPORTED_WITHIN_S)
    assert settled.requests == before + settled.scrapes + 20


@pytest.mark.fault("P01")
def test_counters_do_not_decrease_when_workers_are_killed(alone: Server, settled: Scraper) -> None:
    before, restarts = settled.requests, settled.value("retort_worker_restarts_total")
    for killed in range(1, 5):
        ask(alone, 5)
        settled.scrape()
        os.kill(alone.all_workers(2)[killed % 2], signal.SIGKILL)
        gone = restarts + killed
        settled.until(lambda: settled.value("retort_worker_restarts_total") == gone)  # noqa: B023 - called at once
        settled.until(lambda: settled.value("retort_workers") == 2.0)
    # The killed workers' last counts, of at most a second, are lost; reported counts are not.
    assert settled.requests >= before


def test_counters_continue_after_a_reload(alone: Server, settled: Scraper) -> None:
    restarts = settled.value("retort_worker_restarts_total")
    alone.process.send_signal(signal.SIGHUP)
    settled.until(lambda: settled.value("retort_worker_restarts_total") == restarts + 2)
    settled.until(lambda: settled.value("retort_workers") == 2.0)


def test_each_worker_reports_its_memory(settled: Scraper) -> None:
    for figure in ("shared", "private", "proportional"):
        name = f"retort_worker_memory_{figure}_bytes"
        values = [value for (found, _), value in settled.samples.items() if found == name]
        assert len(values) == 2
        assert min(values) > 2**20


def test_the_state_of_each_version_is_a_metric(settled: Scraper) -> None:
    for model in ("penguins", "diabetes", "digits", "iris-two"):
        assert settled.value("retort_model_state", model=model, version="1", state="AVAILABLE") == 1.0
        assert settled.value("retort_model_state", model=model, version="1", state="FAILED") == 0.0


def test_predictions_in_any_worker_are_counted_once(alone: Server, settled: Scraper) -> None:
    version = {"model": "penguins", "version": "1"}

    def counted() -> dict[str, float]:
        samples = settled.scrape().items()
        classes = (value for (name, _), value in samples if name == "retort_predicted_classes_total")
        return {
            "responses": settled.value("retort_responses_total", status="200", problem="none"),
            "predictions": settled.value("retort_predictions_total", status="ok", **version),
            "classes": sum(classes),
            "stages": settled.value("retort_stage_duration_seconds_count", stage="run", **version),
            "runs": settled.value("retort_run_rows_count", **version),
        }

    before = counted()
    for _ in range(20):
        assert alone.ask("POST", "/models/penguins/predict", json.dumps(PREDICTIONS["penguins"])).status == 200
    grown = {name: value - before[name] for name, value in counted().items()}
    # The scrape before is a response, too.
    assert grown == {"responses": 21.0, "predictions": 20.0, "classes": 20.0, "stages": 20.0, "runs": 20.0}


def test_loads_of_the_first_process_and_proofs_of_each_worker_are_counted(settled: Scraper) -> None:
    version = {"model": "penguins", "version": "1"}
    settled.scrape()
    assert settled.value("retort_model_loads_total", result="succeeded", **version) >= 1.0
    assert settled.value("retort_model_load_duration_seconds_count", **version) >= 1.0
    assert settled.value("retort_model_proofs_total", result="passed", **version) >= 2.0


def test_gunicorns_own_threaded_worker_reports_its_metrics(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2, RETORT_WORKER="gthread") as server:
        scraper = Scraper(server)
        scraper.until(lambda: scraper.value("retort_workers") == 2.0)
        os.kill(server.all_workers(2)[0], signal.SIGKILL)
        scraper.until(lambda: scraper.value("retort_worker_restarts_total") == 1.0)
        scraper.until(lambda: scraper.value("retort_workers") == 2.0)
        assert scraper.value("retort_model_state", model="penguins", version="1", state="AVAILABLE") == 1.0
        assert sum(name == "retort_worker_memory_private_bytes" for name, _ in scraper.samples) == 2
