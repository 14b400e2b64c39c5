"""Tests of `GET /metrics` for Prometheus."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from app import create_app
from app.server.contract import Stats
from app.settings import Settings
from app.telemetry.families import FAMILIES, key
from app.wire.application import Application
from tests.wire.conftest import MODELS

pytestmark = pytest.mark.slow

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
"""Prometheus 3's Accept."""

PREDICTIONS = {
    model: json.loads((MODELS / model / "1" / "manifest.json").read_text("utf-8"))["examples"][0]["instance"]
    for model in ("diabetes", "penguins")
}
"""A record by model."""


@pytest.fixture
def served() -> Application:
    return create_app(Settings(models_dir=MODELS))


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in plain_text(text)
        for sample in family.samples
    }


def test_a_single_process_reports_its_own_metrics(served: Flask) -> None:
    answer = served.test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == PLAIN
    found = samples(answer.text)
    assert found["retort_workers", ()] == 1.0
    for name in ("diabetes", "digits", "iris-two", "penguins"):
        states = {
            labels["state"]: value
            for (family, pairs), value in found.items()
            if family == "retort_model_state" and (labels := dict(pairs))["model"] == name
        }
        assert {state for state, value in states.items() if value} == {"AVAILABLE"}
        assert len(states) == 8


def test_a_failed_version_is_a_metric(tmp_path: Path) -> None:
    (tmp_path / "churn" / "1").mkdir(parents=True)
    (tmp_path / "churn" / "1" / "manifest.json").write_text("{")
    found = samples(create_app(Settings(models_dir=tmp_path)).test_client().get("/metrics").text)
    assert found["retort_model_state", (("model", "churn"), ("state", "FAILED"), ("version", "1"))] == 1.0


def test_predictions_and_their_histogram(served: Flask) -> None:
    metrics = served.extensions["retort_metrics"]
    for seconds in (0.003, 0.003, 0.2):
        metrics.predicted("penguins", 1, "ok", 2, seconds, {})
    found = samples(served.test_client().get("/metrics").text)
    labels = (("model", "penguins"), ("version", "1"))
    assert found["retort_predictions_total", (labels[0], ("status", "ok"), labels[1])] == 3.0
    assert found["retort_prediction_rows_total", labels] == 6.0
    assert found["retort_prediction_duration_seconds_bucket", (("le", "0.005"), *labels)] == 2.0
    assert found["retort_prediction_duration_seconds_bucket", (("le", "0.25"), *labels)] == 3.0
    assert found["retort_prediction_duration_seconds_bucket", (("le", "+Inf"), *labels)] == 3.0
    assert found["retort_prediction_duration_seconds_count", labels] == 3.0
    assert found["retort_prediction_duration_seconds_sum", labels] == pytest.approx(0.206)


def test_the_worker_that_is_asked_reports_first(served: Application) -> None:
    stats = Stats(accepted=9, inline=4)
    stats.refuse("queue_full")
    served.gateway.started(stats.snapshot)
    client = served.test_client()
    for _ in range(2):
        found = samples(client.get("/metrics").text)
        assert found["retort_connections_accepted_total", ()] == 9.0
        assert found["retort_requests_total", (("way", "inline"),)] == 4.0
        assert found["retort_refusals_total", (("reason", "queue_full"),)] == 1.0
    stats.accepted += 1
    assert samples(client.get("/metrics").text)["retort_connections_accepted_total", ()] == 10


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text", PROMETHEUS, "Application/OpenMetrics-Text; version=x"]
)
def test_openmetrics_is_sent_to_clients_that_prefer_it(served: Flask, accept: str) -> None:
    served.extensions["retort_metrics"].predicted("penguins", 1, "ok", 2, 0.1, {})
    answer = served.test_client().get("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.text.endswith("# EOF\n")
    assert {"retort_predictions", "retort_workers"} <= {family.name for family in openmetrics(answer.text)}


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain;version=0.0.4",
        "text/plain; version=x",
        "text/html",
        "application/openmetrics-text;q=0",
        ",",
    ],
)
def test_other_clients_get_plain_text(served: Flask, accept: str) -> None:
    answer = served.test_client().get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == PLAIN


def test_every_family_is_explained(served: Flask) -> None:
    served.extensions["retort_metrics"].predicted("penguins", 1, "ok", 2, 0.1, {})
    for family in plain_text(served.test_client().get("/metrics").text):
        assert family.documentation == FAMILIES[family.name].help
        assert family.type == FAMILIES[family.name].kind.value


@pytest.mark.needs_program("promtool")
@pytest.mark.fault("X09")
def test_promtool_finds_no_fault_in_any_family(served: Application) -> None:
    metrics, client = served.extensions["retort_metrics"], served.test_client()
    stats = Stats(accepted=9, inline=4)
    stats.refuse("queue_full")
    served.gateway.started(stats.snapshot)
    for model, document in PREDICTIONS.items():
        assert client.post(f"/models/{model}/predict", json=document).status_code == 200
    metrics.run_began("diabetes", 1)
    metrics.observe(stats.snapshot() | {"connections": {"idle": 1}})
    metrics.put("retort_worker_restarts", 1.0)
    metrics.put(key("retort_requests_limited", "requests"), 1.0)
    metrics.put("retort_limits_redis_up", 1.0)
    text = client.get("/metrics").text
    told = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert {name.removesuffix("_total") for name in told} == set(FAMILIES)
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_metrics_endpoint_is_documented(served: Flask) -> None:
    operation = served.test_client().get("/openapi.json").json["paths"]["/metrics"]["get"]
    assert list(operation["responses"]["200"]["content"]) == ["text/plain"]
