"""Tests of an installation of requirements-serve.txt: it serves graphs, and names the missing library for artifacts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.cluster import FeatureAgglomeration
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from app.packing import spawn
from tests.clients.venvs import python_with
from tests.end_to_end.process import ROOT, Server, environment, serving
from tests.end_to_end.test_start import web_with

pytestmark = [pytest.mark.server, pytest.mark.any_worker]
RECORD = '{"feature1": 5.1, "feature2": 3.5}'


@pytest.fixture(scope="module")
def programs() -> Path:
    """Return the folder of the programs of an environment with this tier alone."""
    return python_with("serve", ROOT / "requirements-serve.txt").parent


@pytest.fixture(scope="module")
def server(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), web_with(PATH=f"{programs}:/usr/bin:/bin")) as running:
        yield running


def test_the_serving_tier_has_neither_scikit_learn_nor_pandas(programs: Path) -> None:
    for module in ("sklearn", "scipy", "pandas", "joblib", "pyarrow", "onnx"):
        ran = subprocess.run([programs / "python", "-c", f"import {module}"], capture_output=True, check=False)
        assert b"ModuleNotFoundError" in ran.stderr, module


@pytest.mark.parametrize("model", ["diabetes", "digits", "digits-image", "iris-two", "penguins"])
def test_every_committed_model_answers_its_examples(server: Server, model: str) -> None:
    known = server.ask("GET", f"/models/{model}").document
    for example in known["examples"]:
        recorded = {name: value for name, value in example.items() if name != "instance"}
        asked = json.dumps({"instances": [example["instance"]], "outputs": list(recorded)})
        answer = server.ask("POST", f"/models/{model}/predict", asked)
        assert answer.status == 200, answer
        for name, value in recorded.items():
            got = answer.document[name][0]
            assert got == value or got == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_the_serving_tier_has_zstd(server: Server) -> None:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "zstd"}
    answer = server.ask("POST", "/models/iris-two/predict", json.dumps([[5.1, 3.5]] * 500), headers)
    assert answer.headers["Content-Encoding"] == "zstd"


def test_a_format_whose_library_is_missing_names_it(server: Server) -> None:
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    answer = server.ask("POST", "/models/iris-two/predict", b"PAR1", headers)
    assert answer.status == 415
    assert "pyarrow" in answer.document["detail"]


def test_add_without_a_network_says_how_to_make_what_packing_needs(programs: Path, tmp_path: Path) -> None:
    command = [programs / "flask", "models", "add", "examples/models/penguins/1/model.joblib", "--name", "new"]
    offline = {"PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "XDG_CACHE_HOME": tmp_path / "cache"}
    environ = environment(RETORT_MODELS_DIR=tmp_path / "models", **offline)
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    said = ran.stderr.strip().splitlines()[-1]
    assert said.startswith("Error: it was trained with scikit-learn ")
    assert "`python -m venv train`" in said
    assert "--python train/bin/python" in said


def test_a_model_without_a_graph_says_which_tier_it_needs(programs: Path, tmp_path: Path) -> None:
    flowers, kinds = load_iris(return_X_y=True)
    joblib.dump(make_pipeline(FeatureAgglomeration(2), LogisticRegression()).fit(flowers, kinds), tmp_path / "m.joblib")
    spawn.run(spawn.PackRequest(str(tmp_path / "m.joblib"), "m", str(tmp_path / "models")), timeout_s=100)
    command = web_with(PATH=f"{programs}:/usr/bin:/bin", RETORT_MODELS_DIR=str(tmp_path / "models"))
    with serving(tmp_path, command) as running:
        ready = running.ask("GET", "/readyz")
        assert ready.status == 503
        assert "requirements.txt" in str(ready.document["reasons"])
        assert "requirements.txt" in running.output
