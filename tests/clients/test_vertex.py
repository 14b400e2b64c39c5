"""Tests of a container as Vertex AI starts it and sends requests to it, here with curl."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.process import Server, serving, web_line

pytestmark = [pytest.mark.server, pytest.mark.any_worker, pytest.mark.needs_program("curl")]

ROUTE = "/v1/endpoints/1234567890/deployedModels/987"
BODY = json.dumps({"instances": [{"feature1": 5.1, "feature2": 3.5}, [6.3, 2.9]], "parameters": {"confidence": 0.5}})


def curl(server: Server, path: str, *arguments: str) -> tuple[int, Any]:
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", *arguments]
    said = subprocess.run([*command, server.root + path], capture_output=True, text=True, check=True)
    body, status = said.stdout.rsplit("\n", 1)
    return int(status), json.loads(body)


@pytest.mark.parametrize("predict", [f"{ROUTE}:predict", "/predict"], ids=["default", "of-its-own"])
def test_a_container_of_vertex(tmp_path: Path, predict: str) -> None:
    platform = {"AIP_MODE": "PREDICTION", "AIP_HEALTH_ROUTE": ROUTE, "AIP_PREDICT_ROUTE": predict}
    platform |= {"AIP_ENDPOINT_ID": "1234567890", "AIP_STORAGE_URI": "", "RETORT_DEFAULT_MODEL": "iris-two"}
    command = ["env", "AIP_HTTP_PORT=$PORT", "PORT=1", "sh", "-c", f"exec {web_line()}"]
    with serving(tmp_path, command, **platform) as server:
        assert curl(server, ROUTE)[0] == 200
        headers = ("--header", "Content-Type: application/json", "--data-binary", BODY)
        assert curl(server, predict, *headers) == (200, {"predictions": [0, 2]})
        status, problem = curl(server, predict, "--header", "Content-Type: application/json", "--data-binary", "{}")
        assert status == 422
        assert problem["errors"][0]["pointer"] == "#"
