"""Tests with boto3's `sagemaker-runtime`, and of a container's start as in SageMaker."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.clients.venvs import said_by
from tests.end_to_end.process import ROOT, Server, serving

pytestmark = [pytest.mark.server, pytest.mark.any_worker]


def test_every_call_of_the_client(server: Server) -> None:
    npy = io.BytesIO()
    np.save(npy, np.array([[5.1, 3.5], [6.3, 2.9]]))
    told = said_by("sagemaker", "sagemaker_runtime", server.root, npy.getvalue().hex())
    assert told["json"] == ["application/json", "[0,2]", None]
    assert told["to csv"] == ["text/csv", "0\n2\n", None]
    assert told["csv"] == ["text/csv", "0\n2\n", None]
    assert told["csv with a header"] == ["application/json", '{"predictions":[0]}', None]
    assert told["npy"] == ["application/json", "[0,2]", None]
    assert told["attributes"] == ["application/json", "[0]", "trace=1"]
    assert told["unknown"][0] == 404
    assert told["unknown"][1].startswith("there is no model 'nope'; there are: diabetes, digits, ")
    assert told["refused"] == [400, "1 value is not acceptable: #/0/0 must be a number, not a string"]


@pytest.mark.parametrize("arguments", [["serve"], []], ids=["serve", "nothing"])
def test_a_container_is_started_with_serve(tmp_path: Path, arguments: list[str]) -> None:
    sagemakers = {"SAGEMAKER_MODEL_SERVER_WORKERS": 2, "SAGEMAKER_MAX_PAYLOAD_IN_MB": 2}
    command = ["env", "SAGEMAKER_BIND_TO_PORT=$PORT", "./serve", *arguments]
    with serving(tmp_path, command, **sagemakers) as server:
        assert len(server.all_workers(2)) == 2
        assert server.ask("GET", "/ping").status == 200
        assert server.ask("GET", "/execution-parameters").document["MaxPayloadInMB"] == 2
        assert server.ask("POST", "/invocations", " " * (2 * 2**20 + 1)).status == 413
        assert server.stop() == 0


def test_serve_takes_no_other_argument() -> None:
    ended = subprocess.run(["./serve", "train"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 2
    assert "usage" in ended.stderr
