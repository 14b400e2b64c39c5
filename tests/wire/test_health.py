"""Tests of the probes of every protocol while the server is about to stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import create_app
from app.settings import Settings
from tests.wire.conftest import MODELS

PROBES = ["/readyz", "/v2/health/ready", "/ping", "/health", "/v1/endpoints/1/deployedModels/2"]


@pytest.mark.slow
@pytest.mark.parametrize("path", PROBES)
@pytest.mark.fault("P12")
def test_a_server_that_drains_is_not_ready_and_says_when_to_ask_again(path: str) -> None:
    app = create_app(Settings(models_dir=MODELS))
    client = app.test_client()
    ready = client.get(path)
    assert (ready.status_code, "Retry-After" in ready.headers) == (200, False)
    app.gateway.draining()
    draining = client.get(path)
    assert draining.status_code == 503
    assert int(draining.headers["Retry-After"]) > 0


def test_a_server_that_drains_is_alive() -> None:
    app = create_app(Settings(models_dir=MODELS))
    app.gateway.draining()
    assert app.test_client().get("/livez").status_code == 200


def test_probes_that_fail_are_counted_apart_from_other_errors(tmp_path: Path) -> None:
    (tmp_path / "churn" / "1").mkdir(parents=True)
    (tmp_path / "churn" / "1" / "manifest.json").write_text("{")
    client = create_app(Settings(models_dir=tmp_path)).test_client()
    for count, path in enumerate(PROBES, 1):
        assert client.get(path, buffered=True).status_code == 503, path
        counted = f'retort_responses_total{{problem="unready",status="503"}} {count}.0'
        assert counted in client.get("/metrics").text, path
