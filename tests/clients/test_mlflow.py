"""MLflow's own `ScoringServerClient`."""

from __future__ import annotations

import json

import pytest

from tests.clients.venvs import said_by
from tests.server.process import ROOT, Server

pytestmark = pytest.mark.server


def test_every_call_of_it(server: Server) -> None:
    manifest = json.loads((ROOT / "models" / "penguins" / "1" / "manifest.json").read_text("utf-8"))
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
