"""Tests of v1 with KServe's own `InferenceRESTClient`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.venvs import said_by
from tests.end_to_end.process import Server, serving

pytestmark = [pytest.mark.server, pytest.mark.any_worker]


def test_every_call_of_the_client(server: Server) -> None:
    told = said_by("kserve", "kserve_v1", server.root)
    assert told["live"] is True
    assert told["ready"] is True
    assert told["instances"] == {"predictions": [0, 2]}
    assert [len(row) for row in told["probabilities"]["predictions"]] == [3, 3]
    assert told["inputs"] == {"outputs": [0, 2]}
    assert told["unknown"] == [
        404,
        {"error": "there is no model 'nope'; there are: diabetes, digits, digits-image, iris-two, penguins"},
    ]
    assert told["refused"][0] == 400
    assert "#/instances/0/0 must be a number" in told["refused"][1]["error"]


def test_a_setting_answers_inputs_as_kserve_does(tmp_path: Path) -> None:
    with serving(tmp_path, RETORT_KSERVE_V1="on") as server:
        assert said_by("kserve", "kserve_v1", server.root)["inputs"] == {"predictions": [0, 2]}
