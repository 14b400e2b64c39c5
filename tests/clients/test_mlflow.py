"""Tests with MLflow's own `ScoringServerClient`."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import pytest

from tests.clients.stamped import packed, visits
from tests.clients.venvs import said_by
from tests.end_to_end.process import EXAMPLE_MODELS, Server, serving

pytestmark = [pytest.mark.server, pytest.mark.any_worker]


def test_every_call_of_the_client(server: Server) -> None:
    manifest = json.loads((EXAMPLE_MODELS / "penguins" / "1" / "manifest.json").read_text("utf-8"))
    examples = manifest["examples"][:3]
    records = json.dumps([example["instance"] for example in examples])
    expected = [example["outputs"]["prediction"] for example in examples]
    told = said_by("mlflow", "mlflow_scoring", "127.0.0.1", str(server.port), records)
    assert told["version"]
    assert told["frame"] == told["in another order"] == told["rows"] == expected
    assert told["as frame"] == [3, 1]
    assert len(told["nan"]) == 3
    assert "INVALID_PARAMETER_VALUE" in told["refused"]
    assert "#/dataframe_split/data/0/0 must be one of: Biscoe, Dream, Torgersen" in told["refused"]


def test_a_frame_with_timestamps_and_missing_values(tmp_path: Path) -> None:
    models, frame = packed(tmp_path), visits()
    expected = joblib.load(tmp_path / "visits.joblib").predict(frame)
    with serving(tmp_path, RETORT_MODELS_DIR=models) as started:
        records = frame.to_json(orient="records", date_format="iso")
        told = said_by("mlflow", "mlflow_timestamps", "127.0.0.1", str(started.port), records)
    assert told["frame"] == pytest.approx(expected, rel=1e-9)
    assert told["in another zone"] == told["frame"]
    assert "#/dataframe_split/data/0/0 must be a timestamp in ISO 8601" in told["refused"]
